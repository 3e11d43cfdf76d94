"""`tree` tells apart what must not be taken for the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images import tree


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_bytes(b"content")
    (root / "file").chmod(0o640)
    (root / "sub" / "link").symlink_to("../absent")
    (root / "one").write_bytes(b"shared")
    os.link(root / "one", root / "sub" / "two")
    return root


def test_what_it_holds(directory: Path) -> None:
    nodes = tree(directory)
    assert sorted(nodes) == [b"file", b"one", b"sub", b"sub/link", b"sub/two"]
    file = nodes[b"file"]
    assert (file.type, file.mode, file.size, file.uid) == ("file", 0o640, 7, os.geteuid())
    # printf content | sha256sum
    assert file.sha256 == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    assert (nodes[b"sub"].type, nodes[b"sub"].size) == ("directory", None)
    assert (nodes[b"sub/link"].type, nodes[b"sub/link"].target) == ("symlink", b"../absent")
    assert nodes[b"one"].links == nodes[b"sub/two"].links == {b"one", b"sub/two"}
    assert file.links == frozenset()


def break_link(root: Path) -> None:
    (root / "one").unlink()
    (root / "one").write_bytes(b"shared")
    shutil.copymode(root / "sub" / "two", root / "one")


def change_target(root: Path) -> None:
    (root / "sub" / "link").unlink()
    (root / "sub" / "link").symlink_to("x")


def change_type(root: Path) -> None:
    (root / "file").unlink()
    os.mkfifo(root / "file")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "file").write_bytes(b"CONTENT"),
    "mode": lambda root: (root / "file").chmod(0o641),
    "set-id": lambda root: (root / "file").chmod(0o4640),
    "directory mode": lambda root: (root / "sub").chmod(0o700),
    "name": lambda root: (root / "file").rename(root / os.fsdecode(b"\xff\n")),
    "new": lambda root: (root / "sub" / "new").touch(),
    "target": change_target,
    "type": change_type,
    "hard link broken": break_link,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_it_tells_apart(directory: Path, change: str) -> None:
    before = tree(directory)
    assert tree(directory) == before
    CHANGES[change](directory)
    assert tree(directory) != before
