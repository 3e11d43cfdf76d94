"""Undo Nix's renaming of store files on a file system that ignores upper and lower case (macOS).

Where names in a folder differ only in case, Nix adds the suffix `~nix~case~hack~N` to all but the
first. The Nix archive, and an image, have the names without the suffix (nix.conf, `use-case-hack`;
NixOS/nix, archive.cc).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from regpush.entry import Entry

_MARK = b"~nix~case~hack~"
_SUFFIX = re.compile(re.escape(_MARK) + rb"[0-9]+\Z")


def undone(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Remove Nix's suffixes from the names of a store item's `entries`; yield them sorted by path.

    A suffix is removed only where the name without it differs from a sibling's name in case alone.
    Nix adds no suffix elsewhere, so elsewhere it is part of the file's real name.
    """
    found = list(entries)
    if not any(_MARK in entry.path for entry in found):
        return iter(found)
    present = set()
    for entry in found:
        folder, _, name = entry.path.rpartition(b"/")
        present.add((folder, name.lower()))
    renamed: dict[bytes, bytes] = {}
    for entry in found:  # a folder precedes the files in it
        folder, slash, name = entry.path.rpartition(b"/")
        bare = _SUFFIX.sub(b"", name)
        if (folder, bare.lower()) in present:
            name = bare
        renamed[entry.path] = renamed.get(folder, folder) + slash + name
    return iter(
        sorted(
            (entry._replace(path=renamed[entry.path]) for entry in found),
            key=lambda entry: entry.path,
        )
    )
