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
from regpush.pack.splice import SPLICED
from regpush.pack.stream import LayerSource
from regpush.pack.tar import ArchiveOptions
from regpush.sources.lock.overlaps import Overlaps
from regpush.sources.python import wheel
from regpush.sources.python.venv import Environment
from tests.wheels import make_wheel

MIB = 1 << 20
ENVIRONMENT = Environment(prefix="/app/.venv", version="3.13")
PACKAGE = LockedPackage(kind="pypi", name="one", version="1.0")
DIFF_ID = "sha256:3fdc6d727df47e9ae5079332dff1a8f14db62d0a829c3885fe50da90f0633346"
BLOB = "sha256:231d5e0cd13b1f5a1e69c64e482f0d495a82067bf2f87376ec7300ff82fd36ba"
"""Of tests/data/one-1.0-py3-none-any.whl at the prefix /app/.venv for Python 3.13."""


def words(size: int, seed: int = 1) -> bytes:
    """Bytes that compress about as well as programs do."""
    chance = random.Random(seed).randbytes(size // 2 + 16)
    parts = (chance[at : at + 8] for at in range(0, len(chance), 8))
    return b"call,ret".join(parts)[:size]


def of_wheel(path: Path) -> Item:
    return Item(
        path=f"{ENVIRONMENT.site}/one-1.0.dist-info", name="one", origin="one", identity=None,
        size=1, references=(), locked=PACKAGE, folder=ENVIRONMENT.prefix,
        entries=lambda: wheel.entries(
            str(path), PACKAGE, ENVIRONMENT, Overlaps(lambda event: None)
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


@pytest.mark.parametrize("size", [(128 << 10) - 1, 128 << 10, MIB - 512, MIB, 2 * MIB, 3 * MIB + 1])
def test_a_layer_holds_the_stream_of_the_wheel_and_the_same_archive(tmp_path, size):
    files = {"one/a.py": b"a = 1\n", "one/b.so": words(size), "one/c.py": words(5000)}
    path = make_wheel(tmp_path, "one", files=files).path
    stream = stream_of(path, "one/b.so")
    plain, whole = packed(of_wheel(path), "none")
    for compression in ("gzip", "gzip:fast"):
        blob, layer = packed(of_wheel(path), compression)
        assert gzip.decompress(blob) == plain
        assert layer.diff_id == whole.diff_id
        assert (stream in blob) == (size >= 128 << 10)
    blob, layer = packed(of_wheel(path), "zstd")
    assert layer.diff_id == whole.diff_id
    assert stream not in blob


def test_the_blob_of_a_wheel_is_what_it_always_was():
    """Equal bytes from any release of regpush: what a registry holds is mounted by its digest."""
    path = Path(__file__).parents[1] / "data/one-1.0-py3-none-any.whl"
    blob, layer = packed(of_wheel(path), "gzip")
    assert stream_of(path, "one/squares.txt") in blob
    assert f"sha256:{hashlib.sha256(gzip.decompress(blob)).hexdigest()}" == str(layer.diff_id)
    assert str(layer.diff_id) == DIFF_ID
    assert f"sha256:{hashlib.sha256(blob).hexdigest()}" == BLOB


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
    with pytest.raises(SourceError, match=r"the wheel of one 1\.0: one/b\.so in it is damaged"):
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


def test_members_are_few(tmp_path):
    """Each costs an unpacker time: there are no more than one for each 64 KiB spliced or packed."""
    path = make_wheel(tmp_path, "one", files=_mixed(300)).path
    blob, plain = packed(of_wheel(path), "gzip")[0], packed(of_wheel(path), "none")[0]
    members, rest = 0, blob
    while rest:
        unpacking = zlib.decompressobj(31)
        unpacking.decompress(rest)
        members, rest = members + 1, unpacking.unused_data
    assert 60 < members <= len(plain) / (SPLICED / 2) + 1


def _mixed(count):
    """Many small files, and among them large ones."""
    chance = random.Random(7)
    files = {f"one/{n:04}.py": words(chance.randrange(200, 20_000), n) for n in range(count)}
    return files | {f"one/{n:04}a.so": words(140_000, n) for n in range(0, count, 5)}
