"""Find files that several packages contain, among the packages that are opened."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from regpush.errors import SourceError, printable
from regpush.events import InputWarned, Listener


class Overlaps:
    """The files of an image's packages, as far as they were opened. Thread-safe."""

    def __init__(self, notify: Listener) -> None:
        self._notify = notify
        self._lock = threading.Lock()
        self._held: dict[bytes, tuple[str, object]] = {}
        self._seen: set[str] = set()
        self._folders: dict[bytes, str] = {}

    def add(self, package: str, files: Iterable[tuple[bytes, object]]) -> None:
        """Add the `files` of `package`: image path, and a value that differs for other contents.

        Warns where two packages have different contents for a file. Raises SourceError where a file
        of one is a folder of another.
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
            self._tell(other, package, paths)

    def _check_folders(self, package: str, path: bytes) -> None:
        above = path
        while (above := above.rpartition(b"/")[0]) and above not in self._folders:
            self._folders[above] = package
        clash = next((p for p in (path, above) if p in self._held and p in self._folders), None)
        if clash is not None:
            file, folder = self._held[clash][0], self._folders[clash]
            raise SourceError(
                f"/{printable(clash)} is a file of {file} and a folder of {folder}: they cannot "
                "be installed together"
            )

    def _tell(self, one: str, other: str, paths: list[bytes]) -> None:
        first, second = sorted((one, other))
        more = f" and {len(paths) - 1} more files" if len(paths) > 1 else ""
        said = f"{first} and {second} both hold /{printable(paths[0])}{more}, and differ"
        self._notify(InputWarned(message=f"{said}: the one in the upper layer is used"))
