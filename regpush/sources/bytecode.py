"""Leave out compiled Python files that would be out of date in the image.

A `.pyc` file in `__pycache__` contains the time of the source it was made from (Python
documentation, "Cached bytecode invalidation"; PEP 552), and a layer of regpush gives all files one
time. So Python would compile the source again, and two installations of one package differ in bytes
that no program uses. Files that contain a hash of the source stay valid and are kept, and so are
those without a source, which are not in `__pycache__`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from regpush.files.filesystem import read_start
from regpush.files.listing import Folder, Listing, join

_CACHE = b"__pycache__"
_HEADER = struct.Struct("<4sI")
"""A magic number, which tells the version of Python, and flags: 0 for a file with a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """A listing without outdated compiled files.

    `count`: how many files were left out. `first`: the path of the first one, in sorted order.
    """

    listing: Listing
    count: int = 0
    first: bytes = b""


def without_stale(listing: Listing, wanted: Callable[[bytes], bool]) -> Cleaned:
    """Leave out outdated compiled files from `listing`, except those that are `wanted`.

    A `__pycache__` that would be empty is left out too.
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
    return Cleaned(listing=replace(listing, folders=folders), count=len(stale), first=min(stale))


def _is_stale(
    listing: Listing, folder: bytes, name: bytes, wanted: Callable[[bytes], bool]
) -> bool:
    if not name.endswith(b".pyc") or wanted(path := join(folder, name)):
        return False
    header = read_start(listing.root, path, _HEADER.size)
    return len(header) == _HEADER.size and _HEADER.unpack(header)[1] == 0
