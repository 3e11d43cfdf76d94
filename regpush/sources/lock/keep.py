"""Find artifacts that this machine has already, in the cache of regpush, of pip or of npm."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from regpush.sources.lock.artifact import Artifact
from regpush.sources.lock.logins import without_login

_ROOM = 4 << 30
"""Maximum bytes of regpush's cache of artifacts; those unused for longest are removed first."""


Elsewhere: TypeAlias = Callable[[Artifact], str | None]
"""Returns the path at which another program (pip, npm) would cache an artifact, or None."""


def of_pip(cache: str | None) -> Elsewhere:
    """Return a function that gives the path at which pip may have cached an artifact.

    `cache`: pip's cache folder, None without one. pip's `SafeFileCache` names a file by the sha224
    of its URL, in folders named by the first five digits.
    """

    def path(artifact: Artifact) -> str | None:
        name = hashlib.sha224(without_login(artifact.url)[0].encode()).hexdigest()
        return os.path.join(cache, "http-v2", *name[:5], f"{name}.body") if cache else None

    return path


def of_npm(cache: str | None) -> Elsewhere:
    """Return a function that gives the path at which npm may have cached an artifact.

    `cache`: npm's cache folder, None without one. npm's `cacache` (`lib/content/path.js`) names a
    file by its hash, in two folders named by the first two and the next two digits.
    """

    def path(artifact: Artifact) -> str | None:
        name, digits = artifact.package.hashes[0]
        parts = ("content-v2", name, digits[:2], digits[2:4], digits[4:])
        return os.path.join(cache, *parts) if cache else None

    return path


class Kept:
    """The cache of artifacts: `folder` is `cache_dir/artifacts`, shared by all pushes.

    Where `cache_dir` is None or not writable, `folder` is `scratch`, which is removed after the
    push; the images of several platforms in one push still share it. `elsewhere`: gives the path at
    which another program (pip, npm) may have cached an artifact; such files are only read.
    """

    def __init__(self, cache_dir: str | None, elsewhere: Elsewhere, scratch: str) -> None:
        self._elsewhere = elsewhere
        self._is_permanent = cache_dir is not None and _is_writable(
            os.path.join(cache_dir, "artifacts")
        )
        self.folder = (
            os.path.join(cache_dir, "artifacts") if cache_dir and self._is_permanent else scratch
        )
        os.makedirs(self.folder, exist_ok=True)

    def find(self, artifact: Artifact) -> str | None:
        """Return the path of a cached file with all hashes of `artifact`, or None.

        The other program's cache is searched after regpush's own.
        """
        own = self._own_path(artifact)
        if _has_hashes(own, artifact):
            with suppress(OSError):
                os.utime(own)
            return own
        path = self._elsewhere(artifact)
        return path if path and _has_hashes(path, artifact) else None

    def keep(self, artifact: Artifact, path: str) -> str:
        """Move the verified file at `path`, which is in `folder`, to its name in the cache.

        Returns the new path.
        """
        own = self._own_path(artifact)
        os.replace(path, own)
        return own

    def prune(self) -> None:
        """Delete cached files, those unused for longest first, until at most 4 GiB are left.

        Deletes nothing in a folder that is removed after the push.
        """
        if not self._is_permanent:
            return
        with suppress(OSError), os.scandir(self.folder) as found:
            files = [(one.stat().st_mtime, one.stat().st_size, one.path) for one in found]
            left = sum(size for _, size, _ in files) - _ROOM
            for _, size, path in sorted(files):
                if left <= 0:
                    break
                os.unlink(path)
                left -= size

    def _own_path(self, artifact: Artifact) -> str:
        return os.path.join(self.folder, "-".join(artifact.package.hashes[0]))


def _is_writable(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _has_hashes(path: str, artifact: Artifact) -> bool:
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
