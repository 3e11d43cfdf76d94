"""Reading the archive of a layer, whoever made it, in bounded memory: names and sizes alone.

`tarfile` reads a header block; it also reads extended headers, but whole, however large they say
that they are, one inside the other, and with numbers of any length. The blocks are put together
here, with bounds (POSIX.1-2024, pax; GNU tar manual, "Basic Tar Format"; archive/tar of Go has
the same bound of 1 MiB).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from regpush.concurrency import Cancellation
from regpush.errors import VerificationError, printable

_BLOCK = 512
_LONGEST_HEADER = 1 << 20
"""Bytes of an extended header at most, as in Go's archive/tar."""
_MOST_HEADERS = 16
"""Extended headers before one member at most: writers need three."""
_MOST_DIGITS = 19
_LARGEST = (1 << 63) - 1

_LONG_NAME, _LONG_LINK, _SPARSE = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"S"
_PAX, _PAX_SUN, _GLOBAL = tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE
_EXTENDED = (_LONG_NAME, _LONG_LINK, _PAX, _PAX_SUN, _GLOBAL)
_WITHOUT_DATA = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An entry of an archive. `size`: bytes of its data in the archive, without padding."""

    name: str
    size: int
    is_folder: bool


def members(pieces: Iterator[bytes], cancel: Cancellation) -> Iterator[Member]:
    """The members of the archive in `pieces`, which is read to its end.

    Memory stays bounded whatever is in it. Raises VerificationError for what is no tar archive
    or ends too early, CancelledError, and what `pieces` raises.
    """
    stream = _Stream(pieces, cancel)
    said = everywhere = _Said()
    headers = 0
    while header := stream.header():
        if header.type in _EXTENDED:
            headers += 1
            if headers > _MOST_HEADERS:
                raise VerificationError(f"more than {_MOST_HEADERS} headers before one file")
            data = stream.data_of(header)
            if header.type == _GLOBAL:
                everywhere = everywhere.with_records(data)
            elif header.type == _LONG_NAME:
                said = replace(said, name=_text(data.partition(b"\0")[0]))
            elif header.type != _LONG_LINK:
                said = said.with_records(data)
            continue
        found = _member(header, said, everywhere)
        cancel.check()
        yield found
        stream.skip(_padded(found.size))
        said, headers = _Said(), 0
    stream.skip_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What extended headers say of a file, where they do."""

    name: str | None = None
    size: int | None = None

    def with_records(self, data: bytes) -> Self:
        """Return the header with pax records (`length key=value` each); later ones win."""
        records = dict(_records(data))
        size = records.get(b"size")
        name = records.get(b"GNU.sparse.name") or records.get(b"path")
        return replace(
            self,
            name=_text(name) if name else self.name,
            size=self.size if size is None else _number(size),
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


def _member(header: tarfile.TarInfo, said: _Said, everywhere: _Said) -> Member:
    names = (said.name, everywhere.name, header.name)
    sizes = (said.size, everywhere.size, header.size)
    size = next(one for one in sizes if one is not None)
    if not 0 <= size <= _LARGEST:
        raise VerificationError(f"a header has a bad size: {size:.3g}")
    return Member(
        name=next(one for one in names if one is not None),
        size=0 if header.type in _WITHOUT_DATA else size,
        is_folder=header.isdir(),
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return size + -size % _BLOCK


class _Stream:
    """The bytes of an archive, taken from its beginning to its end."""

    def __init__(self, pieces: Iterator[bytes], cancel: Cancellation) -> None:
        self._pieces, self._cancel = pieces, cancel
        self._piece, self._at = b"", 0

    def header(self) -> tarfile.TarInfo | None:
        """The next header, None at the end: a block of zeros, or nothing more."""
        block = self._taken(_BLOCK)
        if not block.strip(b"\0"):
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
        """The data of an extended header, without padding."""
        if not 0 <= header.size <= _LONGEST_HEADER:
            raise VerificationError(f"an extended header of more than {_LONGEST_HEADER} bytes")
        data = self._taken(_padded(header.size))
        if len(data) < _padded(header.size):
            raise _too_short()
        return data[: header.size]

    def skip(self, count: int) -> None:
        """Leave `count` bytes behind, which must be there."""
        while count:
            if self._at == len(self._piece) and not self._pull():
                raise _too_short()
            step = min(count, len(self._piece) - self._at)
            self._at += step
            count -= step

    def skip_all(self) -> None:
        """Leave all behind."""
        while self._pull():
            pass

    def _taken(self, count: int) -> bytes:
        """The next `count` bytes, or as many as there are."""
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
        self._piece, self._at = next(self._pieces, b""), 0
        return bool(self._piece)


def _too_short() -> VerificationError:
    return VerificationError("it ends in the middle of a file")
