"""What a target is taken for."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from pathlib import Path

import pytest

from regpush.errors import UsageError
from regpush.events import TargetResolved
from tests.sources.conftest import Write, as_nobody, needs_root, take

PROFILE = "gnu/store/82zs18pmmpw7wvj676cn0wfga08mvy5z-profile"


def kind(target: object) -> str:
    (told,) = [event for event in take(target).events if isinstance(event, TargetResolved)]
    return told.kind


def test_a_bare_name_is_a_directory_here(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write({"main.py": ""})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("app")
    for target in ("app", "./app", "app/", "link", "dir:app", str(tmp_path / "app")):
        assert kind(target) == "directory", target
        assert take(target).closure.items[0].name == "app", target


def test_a_prefix_decides(guix_store: Path) -> None:
    profile = guix_store / PROFILE
    assert kind(profile) == "Guix profile"
    assert kind(f"store:{profile}") == "Guix profile"
    assert kind(f"dir:{profile}") == "directory"


def test_a_name_that_only_looks_like_an_item_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / ("0" * 32 + "-app")).mkdir()
    assert kind(tmp_path / ("0" * 32 + "-app")) == "directory"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothing", "target 'nothing' does not exist; looked for a directory, a store path"),
        ("dangling", "target 'dangling' is a link to a missing file"),
        ("file/below", "target 'file/below' does not exist"),
        ("", "target '' does not exist"),
        ("nul\0", r"target 'nul\\x00' does not exist"),
        ("file", "file is no program: neither an ELF file, nor a jar, nor a script"),
        ("socket", "socket is neither a file nor a directory"),
        ("dir:file", "dir:file: this is not a directory"),
        ("dir:nothing", "target 'nothing' does not exist"),
        ("store:app", "store:app: this is neither a path in a Nix or Guix store nor a link"),
        ("closure:app", "closure:app: this is not a file"),
        ("closure:file", "file is not a valid closure file: line 1"),
        ("hello@2", "'hello@2' does not exist.*to push a Guix package, 'guix' must be on the PATH"),
        ("guix:hello", "guix:hello needs Guix, but 'guix' is not on the PATH"),
        ("nix:.#app", "nix:.#app needs Nix, but 'nix' is not on the PATH"),
        ("http://x", "target 'http://x' does not exist"),
    ],
)
def test_what_is_nothing_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    (tmp_path / "app").mkdir()
    (tmp_path / "file").write_text("hello\n")
    (tmp_path / "dangling").symlink_to("gone")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        with pytest.raises(UsageError, match=message) as caught:
            take(target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("unreadable", ["secret", "secret/x", "."])
def test_what_cannot_be_read_is_a_source_error(unreadable: str) -> None:
    needs_root()
    with tempfile.TemporaryDirectory() as name:
        root = Path(os.path.realpath(name))
        root.chmod(0o755)
        (root / "secret").mkdir()
        (root / "secret/x").write_text("x")
        (root / unreadable).chmod(0)
        path = re.escape(str(root / unreadable))
        assert re.match(rf"SourceError cannot read {path}.*: Permission denied$", as_nobody(name))
