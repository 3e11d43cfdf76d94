"""What a directory leaves out: `.git`, what `.regpushignore` lists, and what lies in /dev."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from pathspec import GitIgnoreSpec

from regpush.errors import UsageError, printable
from regpush.files.filesystem import read_small
from regpush.files.open_root import OpenRoot

IGNORE_FILE = b".regpushignore"


class LeaveOut:
    """Called with each folder, relative to the directory; remembers what users should be told of.

    `git` and `device` are the least path of their kind that was left out, or empty.
    """

    def __init__(
        self,
        patterns: GitIgnoreSpec | None,
        *,
        in_image: bytes,
        names: frozenset[bytes] = frozenset(),
    ) -> None:
        """`in_image` is where the directory lands in the image, without slashes around it.

        `names`: what is left out besides, in whatever folder.
        """
        self._patterns = patterns
        self._names = names
        self._is_root = not in_image
        self.git = b""
        self.device = b""

    def saw_git(self, path: bytes) -> None:
        """Remember that `path` was left out, unless it is empty."""
        self.git = min(filter(None, (self.git, path)), default=b"")

    def __call__(self, folder: bytes, found: Mapping[bytes, os.DirEntry[str]]) -> set[bytes]:
        """Which of the names `found` in `folder` stay out of the image, with all below them."""
        prefix = folder + b"/" if folder else b""
        out = set(self._names & found.keys())
        if b".git" in found:
            self.saw_git(prefix + b".git")
            out.add(b".git")
        if not folder and IGNORE_FILE in found:
            out.add(IGNORE_FILE)
        if self._is_root and folder == b"dev" and found:
            self.device = prefix + min(found)
            out.update(found)
        if self._patterns is not None:
            for name, child in found.items():
                text = (prefix + name).decode("utf-8", "surrogateescape")
                is_directory = child.is_dir(follow_symlinks=False)
                if self._patterns.match_file(text + "/" if is_directory else text):
                    out.add(name)
        return out


def read_ignore_file(directory: OpenRoot) -> GitIgnoreSpec | None:
    """The patterns of the `.regpushignore` in `directory`, or None without one.

    Raises UsageError where it is malformed, SourceError where it cannot be read.
    """
    path = directory.on_disk(IGNORE_FILE)
    try:
        data = read_small(directory, IGNORE_FILE)
    except FileNotFoundError:
        return None
    try:
        # As git reads its own: a byte order mark is skipped, only line feeds end a line.
        lines = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{printable(path)}: byte {error.start} is not UTF-8") from error
    return parse_patterns(lines, where=os.fsdecode(path))


def parse_patterns(lines: Iterable[str], *, where: str) -> GitIgnoreSpec:
    """Compile gitignore patterns. Raises UsageError naming `where` they stand and the bad one."""
    patterns = list(lines)
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except (ValueError, re.error):
        bad = next(pattern for pattern in patterns if not _is_valid(pattern))
        raise UsageError(
            f"{printable(where)}: not a gitignore pattern: '{printable(bad)}'"
        ) from None


def _is_valid(pattern: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([pattern])
    except (ValueError, re.error):
        return False
    return True
