"""Compresses blocks of an archive and decompresses blobs: gzip, zstd, or none.

Every block is compressed by itself, to a gzip member (RFC 1952, section 2.2) or a zstd frame (RFC
8878, section 3) of its own. So any thread may do it at any time, and the bytes depend only on the
archive, the algorithm, its level and the library's version, never on the number of threads.
Decompressors read consecutive members and frames as one stream; eStargz layers and `pigz
--independent` rely on that too.

`gzip` and `gzip:best` are libdeflate: each call clears its tables of matches, so a block always
gives the same bytes, which are equal for deflate 0.7 to 0.9 on little-endian machines. `gzip:fast`
is ISA-L, whose level 1 was seen to miss a match at the beginning of a block, about once in 10,000
blocks on a loaded machine: its blobs unpack to the same archive, but their digests are not
promised. zstd's bytes are those of libzstd 1.5.7 (1.5.6 gave others), which backports.zstd 1.0 to
1.8 has. pyproject.toml holds these ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from regpush.digest import DOCKER_LAYER_GZIP, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from regpush.options import Algorithm, Compression

MEDIA_TYPE = {
    Algorithm.GZIP: OCI_LAYER_GZIP,
    Algorithm.ZSTD: OCI_LAYER_ZSTD,
    Algorithm.NONE: OCI_LAYER,
}
"""The media type of a layer for each algorithm of compression."""

LAYERS = {*MEDIA_TYPE.values(), DOCKER_LAYER_GZIP}
"""Media types of layers that all registries and runtimes accept."""

# Blocks of 2, 4 and 8 MiB are .1 % smaller by libdeflate, and take as much more memory.
_GZIP_BLOCK = 1 << 20
_LEAST_SAMPLED = 128 << 10  # below, samples would be most of the block
# A frame cannot look back before its beginning: at level 3, frames of 4 and 8 MiB are 5 and 3 %
# larger than one stream of the same window; at 19, those of 4 and 16 MiB 9 and 2 %.
_ZSTD_BLOCK = 4 << 20
_ZSTD_SLOW_BLOCK = 16 << 20
_ZSTD_SLOW = 10
# A frame's window: 8 MiB, the largest that every decoder must support (RFC 8878, section
# 3.1.1.1.2). Level 3's own is 2 MiB; and it gets level 4's table of long matches, a megabyte.
# Together that is 4 % smaller, and costs no more than a tenth of the time.
_ZSTD_WINDOW_LOG = 23
_ZSTD_LEVEL_3_HASH_LOG = 18
# To compress a byte takes 5 ns, and to send one at 100 Mbit/s 80 ns: so a deflate stream that is
# longer than ours by a 32nd of its content still saves time. The streams in the ten largest wheels
# of an application are 0 to 5 % shorter, and copying them saves 6 to 74 % of the CPU.
_SLACK = 1 / 32
_GZIP_WRAPPER = 31  # zlib's wbits for a gzip header (its mtime is 0) and the largest window


class Codec(Struct, frozen=True, eq=False):
    """The way in which a layer is compressed: `compress` takes blocks of at most `block` bytes.

    `compress` is thread-safe and releases the interpreter's lock. `slack`: an existing deflate
    stream is copied unchanged if it is longer than the output of `compress` by at most `slack`
    bytes for each byte of content; None where the format cannot contain such a stream.
    """

    block: int
    compress: Callable[[memoryview], bytes]
    slack: float | None = None

    def takes(self, content: bytes, deflated: int) -> bool:
        """Whether to copy a deflate stream of `deflated` bytes, which unpacks to `content`."""
        if self.slack is None:
            return False
        most = len(self.compress(memoryview(content))) + self.slack * len(content)
        return deflated <= most


def codec(compression: Compression) -> Codec:
    """Return the codec of an algorithm and level: ISA-L for gzip 1, libdeflate for gzip 6, 9."""
    match compression:
        case Compression(Algorithm.GZIP, 1):
            return Codec(_GZIP_BLOCK, _isal(), _SLACK)
        case Compression(Algorithm.GZIP, 9):
            return Codec(_GZIP_BLOCK, _libdeflate(), 0.0)
        case Compression(Algorithm.GZIP):
            return Codec(_GZIP_BLOCK, _libdeflate_or_stored(), _SLACK)
        case Compression(Algorithm.ZSTD, level):
            slow = level >= _ZSTD_SLOW
            return Codec(_ZSTD_SLOW_BLOCK if slow else _ZSTD_BLOCK, _zstd(level))
        case _:
            return Codec(_GZIP_BLOCK, bytes)


# Each library is imported where it is used: a push that sends nothing needs none of them.


def _isal() -> Callable[[memoryview], bytes]:
    # Levels 1 and 2 give the same bytes on all x86 models and in all versions, level 3 not.
    from isal import isal_zlib

    return lambda block: isal_zlib.compress(block, 1, wbits=_GZIP_WRAPPER)


def _libdeflate_or_stored() -> Callable[[memoryview], bytes]:
    # Of 300 MB of /usr in three layers, in MB and seconds of CPU for the whole push: level 2
    # 106.3 and 2.75, level 3 105.2 and 2.87, level 4 104.3 and 3.02, level 5 102.5 and 3.27;
    # skopeo's gzip, from a layout that is packed already, 107.8 and 3.46; ISA-L 115.6 and 1.57.
    # A link of 1 Gbit/s waits for processors: there level 5 takes as long as skopeo does.
    import deflate

    def shrinks(block: memoryview, count: int, size: int) -> bool:
        """Whether `count` samples of `size` bytes, evenly spread, lose one byte in 512."""
        step = len(block) // count
        sample = b"".join(block[step * i : step * i + size] for i in range(count))
        return len(deflate.deflate_compress(sample, 1)) < len(sample) - len(sample) // 512

    def compress(block: memoryview) -> bytes:
        # The first test takes 40 µs, while compressing a block takes 5 ms; only blocks that seem
        # not to shrink get the second. Storing is a hundred times as fast as compressing in vain.
        if len(block) < _LEAST_SAMPLED or shrinks(block, 8, 1024) or shrinks(block, 16, 4096):
            return bytes(deflate.gzip_compress(block, 3))
        return bytes(deflate.gzip_compress(block, 0))

    return compress


def _libdeflate() -> Callable[[memoryview], bytes]:
    # Level 7: half the time of 8 and a quarter of 9's for .2 and .3 % more bytes.
    import deflate

    def compress(block: memoryview) -> bytes:
        return bytes(deflate.gzip_compress(block, 7))

    return compress


def _zstd(level: int) -> Callable[[memoryview], bytes]:
    from regpush.files.zstd import CompressionParameter, ZstdCompressor  # few layers are zstd

    options: dict[int, int] = {
        CompressionParameter.compression_level: level,
        CompressionParameter.window_log: _ZSTD_WINDOW_LOG,
    }
    if level == 3:
        options[CompressionParameter.hash_log] = _ZSTD_LEVEL_3_HASH_LOG

    def compress(block: memoryview) -> bytes:
        return ZstdCompressor(options=options).compress(block, ZstdCompressor.FLUSH_FRAME)

    return compress


def matches(media_type: str, wanted: Compression | None) -> bool:
    """Whether a layer of `media_type` has the compression `wanted`; any in `LAYERS` for None."""
    if wanted is None:
        return media_type in LAYERS
    if media_type == DOCKER_LAYER_GZIP:
        return wanted.algorithm is Algorithm.GZIP
    return media_type == MEDIA_TYPE[wanted.algorithm]


def decompressed(media_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress a blob of one of `LAYERS` into pieces of its archive, 1 MiB at most.

    Memory is bounded whatever the ratio; no piece is empty. Raises VerificationError for a blob
    that is not compressed as its type says, or is truncated, and any error of `chunks`.
    """
    from regpush.files.decompression import gunzip, unzstd  # most pushes read no layer

    if media_type == OCI_LAYER_ZSTD:
        return unzstd(chunks)
    return chunks if media_type == OCI_LAYER else gunzip(chunks)
