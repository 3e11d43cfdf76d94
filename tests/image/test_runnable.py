"""What keeps an image from running is said, and nothing else is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from regpush.image.runnable import Below, doubts
from regpush.options import ImageOptions
from regpush.platform import Platform
from tests.programs import program
from tests.registry.parts import real_part
from tests.sources.conftest import Write, take, write

__all__ = ["write"]

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


def said(root: Path, *entrypoint: str, base=None, platform=AMD64, **options) -> list[str]:
    closure = take(root).closure
    image = ImageOptions(entrypoint=entrypoint or None, home="/app", **options)
    below = None if base is None else Below(config=base, items=None)
    return list(doubts(closure.inside, image, platform, below))


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("files", "guess"),
    [
        ({"main.py": ""}, None),
        ({"Procfile": "worker: x\nweb: gunicorn app:app\n"}, "'gunicorn app:app', as its Procfile"),
        ({"package.json": '{"scripts": {"start": "node server.js"}}'}, "'node server.js', as scr"),
        ({"package.json": "[broken"}, None),
        ({"pyproject.toml": "[project.scripts]\nserve = 'a:b'\n"}, "'serve', the only one of"),
        ({"pyproject.toml": "[project.scripts]\na = 'a:b'\nc = 'a:b'\n"}, None),
        ({"shop.jar": "PK"}, "'java -jar /app/shop.jar', the only jar"),
    ],
)
def test_an_image_that_starts_nothing(write: Write, files, guess) -> None:
    (message,) = said(write(files))
    assert message.startswith("the image has no command to start: give one with --entrypoint")
    assert (f"perhaps {guess}" in message) if guess else ("perhaps" not in message)


def test_the_only_program_is_a_guess(tmp_path: Path) -> None:
    program(tmp_path / "app/bin/server", "amd64")
    assert "perhaps '/app/bin/server', the only program" in said(tmp_path / "app")[0]
    program(tmp_path / "app/other", "amd64")
    assert "perhaps" not in said(tmp_path / "app")[0]


def test_a_base_may_start_and_hold_what_is_missing_here(write: Write) -> None:
    root = write({"main.py": "", "run": "#!/bin/bash\n"})
    (root / "run").chmod(0o755)
    base = {"Entrypoint": ["/docker-entrypoint.sh"]}
    assert said(root, base=base) == []
    assert said(root, base={"Cmd": ["bash"]}) == []
    assert said(root, "python3", base={}) == []
    assert said(root, "/usr/bin/python3", base={}) == []
    assert said(root, "/app/run", base={}) == []
    assert "is not in the image: give a base image" in said(root, "python3")[0]
    assert "is not in the image: give a base image" in said(root, "/usr/bin/python3")[0]
    (message,) = said(root, "/app/run")
    assert message.startswith("the entry point /app/run needs /bin/bash, which is not in the image")
    assert said(root, "/app/run", symlinks=(("/bin", "/app/bin"),)) == []


def test_an_entry_point_that_cannot_be_started(write: Write) -> None:
    root = write({"main.py": "print(1)", "lib/x": ""})
    (root / "leaves").symlink_to("/opt/other/bin/app")
    (root / "here").symlink_to("main.py")
    for base in (None, {}):
        assert said(root, "/app/gone", base=base) == [
            "the entry point /app/gone is not in the image: say another --entrypoint"
        ]
        (message,) = said(root, "/app/main.py", base=base)
        assert "is not executable: --chmod /app/main.py=0755" in message
        assert "is not executable" in said(root, "/app/here", base=base)[0]
        assert said(root, "/app/lib", base=base) == ["the entry point /app/lib is a directory"]
    assert "leads to /opt/other/bin/app" in said(root, "/app/leaves")[0]
    assert said(root, "/app/leaves", base={}) == []


def test_the_interpreter_of_the_machine_that_pushes(write: Write) -> None:
    root = write({"x": ""})
    executable(root / ".venv/bin/flask", f"#!{root}/.venv/bin/python3\n")
    for base in (None, {}):
        (message,) = said(root, "/app/.venv/bin/flask", base=base)
        assert "a path of this machine" in message
        assert "uv venv --relocatable" in message
    executable(root / "good", "#!/app/.venv/bin/python3\n")
    executable(root / ".venv/bin/python3", "#!/x\n")
    assert said(root, "/app/good") == []


def test_programs_for_another_platform_or_without_their_loader(tmp_path: Path) -> None:
    program(tmp_path / "app/server", "arm64")
    (message,) = said(tmp_path / "app", "/app/server", base={})
    assert "is a program for linux/arm64, and the image is for linux/amd64" in message
    assert said(tmp_path / "app", "/app/server", platform=ARM64) == []
    program(tmp_path / "app/old", "386")
    assert said(tmp_path / "app", "/app/old") == []


def test_a_real_dynamic_program_needs_its_loader(tmp_path: Path) -> None:
    readelf = real_part("readelf")
    app = tmp_path / "app"
    app.mkdir()
    shutil.copy("/bin/true", app / "server")
    headers = subprocess.run([readelf, "-l", app / "server"], capture_output=True, text=True)
    loader = headers.stdout.partition("interpreter: ")[2].partition("]")[0]
    platform = Platform.of_system(f"{__import__('os').uname().machine}-linux")
    (message,) = said(app, "/app/server", platform=platform)
    assert f"needs {loader}, which is not in the image: give a base image" in message
    assert "static" in message
    assert said(app, "/app/server", platform=platform, base={}) == []


def test_native_libraries_of_other_platforms(write: Write, tmp_path: Path) -> None:
    mac = b"\xcf\xfa\xed\xfe" + bytes(100)
    root = write(
        {
            ".venv/lib/python3.12/site-packages/numpy/core.so": mac,
            ".venv/lib/python3.12/site-packages/numpy/fft.so": mac,
            "node_modules/many/prebuilds/darwin/x.node": mac,
            "node_modules/many/prebuilds/win/x.node": b"MZ" + bytes(100),
            "text.so": "a linker script",
            "tool.exe": b"MZ" + bytes(100),
        }
    )
    program(root / "node_modules/many/prebuilds/linux/x.node", "amd64")
    (message,) = said(root, base={"Cmd": ["x"]})
    assert message == (
        "2 native libraries will not load on linux/amd64, such as "
        ".venv/lib/python3.12/site-packages/numpy/core.so for macOS: install the dependencies "
        "for linux/amd64"
    )
    (message,) = said(root, base={"Cmd": ["x"]}, platform=ARM64)
    assert message.startswith("5 native libraries")
