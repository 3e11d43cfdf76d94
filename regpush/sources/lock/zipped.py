"""Read files of a zip archive, in any order and in bounded memory; malformed archives are refused.

PKWARE APPNOTE.TXT, sections 4.3 and 4.4. Python's `zipfile` reads the central directory, so zip64
and data descriptors need no code here.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from isal import isal_zlib
from msgspec import Struct

from regpush.errors import SourceError, printable

_LOCAL = struct.Struct("<4s22xHH")
_BROKEN: Any = isal_zlib.IsalError  # the stubs declare it as an instance
_BLOCK = 1 << 18
_MOST = 1032
"""The highest ratio of unpacked to packed bytes in deflate: RFC 1951, 258 bytes in 2 bits."""
_ALL = 64 << 30
"""Maximum bytes of all files of an archive together, unpacked."""


class ZipMember(Struct, frozen=True):
    """A file in a zip archive.

    `size`: unpacked bytes. `crc`: CRC-32 of the unpacked bytes. `mode`: permission bits in the
    archive, 0 where it stores none. `packed`: bytes in the archive. `offset`: where the file's
    local header begins in the archive. `deflated`: False where the file is stored uncompressed.
    """

    name: str
    size: int
    crc: int
    mode: int
    packed: int
    offset: int
    deflated: bool


def members(path: str, what: str) -> dict[str, ZipMember]:
    """List the files of the zip archive at `path`, by name; errors call the archive `what`.

    Raises SourceError for a file that is no zip archive, and for an archive with encrypted files,
    with names that are absolute, contain `..` or occur twice, with unknown compression methods, or
    with impossible sizes.
    """
    found: dict[str, ZipMember] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                member = _member(info, what)
                if found.setdefault(member.name, member) is not member:
                    raise SourceError(f"{what} contains {printable(member.name)} twice")
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise SourceError(f"{what} is not a zip archive: {printable(str(error))}") from error
    if sum(member.size for member in found.values()) > _ALL:
        raise SourceError(f"{what} would unpack to more than 64 GiB, the maximum")
    return found


def _member(info: zipfile.ZipInfo, what: str) -> ZipMember:
    name, shown = info.filename, printable(info.filename)
    if info.flag_bits & 0x1:
        raise SourceError(f"{what} contains {shown} in encrypted form, which cannot be installed")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SourceError(
            f"{what} contains {shown} in compression method {info.compress_type}; wheels may use "
            "only 0 (stored) and 8 (deflate)"
        )
    parts = info.orig_filename.split("/")
    if not all(parts) or {".", ".."} & set(parts) or "\\" in name or "\0" in info.orig_filename:
        raise SourceError(
            f"{what} contains a file named '{shown}': a name must be relative, and may have no "
            "empty part, no '.' or '..', no backslash and no zero byte"
        )
    if any(part.startswith(".wh.") for part in parts):
        raise SourceError(
            f"{what} contains {shown}: in a layer, a name that begins with .wh. deletes a file"
        )
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    packed, size = info.compress_size, info.file_size
    if (size > packed * _MOST) if deflated else (size != packed):
        raise SourceError(
            f"{what} states that {shown} unpacks from {packed} to {size} bytes, which is impossible"
        )
    return ZipMember(
        name=name,
        size=size,
        crc=info.CRC,
        mode=info.external_attr >> 16 & 0o7777,
        packed=packed,
        offset=info.header_offset,
        deflated=deflated,
    )


def read(path: str, member: ZipMember, what: str) -> bytes:
    """Return the whole content of a file in the zip archive at `path`, unpacked; for small files.

    Raises SourceError where its size or CRC-32 differs from the archive's directory.
    """
    return b"".join(blocks(path, member, what))


def blocks(path: str, member: ZipMember, what: str) -> Iterator[bytes]:
    """Yield the unpacked content of a file in the zip archive at `path`, in pieces of bounded size.

    Raises SourceError where its size or CRC-32 differs from the archive's directory.
    """
    return (piece for _, piece in deflated(path, member, what) if piece)


def deflated(path: str, member: ZipMember, what: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield a file in the zip archive at `path` as pairs: deflated bytes, and what they unpack to.

    For a file that is stored uncompressed, the first of each pair is empty. Raises SourceError
    where the file's size or CRC-32 differs from the archive's directory.
    """
    crc, left = 0, member.size
    try:
        for packed, piece in _unpacked(path, member):
            crc = isal_zlib.crc32(piece, crc)
            left -= len(piece)
            if left < 0:
                break
            yield packed, piece
    except (OSError, _BROKEN, struct.error) as error:
        raise _damaged(what, member) from error
    if left or crc != member.crc:
        raise _damaged(what, member)


def _damaged(what: str, member: ZipMember) -> SourceError:
    return SourceError(f"{what} is damaged: {printable(member.name)} in it cannot be unpacked")


def _unpacked(path: str, member: ZipMember) -> Iterator[tuple[bytes, bytes]]:
    if not member.deflated:
        for part in _stored(path, member):
            yield b"", part
        return
    inflate = isal_zlib.decompressobj(-zlib.MAX_WBITS)
    for part in _stored(path, member):
        while part:
            piece = inflate.decompress(part, _BLOCK)
            left = inflate.unconsumed_tail
            yield part[: len(part) - len(left)], piece
            part = left
    while piece := inflate.decompress(b"", _BLOCK):
        yield b"", piece
    if not inflate.eof or inflate.unused_data:
        raise _BROKEN("not a whole stream")


def _stored(path: str, member: ZipMember) -> Iterator[bytes]:
    """Yield the bytes of a file as they are in the zip archive, still compressed."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        signature, name, extra = _LOCAL.unpack(os.pread(fd, _LOCAL.size, member.offset))
        if signature != b"PK\3\4":
            raise struct.error
        at, left = member.offset + _LOCAL.size + name + extra, member.packed
        while left:
            part = os.pread(fd, min(left, _BLOCK), at)
            if not part:
                raise struct.error
            at, left = at + len(part), left - len(part)
            yield part
    finally:
        os.close(fd)
