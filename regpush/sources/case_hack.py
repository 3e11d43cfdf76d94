"""Names of store files on a file system that takes `A` and `a` for one name.

There Nix adds a suffix to the second of such siblings, and to those after it; the Nix archive has
the names without the suffix (nix.conf, `use-case-hack`, the default on macOS; NixOS/nix,
archive.cc).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from regpush.entry import Entry

_MARK = b"~nix~case~hack~"
_SUFFIX = re.compile(re.escape(_MARK) + rb"[0-9]+\Z")


def undone(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Rename `entries` of a store item as its Nix archive names them; sorted by path.

    A suffix is removed only where a sibling's name differs in nothing but case: Nix adds suffixes
    nowhere else, so elsewhere a suffix is part of the name.
    """
    found = list(entries)
    if not any(_MARK in entry.path for entry in found):
        return iter(found)
    present = set()
    for entry in found:
        folder, _, name = entry.path.rpartition(b"/")
        present.add((folder, name.lower()))
    renamed: dict[bytes, bytes] = {}
    for entry in found:  # a folder comes before what is in it
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
