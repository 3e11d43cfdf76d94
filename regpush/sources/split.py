"""A part of a directory, cut into pieces that keep together from one version to the next.

What is small stays whole. Of what is large, every file and every folder of which a certain
size remains is a piece of its own; what is smaller stays with the folder it is in, and where
too much of that comes together, the hashes of names divide it. No limit depends on anything
else in the tree, so a change moves only what is beside it: a file that grows past the size
leaves its piece, a piece that grows past the most becomes two.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from regpush.files.listing import NOTHING, ByFolder, Listing, join

_HEADER = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Grain:
    """How finely to cut. All are bytes in an archive, headers and padding included.

    `whole`: less than this is one piece. `piece`: a file, or what remains of a folder, that
    is a piece of its own. `most`: small things of one folder that make one piece.
    """

    whole: int
    piece: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """`tops` and all below them but the tops of other pieces; `path` is one of them.

    `name` says where the piece lies, and stays when what is in the piece comes and goes.
    """

    path: bytes
    name: str
    tops: ByFolder


def split(
    listing: Listing,
    tops: ByFolder,
    stop_at: ByFolder,
    grain: Grain,
    *,
    leave: ByFolder = NOTHING,
) -> list[Piece]:
    """What of `tops` and all below, but `stop_at`, lies apart from the rest; sorted.

    Files in `leave` stay with that.
    """
    folders = list(listing.below(tops, stop_at))
    packed = [[_HEADER + size + -size % _HEADER for size in found.sizes()] for found in folders]
    if sum(map(sum, packed)) < grain.whole:
        return []
    pieces: list[Piece] = []
    remains: dict[bytes, int] = {}
    while folders:  # what is in a folder comes before it
        found, files = folders.pop(), packed.pop()
        prefix = found.folder + b"/" if found.folder else b""
        within = {
            name: remains.pop(prefix + name)
            for name in listing.folders[found.folder].folders
            if name not in stop_at.get(found.folder, ())
        }
        size = sum(files) + sum(within.values()) - _HEADER * len(within)
        if size < grain.piece and found.folder not in leave:
            remains[found.folder] = _HEADER + size
            continue  # as most do, and nothing in it can lie apart
        sizes = dict(zip(found.names, files, strict=True)) | within
        for name in leave.get(found.folder, ()):
            del sizes[name]
        for name in [name for name, size in sizes.items() if size >= grain.piece]:
            path = join(found.folder, name)
            pieces.append(Piece(path=path, name=os.fsdecode(path), tops={found.folder: (name,)}))
            del sizes[name]
        size = sum(sizes.values())
        if size > grain.most:
            hashed = [(hashlib.sha256(name).digest(), name, size) for name, size in sizes.items()]
            pieces += _divided(found.folder, hashed, grain.most)
            size = 0
        remains[found.folder] = _HEADER + size
    return sorted(pieces, key=lambda piece: piece.path)


_Hashed: TypeAlias = tuple[bytes, bytes, int]
"""The digest of a name, the name, and the size of what it names."""


def _divided(folder: bytes, small: Sequence[_Hashed], most: int, bits: str = "") -> Iterator[Piece]:
    """`small` as pieces of at most `most`: halves, and halves of those that are too large."""
    if sum(size for _, _, size in small) > most:
        halves: tuple[list[_Hashed], list[_Hashed]] = ([], [])
        for one in small:
            halves[one[0][len(bits) // 8] >> len(bits) % 8 & 1].append(one)
        for half, bit in zip(halves, "01", strict=True):
            yield from _divided(folder, half, most, bits + bit)
    elif small:
        names = tuple(name for _, name, _ in small)
        where = f"{os.fsdecode(folder)} ({bits})".lstrip()
        yield Piece(path=join(folder, names[0]), name=where, tops={folder: names})
