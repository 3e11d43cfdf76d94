"""Blocks to compressed chunks: gzip by ISA-L or zlib, zstd, or as they are.

The bytes depend only on the blocks, the algorithm and its level, and the library's version:
ISA-L's also on how its input is cut, which is why archives come in blocks of exactly 1 MiB
(design.md, Measured floors).
"""

from __future__ import annotations

import zlib
from typing import Protocol

import zstandard
from isal import isal_zlib

from regpush.digest import DOCKER_LAYER_GZIP, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from regpush.options import Algorithm, Compression

_GZIP_WRAPPER = 31  # zlib's wbits for a gzip header (its mtime is 0) and the largest window

MEDIA_TYPE = {
    Algorithm.GZIP: OCI_LAYER_GZIP,
    Algorithm.ZSTD: OCI_LAYER_ZSTD,
    Algorithm.NONE: OCI_LAYER,
}
"""The media type of a layer by its compression."""

LAYERS = {*MEDIA_TYPE.values(), DOCKER_LAYER_GZIP}
"""Media types of layers that any registry and runtime takes."""


class Compressor(Protocol):
    """One compressed stream in the making."""

    def compress(self, data: memoryview, /) -> bytes:
        """Take in a block; give what is ready, perhaps nothing."""

    def flush(self) -> bytes:
        """End the stream; give the rest."""


class _Stored:
    def compress(self, data: memoryview, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


def compressor(compression: Compression) -> Compressor:
    """A new stream. gzip level 1 is ISA-L's, level 9 zlib's."""
    match compression:
        case Compression(Algorithm.GZIP, 1):
            return isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP_WRAPPER)
        case Compression(Algorithm.GZIP, level):
            return zlib.compressobj(level, zlib.DEFLATED, _GZIP_WRAPPER)
        case Compression(Algorithm.ZSTD, level):
            return zstandard.ZstdCompressor(level=level).compressobj()
        case _:
            return _Stored()


def matches(media_type: str, wanted: Compression | None) -> bool:
    """Whether a layer of `media_type` will do for someone who asked for `wanted`."""
    if wanted is None:
        return media_type in LAYERS
    if media_type == DOCKER_LAYER_GZIP:
        return wanted.algorithm is Algorithm.GZIP
    return media_type == MEDIA_TYPE[wanted.algorithm]
