"""Configs of images in the user's cache directory: a push then need not read them from a registry.

A file for each config, named by the digest of its bytes. The digest is checked when the file is
read, so a damaged file is ignored; without the folder, configs are read from the registry.
"""

from __future__ import annotations

import os
from contextlib import suppress
from threading import get_ident

from regpush.digest import Descriptor, Digest

_FOLDER = "configs"
_KEEP = 64


class Configs:
    """Stores configs as files in `directory`; with None it stores nothing. Thread-safe."""

    def __init__(self, directory: str | None) -> None:
        self._folder = os.path.join(directory, _FOLDER) if directory is not None else None

    def recall(self, descriptor: Descriptor) -> bytes | None:
        """Return the stored config that `descriptor` describes; None without a sound one."""
        if self._folder is None or descriptor.digest.algorithm != "sha256":
            return None
        try:
            with open(os.path.join(self._folder, descriptor.digest.hex), "rb") as file:
                data = file.read(descriptor.size + 1)
        except OSError:
            return None
        sound = len(data) == descriptor.size and Digest.of(data) == descriptor.digest
        return data if sound else None

    def remember(self, config: bytes) -> None:
        """Store `config`; of more than 64 stored configs, the oldest are deleted.

        Nothing is stored where the folder cannot be written.
        """
        if self._folder is None:
            return
        name = Digest.of(config).hex
        unfinished = os.path.join(self._folder, f"{name}.{os.getpid()}.{get_ident()}")
        with suppress(OSError):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            with open(unfinished, "wb") as file:
                file.write(config)
            os.replace(unfinished, os.path.join(self._folder, name))
            self._forget(self._folder)

    def _forget(self, folder: str) -> None:
        """Delete the files that were written before the latest `_KEEP`."""
        with os.scandir(folder) as entries:
            ages = sorted((-entry.stat().st_mtime_ns, entry.path) for entry in entries)
        for _, path in ages[_KEEP:]:
            os.unlink(path)


NO_CONFIGS = Configs(None)
"""A `Configs` without a directory: every config is read from its registry."""
