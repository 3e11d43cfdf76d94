"""Read a tar archive of any writer, in one pass and in bounded memory.

`tarfile` parses header blocks here. Its own reader also reads extended headers, but whole, however
large they claim to be, nested, and with numbers of any length. So this module itself combines
extended headers with the header that follows, within bounds (POSIX.1-2024, pax; GNU tar manual,
"Basic Tar Format"; archive/tar of Go has the same bound of 1 MiB).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from regpush.concurrency import Cancellation
from regpush.entry import as_bytes, as_text
from regpush.errors import VerificationError, printable

_BLOCK = 512
_LONGEST_HEADER = 1 << 20
"""The maximum bytes of an extended header, as in Go's archive/tar."""
_MOST_HEADERS = 16
"""The maximum number of extended headers before one member; writers need three."""
_MOST_DIGITS = 19
_LARGEST = (1 << 63) - 1

_LARGEST_ID = (1 << 32) - 2
"""The greatest uid or gid: the number above it means "no change" to chown(2)."""
_XATTR = b"SCHILY.xattr."
"""Prefix of pax records with extended attributes, which GNU tar, star and Go write."""

_LONG_NAME, _LONG_LINK, _SPARSE = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"S"
_PAX, _PAX_SUN, _GLOBAL = tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE
_EXTENDED = (_LONG_NAME, _LONG_LINK, _PAX, _PAX_SUN, _GLOBAL)
_WITHOUT_DATA = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)  # fmt: skip


class Member(Struct, frozen=True, kw_only=True):
    """An entry of an archive. `size`: bytes of its content in the archive, without padding."""

    name: str
    size: int
    is_folder: bool


class ArchiveEntry(Struct, frozen=True, kw_only=True):
    """An entry of an archive with every field of its headers; `type`: see `tarfile.TarInfo.type`.

    `mode`: permission bits. `at`: where its data begins in the archive. `link`: the target of a
    link. `device`: major and minor number. `xattrs`: sorted (name, value) pairs. `is_sparse`:
    whether gaps are left out of the data.
    """

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    at: int
    link: bytes
    device: tuple[int, int]
    xattrs: tuple[tuple[bytes, bytes], ...]
    is_sparse: bool


def members(pieces: Iterator[bytes], cancel: Cancellation) -> Iterator[Member]:
    """Yield the name and size of each entry in the archive `pieces`, to its end.

    Memory is bounded for any content. Raises VerificationError for data that is no tar archive or
    is truncated, CancelledError, and any error that reading `pieces` raises.
    """
    stream = _Stream(pieces, cancel)
    for header, said in _headers(stream):
        found = _member(header, said)
        cancel.check()
        yield found
        stream.skip(_padded(found.size))


def contents(
    pieces: Iterator[bytes], cancel: Cancellation
) -> Iterator[tuple[ArchiveEntry, Iterator[bytes]]]:
    """Yield each entry of the archive `pieces` with its data, to be read before the next entry.

    Memory is bounded for any content. Raises VerificationError for data that is no tar archive, is
    truncated, or lacks the end marker, because the writer may have stopped early; CancelledError,
    and any error that reading `pieces` raises.
    """
    stream = _Stream(pieces, cancel)
    for header, said in _headers(stream):
        member = _member(header, said)
        data = stream.pieces_of(member.size)
        yield _whole(header, said, member, stream.position), data
        for _ in data:
            pass
        stream.skip(-member.size % _BLOCK)
    if not stream.has_end:
        raise VerificationError("the archive is cut off: it has no end marker")


def _headers(stream: _Stream) -> Iterator[tuple[tarfile.TarInfo, _Said]]:
    """Yield the header of each entry, with the fields of the extended headers before it.

    The caller takes the entry's data before the next header. After the last header, the stream is
    read to its end.
    """
    said = everywhere = _Said()
    headers = 0
    while header := stream.header():
        if header.type not in _EXTENDED:
            yield header, said.over(everywhere)
            said, headers = _Said(), 0
            continue
        headers += 1
        if headers > _MOST_HEADERS:
            raise VerificationError(
                f"the archive has more than {_MOST_HEADERS} extended headers before one file"
            )
        data = stream.data_of(header)
        if header.type == _GLOBAL:
            everywhere = everywhere.with_records(data)
        elif header.type == _LONG_NAME:
            said = replace(said, name=as_text(data.partition(b"\0")[0]))
        elif header.type == _LONG_LINK:
            said = replace(said, link=data.partition(b"\0")[0])
        else:
            said = said.with_records(data)
    stream.skip_all()


class _Said(Struct, frozen=True, kw_only=True):
    """The fields of an entry that its extended headers state; None for other fields."""

    name: str | None = None
    size: int | None = None
    link: bytes | None = None
    uid: int | None = None
    gid: int | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    is_sparse: bool = False

    def with_records(self, data: bytes) -> Self:
        """Return these fields, with those replaced that the pax records `data` state.

        A record is `length key=value`; of records with one key, the last wins.
        """
        records = dict(_records(data))
        name = records.get(b"GNU.sparse.name") or records.get(b"path")
        found = {key: _number(records[key]) for key in (b"size", b"uid", b"gid") if key in records}
        xattrs = dict(self.xattrs)
        xattrs |= {k[len(_XATTR) :]: v for k, v in records.items() if k.startswith(_XATTR)}
        return replace(
            self,
            name=as_text(name) if name else self.name,
            size=found.get(b"size", self.size),
            link=records.get(b"linkpath", self.link),
            uid=found.get(b"uid", self.uid),
            gid=found.get(b"gid", self.gid),
            xattrs=tuple(sorted(xattrs.items())),
            is_sparse=self.is_sparse or any(key.startswith(b"GNU.sparse.") for key in records),
        )

    def over(self, everywhere: _Said) -> _Said:
        """Return these fields of one file, completed by those that hold for all files."""
        return _Said(
            name=everywhere.name if self.name is None else self.name,
            size=everywhere.size if self.size is None else self.size,
            link=everywhere.link if self.link is None else self.link,
            uid=everywhere.uid if self.uid is None else self.uid,
            gid=everywhere.gid if self.gid is None else self.gid,
            xattrs=tuple(sorted({**dict(everywhere.xattrs), **dict(self.xattrs)}.items())),
            is_sparse=self.is_sparse or everywhere.is_sparse,
        )


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data) and data[at]:
        blank = data.find(b" ", at, at + _MOST_DIGITS + 1)
        length = _number(data[at : max(blank, at)])
        record = data[blank + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not record.endswith(b"\n") or not equals or not key or at + length > len(data):
            raise VerificationError("a pax header has a malformed record")
        yield key, value[:-1]
        at += length


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > _MOST_DIGITS or int(text) > _LARGEST:
        raise VerificationError(f"a pax header has a bad number: {printable(text[:40])}")
    return int(text)


def _member(header: tarfile.TarInfo, said: _Said) -> Member:
    size = header.size if said.size is None else said.size
    if not 0 <= size <= _LARGEST:
        raise VerificationError(f"a header of the archive has a bad size: {size:.3g}")
    return Member(
        name=header.name if said.name is None else said.name,
        size=0 if header.type in _WITHOUT_DATA else size,
        is_folder=header.isdir(),
    )


def _whole(header: tarfile.TarInfo, said: _Said, member: Member, at: int) -> ArchiveEntry:
    uid = header.uid if said.uid is None else said.uid
    gid = header.gid if said.gid is None else said.gid
    if not (0 <= uid <= _LARGEST_ID and 0 <= gid <= _LARGEST_ID):
        raise VerificationError(f"a header of the archive has a bad owner: {uid:.3g}:{gid:.3g}")
    return ArchiveEntry(
        name=as_bytes(member.name),
        type=header.type,
        mode=header.mode & 0o7777,
        uid=uid,
        gid=gid,
        size=member.size,
        at=at,
        link=as_bytes(header.linkname) if said.link is None else said.link,
        device=(header.devmajor, header.devminor),
        xattrs=said.xattrs,
        is_sparse=said.is_sparse or header.type == _SPARSE,
    )


def _padded(size: int) -> int:
    return size + -size % _BLOCK


class _Stream:
    """Reads the bytes of an archive once, from its beginning to its end."""

    def __init__(self, pieces: Iterator[bytes], cancel: Cancellation) -> None:
        self._pieces, self._cancel = pieces, cancel
        self._piece, self._at = b"", 0
        self._before = 0
        self.has_end = False

    @property
    def position(self) -> int:
        """The number of bytes read so far."""
        return self._before + self._at

    def header(self) -> tarfile.TarInfo | None:
        """Read the next header block; None at the end of the archive.

        The end is a block of zeros, or the end of the stream. Raises VerificationError.
        """
        block = self._taken(_BLOCK)
        if not block.strip(b"\0"):
            self.has_end = len(block) == _BLOCK
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise VerificationError(str(error)) from error
        more = header.type == _SPARSE and block[482]
        while more:  # blocks that list where the data of a sparse file belongs
            block = self._taken(_BLOCK)
            if len(block) < _BLOCK:
                raise _too_short()
            more = block[504]
        return header

    def data_of(self, header: tarfile.TarInfo) -> bytes:
        """Read the data of an extended header, without padding."""
        if not 0 <= header.size <= _LONGEST_HEADER:
            raise VerificationError(
                f"the archive has an extended header of more than {_LONGEST_HEADER} bytes"
            )
        data = self._taken(_padded(header.size))
        if len(data) < _padded(header.size):
            raise _too_short()
        return data[: header.size]

    def pieces_of(self, count: int) -> Iterator[bytes]:
        """Yield the next `count` bytes, in pieces.

        Raises VerificationError where the stream ends before.
        """
        while count:
            if self._at == len(self._piece) and not self._pull():
                raise _too_short()
            piece = self._piece[self._at : self._at + count]
            self._at += len(piece)
            count -= len(piece)
            yield piece

    def skip(self, count: int) -> None:
        """Skip `count` bytes. Raises VerificationError where the stream ends before."""
        while count:
            if self._at == len(self._piece) and not self._pull():
                raise _too_short()
            step = min(count, len(self._piece) - self._at)
            self._at += step
            count -= step

    def skip_all(self) -> None:
        """Read the stream to its end."""
        while self._pull():
            pass

    def _taken(self, count: int) -> bytes:
        """Read the next `count` bytes, or fewer at the end of the stream."""
        taken = self._piece[self._at : self._at + count]
        self._at += len(taken)
        if len(taken) == count:
            return taken
        parts, missing = [taken], count - len(taken)
        while missing and self._pull():
            parts.append(self._piece[:missing])
            self._at = len(parts[-1])
            missing -= self._at
        return b"".join(parts)

    def _pull(self) -> bool:
        self._cancel.check()
        self._before += len(self._piece)
        self._piece, self._at = next(self._pieces, b""), 0
        return bool(self._piece)


def _too_short() -> VerificationError:
    return VerificationError("the archive is cut off in the middle of a file")
