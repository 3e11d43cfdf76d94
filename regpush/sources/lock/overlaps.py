"""Warn when two packages of an image install different files at one path.

Only packages whose layer is packed by this push are compared: the files of others are not known.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from regpush.errors import SourceError, printable
from regpush.events import InputWarned, Listener


class Overlaps:
    """The paths of files that packages install, for the packages opened so far. Thread-safe."""

    def __init__(self, notify: Listener) -> None:
        self._notify = notify
        self._lock = threading.Lock()
        self._held: dict[bytes, tuple[str, object]] = {}
        self._seen: set[str] = set()
        self._folders: dict[bytes, str] = {}

    def add(self, package: str, files: Iterable[tuple[bytes, object]]) -> None:
        """Add the `files` of `package`, and compare them with those of the packages added before.

        `files`: pairs of an image path and a value that is equal for equal contents. A second call
        for `package` does nothing. Warns where another package has different contents at a path.
        Raises SourceError where a path is a file in one package and a folder in another.
        """
        with self._lock:
            if package in self._seen:
                return
            self._seen.add(package)
            differing: dict[str, list[bytes]] = {}
            for path, content in files:
                other, theirs = self._held.setdefault(path, (package, content))
                if other != package and theirs != content:
                    differing.setdefault(other, []).append(path)
                self._check_folders(package, path)
        for other, paths in differing.items():
            self._warn(other, package, paths)

    def _check_folders(self, package: str, path: bytes) -> None:
        above = path
        while (above := above.rpartition(b"/")[0]) and above not in self._folders:
            self._folders[above] = package
        clash = next((p for p in (path, above) if p in self._held and p in self._folders), None)
        if clash is not None:
            file, folder = self._held[clash][0], self._folders[clash]
            raise SourceError(
                f"/{printable(clash)} is a file in {file} and a folder in {folder}: these packages "
                "cannot be installed together"
            )

    def _warn(self, one: str, other: str, paths: list[bytes]) -> None:
        first, second = sorted((one, other))
        more = f" and {len(paths) - 1} more files" if len(paths) > 1 else ""
        said = f"{first} and {second} both install /{printable(paths[0])}{more}, with different"
        self._notify(
            InputWarned(message=f"{said} contents: the image shows the upper layer's file")
        )
