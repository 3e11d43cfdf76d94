"""The archive of a layer that somebody else made: real ones, hostile ones, and damaged ones."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from regpush.concurrency import Cancellation
from regpush.errors import CancelledError, VerificationError
from regpush.files.untar import Member, members
from tests.registry.parts import real_part
from tests.steps import steps

MOST_MEMORY = 16 << 20
MOST_STEPS = 200_000


def pieces(data: bytes, size: int = 1 << 20) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def read(data: bytes, size: int = 1 << 20) -> list[Member]:
    return list(members(pieces(data, size), Cancellation()))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with long names, holes, links and sizes of any remainder."""
    root = tmp_path_factory.mktemp("untar") / "source"
    deep = root / Path(*["a-folder-with-a-name"] * 12)
    deep.mkdir(parents=True)
    for size in (0, 1, 511, 512, 513, 70_000):
        (deep / f"file{size}").write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    (root / ("n" * 200)).write_text("long")
    (root / "é 日本").write_text("unicode")
    os.link(deep / "file70000", root / "hard")
    (root / "link").symlink_to("x" * 150)
    with (root / "holes").open("wb") as file:
        for number in range(40):  # more than the header of GNU's format lists
            file.seek(number * 100_000)
            file.write(b"data")
        file.truncate(9_000_000)
    return root


@pytest.mark.parametrize("form", ["v7", "ustar", "oldgnu", "gnu", "posix"])
@pytest.mark.parametrize("sparse", [[], ["-S"], ["-S", "--sparse-version=0.1"]])
def test_archives_of_gnu_tar(source: Path, form: str, sparse: list[str]) -> None:
    if sparse and form in ("v7", "ustar"):
        sparse = []
    left_out = []
    if form in ("v7", "ustar"):
        left_out = ["--exclude=n*", "--exclude=link", "--exclude=a-folder*/*/*/*"]
    made = subprocess.run(
        [real_part("tar"), f"--format={form}", *sparse, *left_out, "-cf", "-", "."],
        cwd=source, check=True, capture_output=True,
    ).stdout  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(made)) as archive:
        expected = [(one.name, one.isdir(), None if one.sparse else one.size) for one in archive]
    found = [(one.name.rstrip("/"), one.is_folder, one.size) for one in read(made, 777)]
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    for (name, _, size), (_, _, told) in zip(found, expected, strict=True):
        if told is not None and name != "./hard" and "file70000" not in name:
            assert size == told
        if name == "./holes" and sparse:
            assert size < 1_000_000


def test_archives_of_python() -> None:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=form) as archive:
            for name, size in (("p/" * 100 + "x", 5), ("\udce9", 0), ("big", 9)):
                info = tarfile.TarInfo(name)
                info.size = size
                archive.addfile(info, io.BytesIO(bytes(size)))
        names = ["p/" * 100 + "x", "\udce9", "big"]
        if form == tarfile.PAX_FORMAT:
            assert [one.size for one in read(raw.getvalue(), 100)] == [5, 0, 9]
        else:
            assert [one.name for one in read(raw.getvalue())] == names


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def extended(kind: bytes, data: bytes) -> bytes:
    return header(kind, len(data)) + data + bytes(-len(data) % 512)


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(str(length)) + len(key) + len(value) + 3 != length:
        length = len(str(length)) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


def zeros(count: int) -> Iterator[bytes]:
    """`count` bytes of zeros behind a header, as a small gzip stream unpacks to."""
    for _ in range(count >> 20):
        yield bytes(1 << 20)


PAX, GLOBAL, LONG = tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME
FILE = header(tarfile.REGTYPE, 0)


@pytest.mark.parametrize("kind", [PAX, GLOBAL, LONG, tarfile.GNUTYPE_LONGLINK, b"X"])
def test_a_huge_header_is_never_read_whole(kind: bytes) -> None:
    """One of 2 GB in a blob of 1 MB took 2 GB of memory."""

    def archive() -> Iterator[bytes]:
        yield header(kind, 2 << 30)
        yield from zeros(2 << 30)

    tracemalloc.start()
    with pytest.raises(VerificationError, match="1048576 bytes"):
        list(members(archive(), Cancellation()))
    assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (extended(PAX, record(b"size", b"9" * 399)) + FILE, "bad number"),
        (extended(PAX, record(b"size", b"-1")) + FILE, "bad number"),
        (extended(PAX, record(b"size", str(1 << 63).encode())) + FILE, "bad number"),
        (extended(PAX, record(b"size", str((1 << 63) - 1).encode())) + FILE, "middle"),
        (extended(PAX, b"9999999999999999999999 a=b\n") + FILE, "bad number"),
        (extended(PAX, b"6 a=b\n0 a=b\n") + FILE, "record"),
        (extended(PAX, b"6 a=b\nx") + FILE, "bad number"),
        (extended(PAX, b"9 a=b\n") + FILE, "record"),
        (extended(PAX, record(b"a", b"b")) * 3000 + FILE, "16 extended headers"),
        (extended(GLOBAL, record(b"a", b"b")) * 3000 + FILE, "16 extended headers"),
        (header(tarfile.REGTYPE, 1 << 80), "bad size"),
        (header(tarfile.REGTYPE, 1 << 62), "middle"),
        (header(tarfile.REGTYPE, 513) + bytes(1023), "middle"),
        (header(PAX, 100), "middle"),
        (header(tarfile.REGTYPE, 0)[:300], "truncated"),
        (b"not an archive" * 100, "header"),
    ],
)
def test_hostile_archives(data: bytes, words: str) -> None:
    with pytest.raises(VerificationError, match=words):
        read(data)


def test_a_sparse_file_whose_list_never_ends() -> None:
    """GNU's old format goes on listing in further blocks while these say so."""
    first = bytearray(header(b"S", 0))
    first[482] = 1
    more = (bytes(504) + b"\1" + bytes(7)) * 3000
    with pytest.raises(VerificationError, match="middle"):
        read(with_checksums(bytes(first)) + more)
    assert [one.name for one in read(with_checksums(bytes(first)) + more + bytes(2048))] == ["x"]


def test_a_sparse_map_that_is_none_is_nobodys_business() -> None:
    data = extended(PAX, record(b"GNU.sparse.map", b"a,b") + record(b"path", b"y")) + FILE
    assert [one.name for one in read(data + bytes(1024))] == ["y"]


def test_a_reader_is_stopped_in_the_middle_of_a_file() -> None:
    cancel = Cancellation()

    def endless() -> Iterator[bytes]:
        yield header(tarfile.REGTYPE, 1 << 62)
        while True:
            yield bytes(1 << 20)
            cancel.cancel()

    with pytest.raises(CancelledError):
        list(members(endless(), cancel))


def samples() -> list[bytes]:
    made = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        raw = io.BytesIO()
        headers = {"comment": "g" * 600} if form == tarfile.PAX_FORMAT else None
        with tarfile.open(fileobj=raw, mode="w", format=form, pax_headers=headers) as archive:
            for name, size in (("usr/bin/a", 700), ("d/" * 45 + "x" * 20, 0), ("z", 512)):
                info = tarfile.TarInfo(name)
                info.size = size
                if form == tarfile.PAX_FORMAT:
                    info.pax_headers = {"path": f"{name}é", "size": str(size)}
                archive.addfile(info, io.BytesIO(bytes(size)))
        made.append(raw.getvalue())
    sparse = [record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.name", b"s")]
    made.append(extended(PAX, b"".join(sparse)) + header(tarfile.REGTYPE, 600) + bytes(2048))
    made.append(extended(LONG, b"l" * 300 + b"\0") + header(b"S", 5) + bytes(2048))
    return made


NUMBERS = [b"9" * 399, b"-1", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"77777777777\0", b"0" * 12]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """`data` after some edits; half of the time checksums are right again, as an attacker's are."""
    made = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(len(made))
        match chance.randrange(6):
            case 0:
                made[at] = chance.randrange(256)
            case 1:
                del made[at : at + chance.choice([1, 100, 512, 2000])]
            case 2:
                block = at // 512 * 512
                made[block:block] = made[block : block + chance.choice([512, 1024])] * 20
            case 3:
                new = chance.choice(NUMBERS)
                place = at // 512 * 512 + 124
                made[place : place + len(new)] = new
            case 4:
                new = chance.choice([*NUMBERS, b"GNU.sparse.map=", b"size=", b"=", b"\n", b" "])
                made[at:at] = new
            case 5:
                kind = chance.choice(b"01234567xgXLKSDMVN\0")
                place = at // 512 * 512 + 156
                made[place : place + 1] = bytes([kind])
        made = made or bytearray(data)
    return with_checksums(bytes(made)) if chance.random() < 0.7 else bytes(made)


def with_checksums(data: bytes) -> bytes:
    made = bytearray(data)
    for at in range(0, len(made) - 511, 512):
        block = made[at : at + 512]
        if block[257:262] == b"ustar":
            total = sum(block[:148]) + 256 + sum(block[156:])
            made[at + 148 : at + 156] = b"%06o\0 " % total
    return bytes(made)


def fuzz(count: int, seed: int) -> dict[str, int]:
    chance, known = random.Random(seed), samples()
    ended = {"read": 0, "refused": 0}
    tracemalloc.start()
    most_steps = 0
    for number in range(count):
        data = damaged(chance.choice(known), chance)
        size = chance.choice([100, 512, 10_000])

        def reads(data: bytes = data, size: int = size) -> None:
            try:
                read(data, size)
                ended["read"] += 1
            except VerificationError:
                ended["refused"] += 1

        try:
            most_steps = max(most_steps, steps(reads))
        except BaseException as error:
            error.add_note(f"number {number} of seed {seed}: {data!r}")
            raise
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_MEMORY
    assert most_steps < MOST_STEPS
    return ended


def test_samples_are_read() -> None:
    assert [len(read(one)) for one in samples()] == [3, 3, 3, 1, 1]


def test_damaged_archives_are_read_or_refused() -> None:
    ended = fuzz(3000, 1)
    assert min(ended.values()) > 300


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_many_damaged_archives_are_read_or_refused(seed: int) -> None:
    print(fuzz(200_000, seed))
