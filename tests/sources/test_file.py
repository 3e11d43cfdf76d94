"""A single file as a target: what it is, how it is started, and what is refused."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from regpush.closure import Role
from regpush.errors import UsageError
from regpush.platform import Platform
from regpush.sources.programs import run_on
from regpush.sources.stats import Stats
from tests.sources.conftest import take

MANIFEST = "META-INF/MANIFEST.MF"


def jar(path: Path, manifest: str | None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/A.class", b"x" * 100)
        if manifest is not None:
            archive.writestr(MANIFEST, manifest)
    return path


def test_a_program_is_the_whole_app_and_its_entry_point(tmp_path: Path) -> None:
    server = tmp_path / "server"
    shutil.copy("/bin/true", server)
    server.chmod(0o640)  # as artifacts of CI come back
    (tmp_path / "secret").write_text("not in the image")
    found = take(server)
    (item,) = found.closure.items
    assert (item.path, item.role) == ("/app", Role.OWN)
    entries = list(item.entries())
    assert [(entry.path, entry.mode) for entry in entries] == [
        (b"app", 0o755), (b"app/server", 0o755)
    ]  # fmt: skip
    assert found.closure.wishes.entrypoint == ("/app/server",)
    assert found.events[-1].kind == "program"
    (platform,) = run_on(found.closure, Stats(None), now_ns=1 << 62)
    assert platform == Platform.of_system(f"{os.uname().machine}-linux")
    assert take(server, root_dir="/").closure.wishes.entrypoint == ("/server",)
    elsewhere = tmp_path / "else" / "server"
    elsewhere.parent.mkdir(mode=0o700)
    shutil.copy("/bin/true", elsewhere)
    assert take(elsewhere).closure == found.closure


def test_a_link_is_the_program_it_leads_to(tmp_path: Path) -> None:
    shutil.copy("/bin/true", tmp_path / "server-1.2")
    (tmp_path / "server").symlink_to("server-1.2")
    assert take(tmp_path / "server").closure.wishes.entrypoint == ("/app/server-1.2",)


def test_a_script_starts_itself(tmp_path: Path) -> None:
    script = tmp_path / "run"
    script.write_text("#!/bin/sh\necho hello\n")
    found = take(script)
    assert found.closure.wishes.entrypoint == ("/app/run",)
    assert found.events[-1].kind == "script"
    script.write_text("#!/bin/sh\n-----BEGIN PRIVATE KEY-----\n" + "A" * 64)
    with pytest.raises(UsageError, match="private key"):
        take(script)


@pytest.mark.parametrize(
    "manifest",
    [
        "Manifest-Version: 1.0\r\nMain-Class: a.A\r\n\r\n",
        "Main-Class: org.example.a.very.long.package.name.that.is.continued.in.the.n\n ext.Line\n",
        "main-class: a.A",
    ],
)
def test_a_jar_that_can_be_run(tmp_path: Path, manifest: str) -> None:
    found = take(jar(tmp_path / "anything", manifest))  # it is no name that makes it a jar
    assert found.closure.wishes.entrypoint == ("java", "-jar", "/app/anything")
    assert found.closure.wishes.unsaid == ""


@pytest.mark.parametrize(
    "manifest", ["Manifest-Version: 1.0\n", "Main-Class:\n", "A: b\n\nMain-Class: a.A\n"]
)
def test_a_jar_without_a_main_class(tmp_path: Path, manifest: str) -> None:
    wishes = take(jar(tmp_path / "lib.jar", manifest)).closure.wishes
    assert wishes.entrypoint == ()
    assert "lib.jar names no Main-Class" in wishes.unsaid
    assert "--entrypoint 'java -cp /app/lib.jar CLASS'" in wishes.unsaid


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"MZ" + bytes(60), "a program for Windows; build it for Linux"),
        (b"\xcf\xfa\xed\xfe" + bytes(60), "a program for macOS"),
        (b"\x7fELF" + bytes(60), "an object file"),
        (b"", "no program"),
        (
            b"print('hello')\n",
            "no program: .*'#!' line.*push the directory that contains it, with --entrypoint",
        ),
    ],
    ids=["windows", "macos", "object", "empty", "text"],
)
def test_what_is_no_program_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UsageError, match=f"file is {said}"):
        take(tmp_path / "file")
    jar(tmp_path / "file.zip", None)
    with pytest.raises(UsageError, match="no program"):
        take(tmp_path / "file.zip")
