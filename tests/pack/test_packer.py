"""Layers in the making: the same bytes whoever makes them, in bounded memory, stoppable."""

import dataclasses
import gzip
import hashlib
import itertools
import platform
import random
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from msgspec.structs import replace

from regpush.closure import Identity, Item
from regpush.digest import Digest
from regpush.entry import Entry, Kind
from regpush.errors import SourceError
from regpush.layering.plan import PlannedLayer
from regpush.options import Compression
from regpush.pack.packer import Packer
from regpush.pack.stream import LayerSource
from regpush.pack.tar import Archive, ArchiveOptions
from tests.patience import HANG_S
from tests.registry.parts import real_part

MIB = 1 << 20
WORDS = [bytes([97 + i % 26]) * (i % 9 + 1) for i in range(500)]


def item(*sizes, broken_at=None):
    """A store item of files that compress about as well as programs do."""
    rng = random.Random(7)

    def entries():
        for number, size in enumerate(sizes):
            if number == broken_at:
                raise SourceError("the disk is gone")
            words = b" ".join(rng.choices(WORDS, k=size // 6))[:size].ljust(size, b".")
            yield Entry(
                path=b"x/%06d" % number, kind=Kind.FILE, mode=0o644, size=size, content=words
            )

    held = list(entries()) if broken_at is None else None
    return Item(
        path="/x",
        name="x",
        origin="x",
        identity=Identity.nar(Digest.of(b"")),
        size=sum(sizes),
        entries=lambda: iter(held) if held is not None else entries(),
    )


def source(one, compression):
    planned = PlannedLayer.of([one])
    return LayerSource.of(0, planned, ArchiveOptions(), Compression.parse(compression))


def streamed(one, compression, cores):
    with Packer(Compression.parse(compression), cores) as packer:
        stream = source(one, compression).open(packer, lambda *_: None)
        blob = b"".join(stream)
        return blob, stream.layer()


def archive_of(one):
    archive, block, parts = Archive([one], ArchiveOptions()), bytearray(MIB), []
    is_last = False
    while not is_last:
        count, _, is_last = archive.readinto(block)
        parts.append(bytes(block[:count]))
    return b"".join(parts)


def plain(blob, compression):
    match compression.partition(":")[0]:
        case "gzip":
            return gzip.decompress(blob)
        case "zstd":
            return zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True).read()
    return blob


SIZES = {
    "empty": (),
    "small": (10,),
    "just under a block": (MIB - 2048,),
    "a block, to the byte": (MIB - 1536,),
    "one record more": (MIB - 1024,),
    "many files": (700,) * 4000,
    "large": (9 * MIB + 5, 0, 17, 3 * MIB),
}


@pytest.mark.parametrize("compression", ["gzip", "gzip:best", "zstd", "zstd:10", "none"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_the_bytes_do_not_depend_on_who_makes_them(sizes, compression):
    one = item(*sizes)
    blob, layer = streamed(one, compression, cores=1)
    for cores in (2, 5):
        assert streamed(one, compression, cores) == (blob, layer)
    archive = archive_of(one)
    assert plain(blob, compression) == archive
    assert layer.diff_id.hex == hashlib.sha256(archive).hexdigest()
    assert layer.descriptor.digest.hex == hashlib.sha256(blob).hexdigest()
    assert (layer.descriptor.size, layer.uncompressed_size) == (len(blob), len(archive))


@pytest.mark.parametrize(
    ("compression", "command"),
    [
        ("gzip", ["gzip", "-dc"]),
        ("gzip:best", ["gzip", "-dc"]),
        ("gzip", ["pigz", "-dc"]),
        ("gzip:best", ["pigz", "-dc"]),
        ("zstd", ["zstd", "-dc"]),
    ],
    ids=str,
)
def test_unpackers_see_one_stream(compression, command):
    """Members and frames in a row: RFC 1952 section 2.2, RFC 8878 section 3."""
    program, *arguments = command
    one = item(*SIZES["large"])
    blob, _ = streamed(one, compression, cores=2)
    said = subprocess.run(
        [real_part(program), *arguments], input=blob, stdout=subprocess.PIPE, check=True
    )
    assert said.stdout == archive_of(one)


def test_levels_are_in_order_and_best_is_smaller_than_zlib():
    one = item(*SIZES["large"])
    names = ("gzip:fast", "gzip", "gzip:best")
    fast, usual, best = (len(streamed(one, name, 2)[0]) for name in names)
    assert best < usual < fast
    assert best < len(gzip.compress(archive_of(one), 6))


def test_what_fails_in_the_reading_thread_is_raised_to_the_one_who_iterates():
    one = item(*[MIB] * 8, 1, broken_at=8)
    with Packer(Compression(), 2) as packer, pytest.raises(SourceError, match="disk is gone"):
        list(source(one, "gzip").open(packer, lambda *_: None))
    assert not [t for t in threading.enumerate() if t.name.startswith("regpush-")]


def test_what_was_opened_first_is_read_first_whoever_asks_first():
    """A layer that is sent at once waits for its upload session; those in memory do not."""
    read = []

    def noting(name):
        one = item(10)
        held = list(one.entries())

        def entries():
            read.append(name)
            return iter(held)

        return source(dataclasses.replace(one, entries=entries), "gzip")

    with Packer(Compression(), 2) as packer, ThreadPoolExecutor(2) as pool:
        first, second = (noting(name).open(packer, lambda *_: None) for name in "ab")
        with packer._turns.of(0):
            for number, stream in enumerate((second, first), 1):
                pool.submit(list, stream)
                while len(packer._turns._waiting) < number:
                    time.sleep(0.001)
    assert read == ["a", "b"]


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_an_unfinished_layer_leaves_no_thread_behind(how):
    with Packer(Compression(), 2) as packer:
        chunks = iter(source(item(*[MIB] * 40), "gzip").open(packer, lambda *_: None))
        for _ in itertools.islice(chunks, 2):
            pass
        if how == "closed":
            chunks.close()
            for _ in range(Packer.SPARE // MIB):
                assert packer.spare.acquire(blocking=False)
            assert not [t for t in threading.enumerate() if t.name == "regpush-read"]
    for thread in threading.enumerate():
        if thread.name.startswith("regpush-"):
            thread.join(HANG_S)
            assert not thread.is_alive()


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_memory_is_bounded_however_slowly_layers_are_taken(monkeypatch, compression):
    """Each layer has a block of its own, and all together what is spare."""
    made = []
    borrow = Packer.borrow
    monkeypatch.setattr(Packer, "borrow", lambda self: made.append(block := borrow(self)) or block)
    one = item(*[MIB] * 60)
    with Packer(Compression.parse(compression), 3) as packer:
        layers = [iter(source(one, compression).open(packer, lambda *_: None)) for _ in range(3)]
        for _ in zip(*layers, strict=True):
            pass
        blocks = {id(block): len(block) for block in made}
        assert len(made) > len(blocks)
        block = packer.codec.block
        assert sum(blocks.values()) <= max(Packer.SPARE, 3 * block) + 3 * block


def test_small_layers_too_are_compressed_by_no_more_threads_than_there_are_cores():
    """Each thread that compresses needs memory: 25 MB for zstd:9, and a push has 8 senders."""
    threads = set()
    with Packer(Compression(), 2) as packer:
        compress = packer.codec.compress

        def noted(block):
            threads.add(threading.current_thread().name)
            return compress(block)

        packer.codec = replace(packer.codec, compress=noted)
        for size in (0, 1000, 3 * MIB):
            assert b"".join(source(item(size), "gzip").open(packer, lambda *_: None))
    assert threads
    assert all(name.startswith("regpush-core") for name in threads)


def test_a_layer_goes_on_while_another_holds_all_spare_memory():
    one = item(*[MIB] * 60)
    with Packer(Compression(), 2) as packer:
        held = iter(source(one, "gzip").open(packer, lambda *_: None))
        next(held)  # and no more: its reader takes all that is spare
        while packer.spare.acquire(blocking=False):
            pass
        assert len(b"".join(source(one, "gzip").open(packer, lambda *_: None))) > 0
        held.close()


FREED = """
import resource
from regpush.options import Compression
from regpush.pack.packer import Packer

with Packer(Compression.parse("gzip:fast"), 2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        chunks = [b"." * 500_000 for _ in range(8)]
        chunks.clear()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has such a threshold")
def test_freed_memory_is_used_for_the_next_chunks():
    done = subprocess.run(
        [sys.executable, "-c", FREED], capture_output=True, text=True, check=True, timeout=HANG_S
    )
    faults, pages = int(done.stdout), 100 * 8 * 500_000 // resource.getpagesize()
    assert faults < pages / 10
