"""Leave out compiled Python files (`.pyc`) that would be out of date in the image.

A `.pyc` file in `__pycache__` usually contains the modification time of its source (Python
documentation, "Cached bytecode invalidation"; PEP 552). In a layer all files have the same time, so
Python would ignore the `.pyc` file and compile the source again. A `.pyc` file that contains a hash
of its source stays valid and is kept, as are `.pyc` files outside of `__pycache__`, which have no
source.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from msgspec import Struct

from regpush.files.filesystem import read_start
from regpush.files.listing import Folder, Listing, join

_CACHE = b"__pycache__"
_HEADER = struct.Struct("<4sI")
"""The beginning of a `.pyc` file: a magic number for the Python version, and flags, which are 0 in
a file that contains a time."""


class Cleaned(Struct, frozen=True, kw_only=True):
    """A listing from which outdated `.pyc` files were removed.

    `count`: how many were removed. `first`: the path of the first one in sorted order, empty if
    none was.
    """

    listing: Listing
    count: int = 0
    first: bytes = b""


def without_stale(listing: Listing, wanted: Callable[[bytes], bool]) -> Cleaned:
    """Remove outdated `.pyc` files from `listing`, and each `__pycache__` that becomes empty.

    `wanted`: whether the file at a path must be kept.
    """
    changed: dict[bytes, Folder | None] = {}
    stale: list[bytes] = []
    for path, folder in listing.folders.items():
        if path and path.endswith(_CACHE) and path.rpartition(b"/")[2] == _CACHE:
            found = [name for name in folder.names if _is_stale(listing, path, name, wanted)]
            if found:
                stale += [join(path, name) for name in found]
                left = folder.without(found)
                changed[path] = left if left.names else None
    if not stale:
        return Cleaned(listing=listing)
    folders = dict(listing.folders)
    for path, remaining in changed.items():
        if remaining:
            folders[path] = remaining
            continue
        del folders[path]
        above = path.rpartition(b"/")[0]
        folders[above] = folders[above].without([_CACHE])
    return Cleaned(listing=listing._replace(folders=folders), count=len(stale), first=min(stale))


def _is_stale(
    listing: Listing, folder: bytes, name: bytes, wanted: Callable[[bytes], bool]
) -> bool:
    if not name.endswith(b".pyc") or wanted(path := join(folder, name)):
        return False
    header = read_start(listing.root, path, _HEADER.size)
    return len(header) == _HEADER.size and _HEADER.unpack(header)[1] == 0
