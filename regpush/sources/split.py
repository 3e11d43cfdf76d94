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
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from regpush.listing import ByFolder, Listing, Names, by_folder, join

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
    tops: tuple[bytes, ...]


class _Small(NamedTuple):
    """A file, or what remains of a folder, that is no piece of its own."""

    name: bytes
    size: int


def split(
    listing: Listing,
    tops: Sequence[bytes],
    stop_at: ByFolder,
    grain: Grain,
    *,
    leave: Collection[bytes] = (),
) -> list[Piece]:
    """What of `tops` and all below, but `stop_at`, lies apart from the rest; sorted.

    Files in `leave` stay with that.
    """
    folders = list(listing.below(tops, stop_at))
    if sum(_packed(size) for found in folders for size in found.sizes()) < grain.whole:
        return []
    left = by_folder(leave)
    pieces: list[Piece] = []
    remains: dict[bytes, int] = {}
    for found in reversed(folders):  # what is in a folder comes before it
        stay = left.get(found.folder, ())
        small = []
        for one in _sizes(found, listing.folders[found.folder].folders, remains):
            if one.size >= grain.piece and one.name not in stay:
                path = join(found.folder, one.name)
                pieces.append(Piece(path=path, name=os.fsdecode(path), tops=(path,)))
            elif one.name not in stay:
                small.append(one)
        size = sum(one.size for one in small)
        if size > grain.most:
            pieces += _divided(found.folder, small, grain.most)
            size = 0
        remains[found.folder] = _HEADER + size
    return sorted(pieces, key=lambda piece: piece.path)


def _sizes(found: Names, folders: Sequence[bytes], remains: dict[bytes, int]) -> Iterator[_Small]:
    directories = frozenset(folders)
    for name, size in zip(found.names, found.sizes(), strict=True):
        if name in directories:
            yield _Small(name, remains.pop(join(found.folder, name)))
        else:
            yield _Small(name, _packed(size))


def _packed(size: int) -> int:
    """Bytes that a file of `size` takes in an archive."""
    return _HEADER + size + -size % _HEADER


def _divided(folder: bytes, small: Sequence[_Small], most: int, bits: str = "") -> Iterator[Piece]:
    """`small` as pieces of at most `most`: halves, and halves of those that are too large."""
    if not small:
        return
    if sum(one.size for one in small) <= most:
        tops = tuple(join(folder, one.name) for one in small)
        yield Piece(path=tops[0], name=f"{os.fsdecode(folder)} ({bits})".lstrip(), tops=tops)
        return
    halves: tuple[list[_Small], list[_Small]] = ([], [])
    for one in small:
        digest = hashlib.sha256(one.name).digest()
        halves[digest[len(bits) // 8] >> len(bits) % 8 & 1].append(one)
    for half, bit in zip(halves, "01", strict=True):
        yield from _divided(folder, half, most, bits + bit)
