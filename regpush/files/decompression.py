"""Decompresses gzip and zstd, in bounded memory for any ratio of compression."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from regpush.errors import VerificationError

_WRAPPER = 16 + zlib.MAX_WBITS
_PIECE = 1 << 20
"""The maximum bytes of a decompressed piece."""


def gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress gzip members that follow each other.

    Raises VerificationError for data that is not gzip or is truncated.
    """
    from isal import isal_zlib  # few commands unpack anything

    failure: Any = isal_zlib.IsalError  # the stubs declare it as an instance
    member = isal_zlib.decompressobj(wbits=_WRAPPER)
    for chunk in chunks:
        left, piece = chunk, b""
        # A chunk that was read completely may decompress to more than one piece.
        while left or (len(piece) == _PIECE and not member.eof):
            if member.eof:
                member = isal_zlib.decompressobj(wbits=_WRAPPER)
            try:
                piece = member.decompress(left, _PIECE)
            except failure as error:
                raise VerificationError(f"not gzip data: {error}") from error
            if piece:
                yield piece
            left = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise VerificationError("not gzip data, or truncated")


def unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress zstd frames that follow each other.

    Raises VerificationError for data that is not zstd or is truncated.
    """
    from regpush.files.zstd import ZstdDecompressor, ZstdError  # few layers are zstd

    frame = ZstdDecompressor()
    for chunk in chunks:
        left = chunk
        # A chunk that was read completely may decompress to more than one piece.
        while left or not (frame.needs_input or frame.eof):
            if frame.eof:
                frame = ZstdDecompressor()
            try:
                piece = frame.decompress(left, _PIECE)
            except ZstdError as error:
                raise VerificationError(f"not zstd data: {error}") from error
            if piece:
                yield piece
            left = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise VerificationError("not zstd data, or truncated")
