"""Decides which names of a directory stay out of its image.

These are `.git`, matches of `.regpushignore`, the content of /dev, and files of regpush itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from regpush.errors import UsageError, printable
from regpush.files.filesystem import read_small
from regpush.files.gitignore import Patterns, Trail, parse
from regpush.files.open_root import OpenRoot

IGNORE_FILE = b".regpushignore"

_REGISTRY = {b"blobs", b"lock", b"repositories", b"scratch"}
"""The names in a folder in which `regpush serve` keeps a registry."""

# Bytes of an ignore file at most. Each byte of a pattern takes 256 bits of memory, and time for
# each name.
_MOST = 1 << 20


class LeaveOut:
    """Decides, folder by folder, which names of a directory stay out of the image.

    For messages it records left-out paths: `git` and `device` are the first `.git` and the first
    entry of /dev, in sorted order, or empty; `own` are paths of regpush itself, such as a registry
    that `regpush serve` keeps.
    """

    def __init__(
        self,
        patterns: Patterns | None,
        *,
        in_image: bytes,
        names: frozenset[bytes] = frozenset(),
        paths: frozenset[bytes] = frozenset(),
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`in_image` is the directory's image path, without slashes around it.

        `names`: names that are left out in every folder. `paths`: paths of regpush itself, left out
        and added to `own`. `check`: called for each name; an error that it raises stops the
        listing.
        """
        self._names = names
        self._paths = paths
        self._patterns = patterns
        self._trail = Trail(patterns) if patterns else None
        self._is_root = not in_image
        self._check = check
        self.git = b""
        self.device = b""
        self.own = set[bytes]()

    @property
    def is_plain(self) -> bool:
        """Whether the names left out do not depend on the directory's image path.

        They do for the image's root alone, where the content of /dev is left out.
        """
        return not self._is_root

    def saw_git(self, path: bytes) -> None:
        """Record `path`, unless it is empty, as a `.git` that was left out."""
        self.git = min(filter(None, (self.git, path)), default=b"")

    def __call__(self, folder: bytes, found: Mapping[bytes, os.DirEntry[str]]) -> set[bytes]:
        """Return the names in `folder` that stay out of the image, with all below them.

        `folder`: a path relative to the directory. `found`: the names in the folder.
        """
        self._check()
        prefix = folder + b"/" if folder else b""
        out = set(self._names & found.keys())
        if self._paths and (own := {name for name in found if prefix + name in self._paths}):
            self.own |= {prefix + name for name in own}
            out |= own
        if found.keys() == _REGISTRY:
            self.own.add(folder)
            return set(found)
        if b".git" in found:
            self.saw_git(prefix + b".git")
            out.add(b".git")
        if not folder and IGNORE_FILE in found:
            out.add(IGNORE_FILE)
        if self._is_root and folder == b"dev" and found:
            self.device = prefix + min(found)
            out.update(found)
        if self._patterns is not None and self._trail is not None:
            patterns, state = self._patterns, self._trail.state(folder)
            for name, child in found.items():
                self._check()
                there = patterns.below(state, name)
                is_folder = child.is_dir(follow_symlinks=False)
                if patterns.match_folder(there) if is_folder else patterns.match_file(there):
                    out.add(name)
        return out


def read_ignore_file(
    directory: OpenRoot, *, check: Callable[[], None] = lambda: None
) -> Patterns | None:
    """Read the patterns of the `.regpushignore` in `directory`; None where it is missing.

    A link to a file in `directory` is followed. Raises UsageError for anything else than a file or
    such a link, SourceError where it cannot be read. `check`: called for each line of the file; an
    error that it raises ends the reading.
    """
    path = directory.on_disk(IGNORE_FILE)
    if not os.path.lexists(path):
        return None
    where = printable(path)
    physical = os.path.realpath(path)
    if os.path.islink(physical) or not os.path.lexists(physical):
        raise UsageError(f"{where} is a link that leads to no file")
    inside = directory.path.rstrip(b"/") + b"/"
    if not physical.startswith(inside):
        raise UsageError(f"{where} is a link that leads out of the directory; make it a file")
    if os.path.isdir(physical):
        raise UsageError(f"{where} is a directory, not a file of patterns; remove or rename it")
    try:
        # Opened relative to descriptors: a link that replaces a folder meanwhile is not followed.
        data = read_small(directory, physical.removeprefix(inside))
    except FileNotFoundError as error:
        raise UsageError(f"{where} is a link that leads to no file") from error
    if len(data) > _MOST:
        raise UsageError(f"{where} is larger than 1 MiB; patterns with * can shorten it")
    return parse(data, check=check)
