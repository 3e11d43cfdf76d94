"""What a directory leaves out: `.git`, what `.regpushignore` lists, and what lies in /dev."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from pathspec import GitIgnoreSpec

from regpush.errors import UsageError, printable
from regpush.filesystem import read_small

IGNORE_FILE = b".regpushignore"


class LeaveOut:
    """Called with a path relative to the directory; remembers what users should be told of.

    `git` and `device` are the first path of their kind that was left out, or empty.
    """

    def __init__(self, patterns: GitIgnoreSpec | None, *, in_image: bytes) -> None:
        """`in_image` is where the directory lands in the image, without slashes around it."""
        self._patterns = patterns
        self._is_root = not in_image
        self.git = b""
        self.device = b""

    def __call__(self, path: bytes, is_directory: bool) -> bool:
        """Whether `path`, and with it everything below, stays out of the image."""
        if path.endswith(b".git") and path[-5:-4] in (b"", b"/"):
            self.git = self.git or path
            return True
        if path == IGNORE_FILE:
            return True
        if self._is_root and path.startswith(b"dev/"):
            self.device = self.device or path
            return True
        if self._patterns is None:
            return False
        text = path.decode("utf-8", "surrogateescape")
        return self._patterns.match_file(text + "/" if is_directory else text)


def read_ignore_file(directory: bytes) -> GitIgnoreSpec | None:
    """The patterns of the `.regpushignore` in `directory`, or None without one.

    Raises UsageError where it is malformed, SourceError where it cannot be read.
    """
    path = directory + b"/" + IGNORE_FILE
    try:
        data = read_small(path)
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
