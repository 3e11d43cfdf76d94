"""What a directory's programs run on: told by their headers, and by few of them."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regpush.closure import Closure
from regpush.concurrency import Cancellation
from regpush.options import SourceOptions
from regpush.platform import Platform
from regpush.sources import directory
from regpush.sources.elf import HEADER, platform_of
from regpush.sources.programs import LOOKED_AT, run_on
from regpush.sources.stats import Stats
from tests.programs import elf, program
from tests.steps import steps

NEVER = 0
"""A time at which nothing is old enough to be remembered."""


def listed(root: Path) -> Closure:
    return directory.resolve(
        str(root), SourceOptions(), notify=lambda _: None, cancel=Cancellation()
    )


def found(root: Path) -> dict[str, str]:
    of = run_on(listed(root), Stats(None), now_ns=NEVER)
    return {str(platform): path for platform, path in of.items()}


@pytest.mark.parametrize(
    ("architecture", "platform"),
    [
        ("amd64", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("386", "linux/386"),
        ("armv7", "linux/arm/v7"),
        ("ppc64le", "linux/ppc64le"),
        ("s390x", "linux/s390x"),
        ("riscv64", "linux/riscv64"),
        ("loong64", "linux/loong64"),
    ],
)
def test_headers(architecture: str, platform: str) -> None:
    assert str(platform_of(elf(architecture))) == platform
    assert platform_of(elf(architecture)[: HEADER - 1]) is None


def test_a_header_that_a_compiler_wrote() -> None:
    header = Path(sys.executable).resolve().read_bytes()[:HEADER]
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True)
    assert platform_of(header) == Platform.of_system(f"{machine.stdout.strip()}-linux")


@pytest.mark.parametrize(
    "change",
    [
        (0, b"#!/bin/sh"),
        (6, b"\0"),  # EI_VERSION
        (7, b"\xff"),  # EI_OSABI: of no system
        (16, b"\1"),  # ET_REL, such as a kernel module
        (18, b"\xf7"),  # EM_BPF
        (4, b"\3"),
        (5, b"\2"),  # big-endian, as no amd64 is
    ],
)
def test_what_is_no_program(change: tuple[int, bytes]) -> None:
    at, data = change
    header = elf("amd64")
    assert platform_of(header[:at] + data + header[at + len(data) :]) is None


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_read(data: bytes, begun: bool) -> None:
    platform_of(b"\x7fELF" + data if begun else data)


def test_its_own_programs_go_before_those_it_depends_on(tmp_path: Path) -> None:
    program(tmp_path / "node_modules/esbuild/bin/esbuild", "amd64")
    (tmp_path / "start.sh").write_text("#!/bin/sh\n" * 20)
    (tmp_path / "start.sh").chmod(0o755)
    assert found(tmp_path) == {"linux/amd64": "node_modules/esbuild/bin/esbuild"}
    program(tmp_path / "bin/app", "arm64")
    assert found(tmp_path) == {"linux/arm64": "bin/app"}
    library = program(tmp_path / "lib/x.so.1", "s390x")
    library.chmod(0o644)
    assert found(tmp_path) == {"linux/arm64": "bin/app", "linux/s390x": "lib/x.so.1"}
    program(tmp_path / "data/picture", "386").chmod(0o644)  # not executable, no library
    assert "linux/386" not in found(tmp_path)


def test_of_many_only_the_largest_are_looked_at(tmp_path: Path) -> None:
    for number in range(LOOKED_AT + 8):
        script = tmp_path / f"bin/{number:03}"
        script.parent.mkdir(exist_ok=True)
        script.write_text("#!/bin/sh\n" * 10)
        script.chmod(0o755)
    program(tmp_path / "bin/app", "riscv64", b"x" * 5000)
    assert found(tmp_path) == {"linux/riscv64": "bin/app"}


def test_what_cannot_be_read_or_is_gone_is_no_program(tmp_path: Path) -> None:
    program(tmp_path / "bin/app", "amd64")
    closure = listed(tmp_path)
    shutil.rmtree(tmp_path / "bin")
    assert run_on(closure, Stats(None), now_ns=NEVER) == {}


def test_what_was_looked_at_is_not_opened_again(tmp_path: Path) -> None:
    root = tmp_path / "app"
    app = program(root / "app", "arm64")
    stats = Stats(str(tmp_path / "cache"))
    later = app.stat().st_ctime_ns + 3_000_000_000
    assert run_on(listed(root), stats, now_ns=later) == {Platform("linux", "arm64"): "app"}
    status = app.stat()
    opened = {Platform("linux", "arm64"): "app"}
    closure = listed(root)
    shutil.rmtree(root)
    assert run_on(closure, stats, now_ns=later) == opened
    # Another file in its place is another file.
    program(root / "app", "amd64")
    os.utime(root / "app", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run_on(listed(root), stats, now_ns=later) == {Platform("linux", "amd64"): "app"}
    (tmp_path / "cache/stats-1.sqlite").write_bytes(b"damaged")
    assert run_on(listed(root), stats, now_ns=later) == {Platform("linux", "amd64"): "app"}


def test_what_was_touched_just_now_is_not_remembered(tmp_path: Path) -> None:
    root = tmp_path / "app"
    just_now = program(root / "app", "arm64").stat().st_ctime_ns
    stats = Stats(str(tmp_path / "cache"))
    assert run_on(listed(root), stats, now_ns=just_now)
    closure = listed(root)
    shutil.rmtree(root)
    assert run_on(closure, stats, now_ns=just_now) == {}


def test_a_large_tree_takes_less_than_its_listing(tmp_path: Path) -> None:
    chance = random.Random(0)
    for folder in range(40):
        for name in range(50):
            file = tmp_path / f"{folder}/{name}"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"x" * chance.randrange(200))
            file.chmod(chance.choice([0o644, 0o755]))
    closure = listed(tmp_path)
    looking = steps(lambda: run_on(closure, Stats(None), now_ns=NEVER))
    assert looking < steps(lambda: listed(tmp_path))
