"""A wheel's entries; what is odd in an archive is refused by name."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regpush.closure import LockedPackage
from regpush.entry import Entry, Kind, Streamed
from regpush.errors import SourceError
from regpush.sources.lock.overlaps import Overlaps
from regpush.sources.lock.zipped import blocks, members
from regpush.sources.python.venv import Environment
from regpush.sources.python.wheel import entries
from tests.wheels import make_wheel

ENVIRONMENT = Environment(prefix="/app/.venv", version="3.13")
PACKAGE = LockedPackage(kind="pypi", name="one", version="1.0")


def laid_out(path: Path, environment: Environment = ENVIRONMENT) -> dict[str, Entry]:
    found = list(entries(str(path), PACKAGE, environment, Overlaps(lambda event: None)))
    assert [one.path for one in found] == sorted({one.path for one in found})
    return {one.path.decode(): one for one in found}


def content(entry: Entry) -> bytes:
    data = entry.content
    if isinstance(data, Streamed):
        return b"".join(data.open())
    assert isinstance(data, bytes)
    return data


def read_all(path: Path) -> dict[str, bytes]:
    return {name: content(entry) for name, entry in laid_out(path).items()}


def rewritten(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    files = {"one/a.py": "a = 1\n" * 100, "one/b.bin": os.urandom(200_000)}
    return make_wheel(tmp_path, "one", files=files).path


def test_every_parent_is_a_folder(wheel):
    found = laid_out(wheel)
    for path in found:
        above = path.rpartition("/")[0]
        if above != "app":
            assert found[above].kind is Kind.DIRECTORY


def central(data: bytearray, name: bytes) -> int:
    """Where the record of `name` begins in the central directory (APPNOTE.TXT 4.3.12)."""
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        length = struct.unpack_from("<H", data, at + 28)[0]
        if data[at + 46 : at + 46 + length] == name:
            return at
        at = data.find(b"PK\x01\x02", at + 4)
    raise AssertionError(name)


def encrypted(data: bytearray) -> None:
    data[central(data, b"one/a.py") + 8] |= 1


def other_method(data: bytearray) -> None:
    struct.pack_into("<H", data, central(data, b"one/a.py") + 10, zipfile.ZIP_LZMA)


def larger_than_deflate_can_be(data: bytearray) -> None:
    struct.pack_into("<L", data, central(data, b"one/a.py") + 24, 1 << 30)


def one_byte_more(data: bytearray) -> None:
    struct.pack_into("<L", data, central(data, b"one/a.py") + 24, 601)


def one_byte_less(data: bytearray) -> None:
    struct.pack_into("<L", data, central(data, b"one/a.py") + 24, 599)


def wrong_crc(data: bytearray) -> None:
    data[central(data, b"one/a.py") + 16] ^= 1


def another_offset(data: bytearray) -> None:
    struct.pack_into("<L", data, central(data, b"one/a.py") + 42, 7)


def damaged(data: bytearray) -> None:
    at = data.find(b"one/b.bin") + 50_000
    data[at] ^= 0xFF


def cut(data: bytearray) -> None:
    del data[-10:]


@pytest.mark.parametrize(
    "change",
    [
        encrypted,
        other_method,
        larger_than_deflate_can_be,
        one_byte_more,
        one_byte_less,
        wrong_crc,
        another_offset,
        damaged,
        cut,
    ],
)
def test_what_an_archive_lies_about_is_refused(wheel, change):
    rewritten(wheel, change)
    with pytest.raises(SourceError, match=r"the wheel of one 1\.0"):
        read_all(wheel)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x", "one/../../x", "one//x", "./x", "one/.wh.x", ".wh..wh..opq", "a\\b"],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    path = make_wheel(tmp_path, "one", files={"one.py": "", name: "x"}).path
    with pytest.raises(SourceError, match=r"the wheel of one 1\.0"):
        laid_out(path)


def test_a_name_that_comes_twice_is_refused(wheel):
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("one/a.py", "other")
    with pytest.raises(SourceError, match="twice"):
        laid_out(wheel)
    data = {"one.py": "1", "one-1.0.data/purelib/one.py": "2"}
    both = make_wheel(wheel.parent / "both", "one", files=data).path
    with pytest.raises(SourceError, match="installs two files at"):
        laid_out(both)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"two-1.0.dist-info/METADATA": ""}, "2 .dist-info"),
        ({"one-1.0.data/other/x": ""}, "only the folders purelib, "),
        ({"one-1.0.data/x": ""}, "only the folders purelib, "),
    ],
)
def test_what_is_no_wheel_is_refused(tmp_path, files, words):
    with pytest.raises(SourceError, match=words):
        laid_out(make_wheel(tmp_path, "one", files=files).path)


def test_a_wheel_of_another_package_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"the file is a wheel of one 1\.1"):
        laid_out(make_wheel(tmp_path, "one", info_version="1.1").path)
    (tmp_path / "no.whl").write_bytes(b"no archive")
    with pytest.raises(SourceError, match="not a zip archive"):
        laid_out(tmp_path / "no.whl")


@pytest.mark.parametrize("name", ["../evil", "a/b", ".", "..", ".wh.x"])
def test_programs_of_bad_names_are_refused(tmp_path, name):
    path = make_wheel(tmp_path, "one", scripts={name: "one:main"}).path
    with pytest.raises(SourceError, match=r"entry points? .*malformed"):
        laid_out(path)


@pytest.mark.parametrize("value", ["one", "one:", ":main", "one:main()", "o ne:main", "one:m;x"])
def test_programs_of_nothing_are_refused(tmp_path, value):
    path = make_wheel(tmp_path, "one", scripts={"one": value}).path
    with pytest.raises(SourceError):
        laid_out(path)


def test_a_long_prefix_is_started_by_sh(tmp_path):
    path = make_wheel(tmp_path, "one", files={"one-1.0.data/scripts/tool": "#!python\nx\n"}).path
    for prefix in ("/with space/.venv", "/" + "long/" * 30 + ".venv"):
        found = laid_out(path, Environment(prefix=prefix, version="3.13"))
        text = content(found[f"{prefix[1:]}/bin/tool"]).decode()
        assert text.startswith(f"#!/bin/sh\n'''exec' '{prefix}/bin/python' \"$0\" \"$@\"\n' '''\n")


def test_zip64_and_data_descriptors(tmp_path):
    data = os.urandom(100_000)
    path = tmp_path / "x.zip"

    class Unseekable(io.RawIOBase):
        """What zipfile cannot go back in: it writes data descriptors then."""

        def __init__(self) -> None:
            self.file = path.open("wb")

        def writable(self) -> bool:
            return True

        def write(self, block) -> int:
            return self.file.write(block)

        def close(self) -> None:
            self.file.close()
            super().close()

    with (
        zipfile.ZipFile(Unseekable(), "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a", "w", force_zip64=True) as member,
    ):
        member.write(data)
    found = members(str(path), "it")
    assert b"".join(blocks(str(path), found["a"], "it")) == data


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 30))
def test_no_change_of_bytes_is_anything_but_refused_or_the_same(tmp_path_factory, seed, count):
    """Whatever is flipped: an error of ours, or what the archive said before."""
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("fuzz")
    files = {"one/a.py": "a = 1\n" * 50, "one/b.bin": bytes(range(256)) * 300}
    path = make_wheel(folder, "one", files=files).path
    before = read_all(path)
    data = bytearray(path.read_bytes())
    for _ in range(count):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data)
    try:
        after = read_all(path)
    except SourceError:
        return
    for name in before.keys() & after.keys():
        if name.endswith(("a.py", "b.bin")):
            assert after[name] == before[name]


def test_other_targets_do_not_pay_for_it():
    """Nothing that `python:` needs is imported where it is not asked for."""
    code = (
        "import sys, regpush.flow.pipeline, regpush.cli.app, regpush.sources.targets\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('packaging', 'installer', 'uv')"
        " or m.startswith(('regpush.sources.python', 'regpush.sources.lock'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
