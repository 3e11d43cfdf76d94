"""Content that was deflated before: the archive is the same, and the stream is in the blob."""

from __future__ import annotations

import gzip
import hashlib
import random
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from regpush.closure import Item, LockedPackage
from regpush.entry import Deflated, Entry, Kind, Streamed
from regpush.errors import SourceError
from regpush.image.image import Layer
from regpush.layering.plan import PlannedLayer
from regpush.options import Compression
from regpush.pack.packer import Packer
from regpush.pack.stream import LayerSource
from regpush.pack.tar import ArchiveOptions
from regpush.sources.lock.overlaps import Overlaps
from regpush.sources.python import wheel
from regpush.sources.python.venv import Environment
from tests.packing import members
from tests.wheels import make_wheel

MIB = 1 << 20
ENVIRONMENT = Environment(prefix="/app/.venv", version="3.13")
BLOBS = {
    "1.0": (
        "sha256:3fdc6d727df47e9ae5079332dff1a8f14db62d0a829c3885fe50da90f0633346",
        "sha256:01a0b23c07b558a3f2209dcba45968e7e5a5b34b99350e9c64eaa31d42c47dc6",
    ),
    "2.0": (
        "sha256:2e9a33581064593d3a11c1204257f4e1f40dcfef80dd37ad54a1b81992926d99",
        "sha256:9e81c41e283dbbb02ed303ab2d237db0f4e2d2d8725e3e3b9ebbc6473cdf7801",
    ),
}
"""Diff ID and digest of the layer of `tests/data/one-VERSION-py3-none-any.whl`, at /app/.venv for
Python 3.13. Version 2.0 has a file that is spliced, the largest of 1.0 is too small for that."""


def words(size: int, seed: int = 1) -> bytes:
    """Bytes that compress about as well as programs do."""
    chance = random.Random(seed).randbytes(size // 2 + 16)
    parts = (chance[at : at + 8] for at in range(0, len(chance), 8))
    return b"call,ret".join(parts)[:size]


def text(size: int, seed: int) -> bytes:
    """Bytes that compress about as well as JSON does."""
    chance = random.Random(seed)
    line = b'{"id": %d, "kind": "default", "value": %d},\n'
    lines = b"".join(line % (n, chance.randrange(9)) for n in range(size // 40 + 1))
    return lines[:size]


def noise(size: int, seed: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def zeros(size: int, seed: int) -> bytes:
    return bytes(size)


def of_wheel(path: Path, version: str = "1.0") -> Item:
    package = LockedPackage(kind="pypi", name="one", version=version)
    return Item(
        path=f"{ENVIRONMENT.site}/one-{version}.dist-info", name="one", origin="one",
        identity=None, size=1, references=(), locked=package, folder=ENVIRONMENT.prefix,
        entries=lambda: wheel.entries(
            str(path), package, ENVIRONMENT, Overlaps(lambda event: None)
        ),
    )  # fmt: skip


def packed(item: Item, compression: str) -> tuple[bytes, Layer]:
    wanted = Compression.parse(compression)
    planned = PlannedLayer(items=(item,), label="one")
    with Packer(wanted, 2) as packer:
        source = LayerSource.of(0, planned, ArchiveOptions(), wanted)
        stream = source.open(packer, lambda *_: None)
        blob = b"".join(stream)
        return blob, stream.layer()


def stream_of(path: Path, name: str) -> bytes:
    """The deflate stream of a file as it lies in the archive (APPNOTE.TXT, section 4.3.7)."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    data = path.read_bytes()
    named, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
    start = info.header_offset + 30 + named + extra
    return data[start : start + info.compress_size]


@pytest.mark.parametrize("size", [(512 << 10) - 1, 512 << 10, MIB - 512, MIB, 2 * MIB, 3 * MIB + 1])
def test_a_layer_holds_the_stream_of_the_wheel_and_the_same_archive(tmp_path, size):
    files = {"one/a.py": b"a = 1\n", "one/b.so": words(size), "one/c.py": words(5000)}
    path = make_wheel(tmp_path, "one", files=files).path
    stream = stream_of(path, "one/b.so")
    plain, whole = packed(of_wheel(path), "none")
    for compression in ("gzip", "gzip:fast"):
        blob, layer = packed(of_wheel(path), compression)
        assert gzip.decompress(blob) == plain
        assert layer.diff_id == whole.diff_id
        assert (stream in blob) == (size >= 512 << 10)
    blob, layer = packed(of_wheel(path), "zstd")
    assert layer.diff_id == whole.diff_id
    assert stream not in blob


@pytest.mark.parametrize("version", BLOBS)
def test_the_blob_of_a_wheel_is_what_it_always_was(version):
    """Equal bytes from any release of regpush: what a registry holds is mounted by its digest."""
    path = Path(__file__).parents[1] / f"data/one-{version}-py3-none-any.whl"
    blob, layer = packed(of_wheel(path, version), "gzip")
    assert (stream_of(path, "one/squares.txt") in blob) == (version == "2.0")
    assert f"sha256:{hashlib.sha256(gzip.decompress(blob)).hexdigest()}" == str(layer.diff_id)
    assert (str(layer.diff_id), f"sha256:{hashlib.sha256(blob).hexdigest()}") == BLOBS[version]


def test_a_stored_file_and_one_that_was_deflated_badly_are_compressed(tmp_path):
    content = words(MIB)
    stored = make_wheel(tmp_path, "one", files={"one/b.so": content}, stored=True).path
    badly = tmp_path / "badly.whl"
    with zipfile.ZipFile(stored) as old, zipfile.ZipFile(badly, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED, 0)
    least = len(gzip.compress(content, 6))
    for path in (stored, badly):
        blob, _ = packed(of_wheel(path), "gzip")
        assert len(blob) < 1.1 * least


def test_a_stream_of_another_content_is_refused(tmp_path):
    path = make_wheel(tmp_path, "one", files={"one/b.so": words(MIB)}).path
    data = bytearray(path.read_bytes())
    at = data.find(stream_of(path, "one/b.so"))
    data[at + 300_000] ^= 0xFF
    path.write_bytes(data)
    said = r"the wheel of one 1\.0 is damaged: one/b\.so in it cannot be unpacked"
    with pytest.raises(SourceError, match=said):
        packed(of_wheel(path), "gzip")


def test_a_stream_that_unpacks_to_nothing_for_long_is_handed_on_in_parts():
    """Empty stored blocks (RFC 1951, section 3.2.4) may make a stream of any length."""
    content = words(MIB)
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    first = deflate.compress(content[: MIB // 2]) + deflate.flush(zlib.Z_FULL_FLUSH)
    rest = deflate.compress(content[MIB // 2 :]) + deflate.flush()
    empty = b"\0\0\0\xff\xff" * (MIB // 5)

    def pieces():
        yield first, content[: MIB // 2]
        for _ in range(5):
            yield empty, b""
        yield rest, content[MIB // 2 :]

    entry = Entry(
        path=b"x/b", kind=Kind.FILE, mode=0o644, size=MIB,
        content=Streamed(lambda: iter([content]), Deflated(pieces, zlib.crc32(content))),
    )  # fmt: skip
    item = Item(path="/x", name="x", origin="x", identity=None, size=MIB, references=(),
                entries=lambda: iter([entry]))  # fmt: skip
    wanted = Compression.parse("gzip")
    with Packer(wanted, 2) as packer:
        planned = PlannedLayer(items=(item,), label="x")
        stream = LayerSource.of(0, planned, ArchiveOptions(), wanted).open(packer, lambda *_: None)
        chunks = list(stream)
    assert max(map(len, chunks)) <= 3 * MIB
    assert content in gzip.decompress(b"".join(chunks))


def test_a_large_program_that_is_a_script_to_the_wheel(tmp_path):
    program = b"\x7fELF" + words((16 << 20) + 1000)
    files = {"one-1.0.data/scripts/tool": program}
    path = make_wheel(tmp_path, "one", files=files).path
    plain, _ = packed(of_wheel(path), "none")
    assert program in plain


@pytest.mark.parametrize("size", [60_000, 140_000, 200_000, 300_000, 512 << 10, 700_000, MIB])
@pytest.mark.parametrize("kind", [words, text, noise, zeros])
def test_a_layer_has_at_most_four_members_for_each_mebibyte(tmp_path, kind, size):
    """So `unpigz` takes at most 1.2 times as long as with one (`python -m tests.bench.splicing`).

    Alone among small files, large ones make the most members: one each, and one before each.
    """
    chance = random.Random(7)
    files = {f"one/{n:04}.py": words(chance.randrange(200, 20_000), n) for n in range(40)}
    files |= {f"one/{n:04}a.so": kind(size, n) for n in range(0, 40, 40 * size // (8 * MIB) + 1)}
    path = make_wheel(tmp_path, "one", files=files).path
    blob, plain = packed(of_wheel(path), "gzip")[0], packed(of_wheel(path), "none")[0]
    assert members(blob) <= 4 * len(plain) / MIB + 1
