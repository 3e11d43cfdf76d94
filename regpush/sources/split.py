"""Divide a part of a directory into pieces, so that a change of one file changes few pieces.

A small part is not divided. In a large one, each file of a minimum size, and each folder whose
remaining content has that size, becomes a piece. Smaller files and folders stay with the folder
above; where these exceed a maximum together, they are divided by hashes of their names. Limits do
not depend on the rest of the tree, so a change affects only pieces beside it: a file that grows
past the minimum becomes a piece, and a piece that grows past the maximum becomes two.

Large files of an app's own code are cut off first (`large_files`), because pictures and models
rarely change together with the source code beside them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from regpush.files.listing import NOTHING, ROOT, ByFolder, Listing, join, merged

_HEADER = 512


class Grain(Struct, frozen=True, kw_only=True):
    """Limits of dividing; all are bytes in a tar archive, with headers and padding.

    `whole`: a part with fewer bytes is not divided. `piece`: the minimum size of a file, or of the
    remaining content of a folder, that becomes a piece. `most`: the maximum size of a piece of
    small files and folders of one folder.
    """

    whole: int
    piece: int
    most: int


class Grains(Struct, frozen=True, kw_only=True):
    """Limits for own code of fewer than `limit` bytes (`fine`), and for larger one (`coarse`).

    Fine limits would divide a large tree into thousands of pieces, of which many would share a
    layer anyway.
    """

    fine: Grain
    coarse: Grain
    limit: int

    def of(self, listing: Listing, stop_at: ByFolder) -> Grain:
        """Return the limits for everything in `listing` except `stop_at`, by its size."""
        size = sum(sum(found.sizes()) for found in listing.below(ROOT, stop_at))
        return self.fine if size < self.limit else self.coarse


class PackagePiece(Struct, frozen=True, kw_only=True):
    """A piece: the paths `tops` and everything below them, except the tops of other pieces.

    `path`: one of `tops`. `name`: a name for the piece that stays the same when files are added to
    it or removed from it: its path, or its folder with words in parentheses.
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
) -> list[PackagePiece]:
    """Return the pieces to cut off the part with the paths `tops`, sorted by path.

    The paths `stop_at` and everything below them are not in the part. Files in `leave` are in no
    piece. Whatever is in no piece stays one part.
    """
    folders = list(listing.below(tops, stop_at))
    packed = [[_HEADER + size + -size % _HEADER for size in found.sizes()] for found in folders]
    if sum(map(sum, packed)) < grain.whole:
        return []
    pieces: list[PackagePiece] = []
    remains: dict[bytes, int] = {}
    while folders:  # taken from the end, so that a folder is handled after the folders in it
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
            continue  # as for most folders, it is too small to be a piece or to contain one
        sizes = dict(zip(found.names, files, strict=True)) | within
        for name in leave.get(found.folder, ()):
            del sizes[name]
        for name in [name for name, size in sizes.items() if size >= grain.piece]:
            path = join(found.folder, name)
            pieces.append(
                PackagePiece(path=path, name=os.fsdecode(path), tops={found.folder: (name,)})
            )
            del sizes[name]
        size = sum(sizes.values())
        if size > grain.most:
            places: dict[bytes, ByFolder] = {name: {found.folder: (name,)} for name in sizes}
            pieces += _divided(found.folder, _hashed(sizes, places), grain.most)
            size = 0
        remains[found.folder] = _HEADER + size
    return sorted(pieces, key=lambda piece: piece.path)


class _Carried(Struct, frozen=True):
    """The large files at and below a folder that are in no piece yet; `size`: their total bytes."""

    size: int
    tops: ByFolder


def large_files(
    listing: Listing,
    stop_at: ByFolder,
    grain: Grain,
    *,
    least: int,
    leave: ByFolder = NOTHING,
) -> list[PackagePiece]:
    """Return pieces that contain only files of at least `least` bytes, sorted by path.

    Files at and below `stop_at`, and in `leave`, are in no piece. A file of at least `grain.piece`
    bytes is a piece by itself. The smaller ones of a folder are one piece if they have that size
    together; otherwise they are added to those of the folder above.
    """
    pieces: list[PackagePiece] = []
    carried: dict[bytes, _Carried] = {}
    for found in reversed(list(listing.below(ROOT, stop_at))):  # a folder after the folders in it
        folder, sizes = found.folder, found.sizes()
        here: dict[bytes, _Carried] = {}
        for name in listing.folders[folder].folders if carried else ():
            if below := carried.pop(join(folder, name), None):
                here[name] = below
        stay = leave.get(folder, ())
        if sizes and max(sizes) >= least:
            for name, size in zip(found.names, sizes, strict=True):
                if size >= least and name not in stay:
                    here[name] = _Carried(_HEADER + size + -size % _HEADER, {folder: (name,)})
        if not here:
            continue
        for name in [name for name, one in here.items() if one.size >= grain.piece]:
            # Files of the folders below are smaller than a piece, so this is a file of this folder.
            path = join(folder, name)
            pieces.append(PackagePiece(path=path, name=os.fsdecode(path), tops=here.pop(name).tops))
        size = sum(one.size for one in here.values())
        tops = {name: one.tops for name, one in here.items()}
        if size > grain.most:
            hashed = _hashed({name: one.size for name, one in here.items()}, tops)
            pieces += _divided(folder, hashed, grain.most, what="large files")
        elif size >= grain.piece or (size and not folder):
            pieces.append(_piece(folder, "large files", list(tops.values())))
        elif size:
            carried[folder] = _Carried(size, merged(tops.values()))
    return sorted(pieces, key=lambda piece: piece.path)


class _Hashed(Struct, frozen=True):
    """A file or folder to put into a piece; `digest`: sha256 of its name, `size`: in bytes."""

    digest: bytes
    size: int
    tops: ByFolder


def _hashed(sizes: Mapping[bytes, int], tops: Mapping[bytes, ByFolder]) -> list[_Hashed]:
    return [
        _Hashed(hashlib.sha256(name).digest(), size, tops[name]) for name, size in sizes.items()
    ]


def _divided(
    folder: bytes, small: Sequence[_Hashed], most: int, bits: str = "", *, what: str = ""
) -> Iterator[PackagePiece]:
    """Divide `small` into pieces of at most `most` bytes, in halves by the bits of the digests.

    `bits`: the bits, as text, that all digests in `small` have in common so far.
    """
    if sum(one.size for one in small) > most and len(small) > 1:
        halves: tuple[list[_Hashed], list[_Hashed]] = ([], [])
        for one in small:
            halves[one.digest[len(bits) // 8] >> len(bits) % 8 & 1].append(one)
        for half, bit in zip(halves, "01", strict=True):
            yield from _divided(folder, half, most, bits + bit, what=what)
    elif small:
        words = " ".join(filter(None, (what, bits)))
        yield _piece(folder, words, [one.tops for one in small])


def _piece(folder: bytes, words: str, several: Sequence[ByFolder]) -> PackagePiece:
    tops = merged(several)
    path = min(join(where, name) for where, names in tops.items() for name in names)
    return PackagePiece(path=path, name=f"{os.fsdecode(folder)} ({words})".lstrip(), tops=tops)
