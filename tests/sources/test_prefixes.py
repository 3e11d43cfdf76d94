"""Each module of `sources/prefixes/` is a source; nothing else lists them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from regpush.cli.keys import from_here_target
from regpush.concurrency import Cancellation
from regpush.errors import UsageError
from regpush.events import ignore
from regpush.options import SourceOptions
from regpush.sources import prefixes
from regpush.sources.source import Source
from regpush.sources.targets import resolve
from regpush.sources.tools import Workshop

GUIDE = Path(__file__).parents[2] / "docs/guide/targets.md"


@pytest.mark.parametrize("name", prefixes.names())
def test_a_module_is_a_source(name: str) -> None:
    source = prefixes.find(name)
    assert source
    for function in ("understand", "relocated"):
        declared = inspect.signature(getattr(Source, function)).parameters
        said = inspect.signature(getattr(source, function)).parameters
        assert list(said) == list(declared)[1:]
    assert source.__doc__
    assert source.__doc__.startswith(f"`{name}:")


def test_the_guide_names_each_prefix() -> None:
    lines = GUIDE.read_text().splitlines()
    line = next(one for one in lines if one.startswith("1. A name with a prefix"))
    assert sorted(re.findall(r"`(\w+):`", line)) == list(prefixes.names())


@pytest.mark.parametrize("text", ["", "_x", "__init__", "os", "..", "a/b", "Dir", "dir\n", "é"])
def test_no_other_text_is_a_prefix(text: str) -> None:
    assert prefixes.find(text) is None


def test_a_colon_in_the_name_of_a_directory_is_no_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my:app").mkdir()
    (tmp_path / "my:app/main.py").write_text("x")
    monkeypatch.chdir(tmp_path)
    workshop = Workshop(ignore, Cancellation())
    found = resolve(["my:app"], SourceOptions(), (), workshop=workshop)
    assert [item.path for item in found.items]


def test_a_source_that_makes_an_image_by_itself_goes_with_no_other(tmp_path: Path) -> None:
    workshop = Workshop(ignore, Cancellation())
    with pytest.raises(UsageError, match="cannot be combined with other targets"):
        resolve([f"dir:{tmp_path}", f"dir:{tmp_path}"], SourceOptions(), (), workshop=workshop)


@pytest.mark.parametrize("name", prefixes.names())
def test_a_target_in_a_file_is_relative_to_the_file(name: str) -> None:
    moved = {"guix": "guix:x", "nix": "nix:../x"}.get(name, f"{name}:../x")
    rest = "./x" if name == "nix" else "x"
    assert from_here_target("..", f"{name}:{rest}") == moved


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("node:", "node:.."), ("python:.", "python:.."), ("nix:nixpkgs#hello", "nix:nixpkgs#hello"),
        ("nix:.#app", "nix:..#app"), ("nix:", "nix:.."),
        ("nix:./a#x ./b#y nixpkgs#z", "nix:../a#x ../b#y nixpkgs#z"),
        ("nix:./web#app", "nix:../web#app"),
        ("guix:a b", "guix:a b"),
        ("web", "../web"), ("my:app", "../my:app"), ("-", "-"), ("/srv/app", "/srv/app"),
        ("tar:/srv/root.tar", "tar:/srv/root.tar"),
    ],
)  # fmt: skip
def test_targets_as_files_write_them(said: str, meant: str) -> None:
    assert from_here_target("..", said) == meant
