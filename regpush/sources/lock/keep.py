"""Artifacts that this machine has already: kept by earlier pushes, by pip or by npm."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from regpush.sources.lock.artifact import Artifact
from regpush.sources.lock.logins import without_login

_ROOM = 4 << 30
"""Bytes of artifacts that are kept; the ones longest unused are removed first."""


Elsewhere: TypeAlias = Callable[[Artifact], str | None]
"""The path at which another program would keep an artifact; None for no such path."""


def of_pip(cache: str | None) -> Elsewhere:
    """Return a function that gives the path at which pip's cache may keep an artifact.

    pip's `SafeFileCache`: the URL's sha224, in folders by its first five digits.
    """

    def path(artifact: Artifact) -> str | None:
        name = hashlib.sha224(without_login(artifact.url)[0].encode()).hexdigest()
        return os.path.join(cache, "http-v2", *name[:5], f"{name}.body") if cache else None

    return path


def of_npm(cache: str | None) -> Elsewhere:
    """Return a function that gives the path at which npm's cache may keep an artifact.

    npm's `cacache` (`lib/content/path.js`): by hash, two digits a folder.
    """

    def path(artifact: Artifact) -> str | None:
        name, digits = artifact.package.hashes[0]
        parts = ("content-v2", name, digits[:2], digits[2:4], digits[4:])
        return os.path.join(cache, *parts) if cache else None

    return path


class Kept:
    """Artifacts kept in a folder of `cache_dir`, which may be None, or by another program.

    Without a `cache_dir` that is writable, the folder `scratch` is used, which is removed after the
    push: the images of several platforms still share its files. `elsewhere`: paths of the other
    program.
    """

    def __init__(self, cache_dir: str | None, elsewhere: Elsewhere, scratch: str) -> None:
        self._elsewhere = elsewhere
        self._lasts = cache_dir is not None and _is_writable(os.path.join(cache_dir, "artifacts"))
        self.folder = os.path.join(cache_dir, "artifacts") if cache_dir and self._lasts else scratch
        os.makedirs(self.folder, exist_ok=True)

    def find(self, artifact: Artifact) -> str | None:
        """Find a file that has all hashes of `artifact`; returns its path, or None."""
        own = self._own(artifact)
        if _is(own, artifact):
            with suppress(OSError):
                os.utime(own)
            return own
        path = self._elsewhere(artifact)
        return path if path and _is(path, artifact) else None

    def keep(self, artifact: Artifact, path: str) -> str:
        """Keep the verified file at `path`, which is in `folder`. Returns its new path."""
        own = self._own(artifact)
        os.replace(path, own)
        return own

    def prune(self) -> None:
        """Remove files, the longest unused first, until at most `_ROOM` bytes are kept."""
        if not self._lasts:
            return
        with suppress(OSError), os.scandir(self.folder) as found:
            files = [(one.stat().st_mtime, one.stat().st_size, one.path) for one in found]
            left = sum(size for _, size, _ in files) - _ROOM
            for _, size, path in sorted(files):
                if left <= 0:
                    break
                os.unlink(path)
                left -= size

    def _own(self, artifact: Artifact) -> str:
        return os.path.join(self.folder, "-".join(artifact.package.hashes[0]))


def _is_writable(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _is(path: str, artifact: Artifact) -> bool:
    try:
        if artifact.size is not None and os.path.getsize(path) != artifact.size:
            return False
        with open(path, "rb") as file:
            for name, wanted in artifact.package.hashes:
                file.seek(0)
                if hashlib.file_digest(file, name).hexdigest() != wanted:
                    return False
    except OSError:
        return False
    return True
