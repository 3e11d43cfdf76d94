"""Targets of a real Nix that is newer than the one of these tests: 2.26 and 2.34, in chroots."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.chroots import Chroot, Pushed, chroot
from tests.flow.test_push_nix import FLAKE, config_of
from tests.stores import CacheServer

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(os.getuid() != 0, reason="a chroot needs root"),
]

_CONFIG = """
build-users-group =
experimental-features = nix-command flakes
sandbox = false
substituters =
"""
_UNSIGNED = "require-sigs = false"
_WORK = "/opt/regpush-nix"
_INPUT = '{ outputs = { self }: { word = "%s"; }; }\n'
_WITH_INPUT = """
{ inputs.word.url = "path:/opt/regpush-nix/one";
  outputs = { self, word }: { packages.x86_64-linux.default = derivation {
    name = "word-${word.word}"; system = "x86_64-linux"; builder = "/bin/sh";
    args = [ "-ec" "echo ${word.word} > $out" ];
  }; };
}
"""
_ARGUMENTS = """
{ version, double ? false }: derivation {
  name = "said-${version}-${if double then "twice" else "once"}-${import <word/name.nix>}";
  system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-ec" "echo hello > $out" ];
}
"""


@dataclass(frozen=True, slots=True)
class Nix:
    """A Nix with a store of its own at /nix, and the flake of the other tests."""

    inside: Chroot
    env: dict[str, str]

    def output(self, *words: str, **env: str) -> str:
        return self.inside.output(*words, env={**self.env, **env}, cwd=f"{_WORK}/flake")

    def push(self, *words: str, to: str, **env: str) -> Pushed:
        return self.inside.push(*words, to=to, env={**self.env, **env}, cwd=f"{_WORK}/flake")

    def outputs(self, attribute: str) -> dict[str, str]:
        """The store paths of an attribute, by output, as Nix itself says."""
        (built,) = json.loads(self.output("nix", "build", "--no-link", "--json", f".#{attribute}"))
        return dict(built["outputs"])


@pytest.fixture(scope="module", params=["trixie", "sid"])
def nix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Nix:
    inside = chroot(request.param, tmp_path_factory.mktemp("nix"))
    inside.write(f"{_WORK}/nix.conf", _CONFIG)
    inside.write(f"{_WORK}/flake/flake.nix", FLAKE)
    inside.write(f"{_WORK}/said/default.nix", _ARGUMENTS)
    inside.write(f"{_WORK}/named/name.nix", '"named"')
    for word in ("one", "other"):
        inside.write(f"{_WORK}/{word}/flake.nix", _INPUT % word)
    inside.write(f"{_WORK}/input/flake.nix", _WITH_INPUT)
    return Nix(inside, {"NIX_CONF_DIR": _WORK, "NIX_REMOTE": "local"})


@pytest.fixture
def to(docker_registry, repository) -> str:
    return f"{docker_registry.host}/{repository}"


def test_16_the_main_output_comes_first(nix: Nix, to: str) -> None:
    outputs = nix.outputs("manual")
    assert sorted(outputs) == ["man", "out"]
    nix.push("nix:.#manual", "--entrypoint", "bin/prog", to=to).ok()
    assert config_of(f"{to}:latest")["Entrypoint"] == [f"{outputs['out']}/bin/prog"]
    printed = [outputs["man"], outputs["out"]]  # as $(nix build --print-out-paths) may have them
    nix.push(*printed, "--entrypoint", "bin/prog", to=to).ok()
    assert config_of(f"{to}:latest")["Entrypoint"] == [f"{outputs['out']}/bin/prog"]
    split = nix.outputs("split")
    nix.push("nix:.#split", "--entrypoint", "bin/prog", to=to).ok()
    assert config_of(f"{to}:latest")["Entrypoint"] == [f"{split['man']}/bin/prog"]
    wrong = nix.push("nix:.#manual", "--entrypoint", "bin/nothing", to=to)
    wrong.failed(2, "bin/nothing does not exist in the target; its bin/ has prog")


def test_17_the_main_program_is_the_entry_point(nix: Nix, to: str) -> None:
    nix.push("nix:.#manual", to=to).ok()
    assert config_of(f"{to}:latest")["Entrypoint"] == [f"{nix.outputs('manual')['out']}/bin/prog"]


def test_18_stores_with_another_root(nix: Nix, to: str) -> None:
    root, home = "/opt/regpush-nix/root", "/opt/regpush-nix/home"
    for place in (root, home):
        shutil.rmtree(nix.inside.root / place.lstrip("/"), ignore_errors=True)
    nix.inside.write(f"{_WORK}/file", "hello\n")
    local = f"local?root={root}"
    path = nix.output("nix", "store", "add-path", "--store", local, f"{_WORK}/file")
    assert not (nix.inside.root / path.lstrip("/")).exists()
    for env in ({"NIX_REMOTE": local}, {"NIX_REMOTE": root}):
        assert nix.push(path, to=to, **env).ok().items == [path]
    assert nix.push(path, "--store", local, to=to).ok().items == [path]
    nix.inside.output("mkdir", "-p", f"{home}/.local/share/nix")
    nix.inside.output("ln", "-s", root, f"{home}/.local/share/nix/root")
    assert nix.push(path, to=to, HOME=home).ok().items == [path]
    nix.push(path, to=to).failed(9, os.path.basename(path))


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_19_binary_caches_complete_each_other(nix: Nix, to: str) -> None:
    app = nix.outputs("app")["out"]
    caches = [f"{_WORK}/cache-{name}" for name in ("lacking", "whole")]
    for cache in caches:
        shutil.rmtree(nix.inside.root / cache.lstrip("/"), ignore_errors=True)
        nix.output("nix", "copy", "--to", f"file://{cache}?compression=xz", app)
    shutil.rmtree(nix.inside.root / caches[0].lstrip("/") / "nar")
    paths = [Path(nix.inside.root, cache.lstrip("/")) for cache in caches]
    flags = ("--reuse", "none")
    (nix.inside.root / _WORK.lstrip("/") / "empty").mkdir(exist_ok=True)
    elsewhere = replace(nix, inside=replace(nix.inside, over=((f"{_WORK}/empty", "/nix"),)))
    with (
        CacheServer(paths[0]) as lacking,
        CacheServer(paths[1]) as whole,
        silent() as mute,
    ):
        urls = (mute, lacking.url, whole.url)
        named = [word for url in urls for word in ("--nix-cache", url)]
        began = time.monotonic()
        done = elsewhere.push(app, *named, *flags, to=to, NIX_CONFIG=_UNSIGNED).ok()
        took_s = time.monotonic() - began
    assert app in done.items
    assert mute in done.said
    assert took_s < 60, done.said
    whole_in_store = nix.push(app, *flags, to=f"{to}:store").ok()
    digests = [json.loads(one.stdout)["digest"] for one in (done, whole_in_store)]
    assert digests[0] == digests[1]


def test_20_words_for_nix_and_its_reasons(nix: Nix, to: str) -> None:
    marked = nix.push("nix:.#marked", "--impure", to=to, REGPUSH_MARK="seen").ok()
    assert [item.rpartition("marked-")[2] for item in marked.items] == ["seen"]
    words = ("--argstr", "version", "3", "--arg", "double", "true", "-I", f"word={_WORK}/named")
    said = nix.push(f"nix:{_WORK}/said", *words, to=to).ok()
    assert [item[44:] for item in said.items] == ["said-3-twice-named"]
    strict = (*words, "--nix-option", "restrict-eval", "true")
    nix.push(f"nix:{_WORK}/said", *strict, to=to).failed(9, "restricted mode")
    one = nix.push(f"nix:{_WORK}/input", to=to).ok()
    assert one.items[0].endswith("-word-one")
    other = nix.push(
        f"nix:{_WORK}/input", "--override-input", "word", f"path:{_WORK}/other", to=to
    ).ok()
    assert other.items[0].endswith("-word-other")
    broken = nix.push("nix:.#broken", to=to).failed(9, "broken-1.0.drv", "exit code 3")
    assert "> this is why" in broken.said
