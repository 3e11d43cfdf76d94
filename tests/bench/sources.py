"""What is pushed: a directory or a closure, as regpush names it and as its peers take it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_MTIME = 1_000_000_000  # of every file of an input, seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The files of one layer for those who must be told: `tar -C base members`."""

    base: Path
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One version of an input.

    `name` is unique to its content and fit for a file name. `target` and `flags` are for
    regpush, `parts` for its peers, bottom first. `size` in bytes, of the files' contents.
    `edits`: files that differ from what lies on the disk, until `in_place` writes them.
    """

    name: str
    target: Path
    flags: tuple[str, ...] = ()
    parts: tuple[Part, ...]
    size: int
    files: int
    environment: Mapping[str, str] = field(default_factory=dict)
    edits: tuple[Path, ...] = ()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The version lies at its target; afterwards the files are as they were."""
        before = {path: path.read_bytes() for path in self.edits}
        try:
            for path, content in before.items():
                path.write_bytes(content + b"\nchanged for a benchmark\n")
            yield
        finally:
            for path, content in before.items():
                path.write_bytes(content)
                age(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """An input before and after: `app` changes what is on top, `mid` something below it."""

    first: Source
    app: Source
    mid: Source


def age(path: Path) -> None:
    """Give `path` the modification time that every file of an input has."""
    os.utime(path, (_MTIME, _MTIME))
