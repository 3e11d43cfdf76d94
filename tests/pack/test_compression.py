"""What a codec makes of blocks: the bytes that digests rest on, and what it spends on them."""

import gzip
import hashlib
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard

from regpush.errors import UsageError
from regpush.options import Algorithm, Compression
from regpush.pack.compression import codec

MIB = 1 << 20
STORED = 18 + 5 * 17  # bytes: RFC 1952's header and trailer, and a header for each 65,535 bytes
EQUAL_DIGESTS = ("gzip", "gzip:best", "zstd", "zstd:1", "zstd:9", "none")


def text(size, seed=7):
    """What compresses about as well as programs do, the same on every Python: old and new."""
    chance = random.Random(seed)
    data = bytearray(chance.randbytes(64))
    while len(data) < size:
        at = len(data) - 1 - int(min(len(data) - 1, 40_000) * chance.random() ** 2)
        data += data[at : at + int(4 + 30 * chance.random() ** 3)]
        data += chance.randbytes(int(4 * chance.random()))
    return bytes(data[:size])


def compress(name, data):
    one = codec(Compression.parse(name))
    return [
        one.compress(memoryview(data)[at : at + one.block]) for at in range(0, len(data), one.block)
    ]


def test_the_names_of_compressions():
    assert Compression.parse("gzip") == Compression()
    assert len({Compression.parse(f"gzip{name}") for name in ("", ":fast", ":best")}) == 3
    for wrong in ("gzip:", "gzip:6", "none:", "zstd:", "zstd:20", "brotli"):
        with pytest.raises(UsageError):
            Compression.parse(wrong)


# Made by the libraries' own functions: gzip by deflate 0.7.0, 0.8.1 and 0.9.0 (`gzip_compress`,
# levels 3 and 7), zstd by zstandard 0.25.0 and backports.zstd 1.0.0 and 1.8.0, gzip:fast by isal
# 1.7.0 and 1.9.1.
GOLDEN = {
    "gzip": "75ba0a5087147219a513baf3e3ed092bdfcc3bad086f1a1980deadf19a2cf76d",
    "gzip:best": "c63323570b1abec8d5c9ade34b7e3b57fcf34a76ef25e53f8b8a6652f146784e",
    "gzip:fast": "b984459b824f909ff1e4c6bd04a78788acf69cc37978f7c43a12be09e0fc4cae",
    "zstd": "cef2cefdfd526187d3f909ca390f8267051e0c67f3e22d1dfb97410fd7268dd4",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_bytes_are_those_of_every_version_that_may_be_installed(name):
    """A version that fails here changes digests: keep it out in pyproject.toml, or say so."""
    blob = b"".join(compress(name, text(3 * MIB + 4711)))
    assert hashlib.sha256(blob).hexdigest() == GOLDEN[name]


def test_what_does_not_shrink_is_stored():
    block = os.urandom(MIB)
    (blob,) = compress("gzip", block)
    assert gzip.decompress(blob) == block
    assert MIB < len(blob) <= MIB + STORED
    assert blob[10] & 0b110 == 0  # the first block's type (RFC 1951, section 3.2.3) is "stored"


def test_storing_is_cheap():
    block = memoryview(os.urandom(MIB))
    seconds = {}
    for name in ("gzip", "gzip:best"):
        squeeze = codec(Compression.parse(name)).compress
        squeeze(block)
        before = time.thread_time()
        for _ in range(8):
            squeeze(block)
        seconds[name] = time.thread_time() - before
    assert seconds["gzip"] < seconds["gzip:best"] / 4


@pytest.mark.parametrize("start", range(0, 8, 3))
def test_an_eighth_that_shrinks_is_squeezed(start):
    block = bytearray(os.urandom(MIB))
    at = start * MIB // 8
    block[at : at + MIB // 8] = text(MIB // 8)
    (blob,) = compress("gzip", bytes(block))
    assert gzip.decompress(blob) == block
    assert len(blob) < MIB - MIB // 8 // 3


@pytest.mark.parametrize("size", [1, 1000, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, MIB - 1])
@pytest.mark.parametrize("make", [os.urandom, text], ids=["random", "text"])
def test_short_blocks_unpack(size, make):
    data = make(size)
    (blob,) = compress("gzip", data)
    assert gzip.decompress(blob) == data
    assert len(blob) <= size + STORED


@pytest.mark.parametrize("name", EQUAL_DIGESTS)
def test_blocks_give_the_same_bytes_whatever_was_compressed_before(name):
    """No state is carried from one block to the next, in whichever thread."""
    blocks = [text(MIB, seed) for seed in range(4)] + [os.urandom(MIB), bytes(MIB)]
    one = codec(Compression.parse(name))
    alone = [one.compress(memoryview(block)) for block in blocks]
    order = random.Random(3).choices(range(len(blocks)), k=40)
    with ThreadPoolExecutor(4) as threads:
        together = threads.map(lambda index: one.compress(memoryview(blocks[index])), order)
        assert list(together) == [alone[index] for index in order]
    unpack = zstandard.decompress if Compression.parse(name).algorithm is Algorithm.ZSTD else None
    for block, blob in zip(blocks, alone, strict=True):
        plain = unpack(blob) if unpack else gzip.decompress(blob) if name != "none" else blob
        assert plain == block


@pytest.mark.soak
@pytest.mark.parametrize("name", EQUAL_DIGESTS)
def test_a_thousand_times_under_load_one_digest(name):
    """REGPUSH_SOAK_ROUNDS rounds of 16 MiB of this machine's programs, other threads in the way."""
    with open(max(_programs(), key=os.path.getsize), "rb") as file:
        data = file.read(16 * MIB)
    one = codec(Compression.parse(name))
    blocks = [memoryview(data)[at : at + one.block] for at in range(0, len(data), one.block)]
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            hashlib.sha256(os.urandom(MIB)).digest()

    disturbers = [threading.Thread(target=disturb) for _ in range(os.cpu_count() or 1)]
    for thread in disturbers:
        thread.start()
    digests = set()
    try:
        with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as threads:
            for _ in range(int(os.environ.get("REGPUSH_SOAK_ROUNDS", "1000"))):
                # A copy each time: memory that is new to the library, as that of a push is.
                moved = [memoryview(bytes(block)) for block in blocks]
                blob = b"".join(threads.map(one.compress, moved))
                digests.add(hashlib.sha256(blob).hexdigest())
    finally:
        stop.set()
        for thread in disturbers:
            thread.join()
    assert len(digests) == 1


def _programs():
    with os.scandir("/usr/bin") as entries:
        return [entry.path for entry in entries if entry.is_file(follow_symlinks=False)]
