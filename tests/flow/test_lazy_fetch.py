"""What a binary cache has is planned without it, and fetched only for layers that must go."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.test_push_directory import below, has_tag
from tests.images import unpack
from tests.patience import HANG_S
from tests.program import environment, push, regpush
from tests.registry.parts import real_part
from tests.stores import CacheServer, NixStore, emptied

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="nix-build here needs root")


class Published:
    """Two versions of an app in a store, and in a binary cache that is signed."""

    def __init__(self, root: Path) -> None:
        self.nix = NixStore(root / "nix")
        self.one, self.two = self.nix.build("1"), self.nix.build("2")
        self.directory = root / "cache"
        key = root / "secret-key"
        self.nix.run("nix-store", "--generate-binary-cache-key", "test-1", str(key), f"{key}.pub")
        self.key = Path(f"{key}.pub").read_text()
        self.nix.run("nix", "copy", "--to", f"file://{self.directory}?secret-key={key}",
                     str(self.one), str(self.two))  # fmt: skip

    @property
    def trusting(self) -> dict[str, str]:
        return {"NIX_CONFIG": f"substituters =\ntrusted-public-keys = {self.key}"}

    def copied(self, to: Path) -> Path:
        """A cache of a test's own, to spoil."""
        shutil.copytree(self.directory, to)
        return to

    def nar_size(self, path: Path) -> int:
        """Bytes that the cache has of `path`, compressed; by its own index."""
        (size,) = (
            line.partition(": ")[2]
            for line in narinfo(self.directory, path).read_text().splitlines()
            if line.startswith("FileSize: ")
        )
        return int(size)


def narinfo(cache: Path, path: Path | str) -> Path:
    return cache / f"{Path(path).name[:32]}.narinfo"


def nar(cache: Path, path: Path) -> Path:
    (url,) = (
        line.partition(": ")[2]
        for line in narinfo(cache, path).read_text().splitlines()
        if line.startswith("URL: ")
    )
    return cache / url


def nix_items(done) -> list[str]:
    layers = done.report["images"][0]["layers"]
    return [item for layer in layers for item in layer["items"] if item.startswith("/")]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Published:
    real_part("nix")
    return Published(tmp_path_factory.mktemp("published"))


@pytest.mark.parametrize("by", ["http", "file"])
def test_only_the_app_is_fetched_where_only_the_app_changed(
    docker_registry, repository, published, tmp_path, wire, by
):
    nix, to = published.nix, f"{docker_registry.host}/{repository}"
    push(published.one, to, env=nix.environment).ok()
    proxy = wire(docker_registry)
    with CacheServer(published.directory) as server, emptied(nix, tmp_path) as empty:
        url = server.url if by == "http" else f"file://{published.directory}"
        through = f"{proxy.host}/{repository}"
        env = empty | published.trusting
        done = push(published.two, through, "--nix-cache", url, env=env).ok()
        assert os.listdir(nix.store) == []
        if by == "http":
            # All that came: the index of the closure, once, and the app.
            assert [one.size for one in server.nars] == [published.nar_size(published.two)]
            infos = {one.path for one in server.answers if one.path.endswith(".narinfo")}
            assert len(infos) == len(nix_items(done))
            index = sum(
                narinfo(published.directory, item).stat().st_size for item in nix_items(done)
            )
            came = sum(one.size for one in server.answers)
            assert came <= published.nar_size(published.two) + 2 * index
        fetched = [line for line in done.stderr.splitlines() if " from file:///" in line
                   or " from http://" in line]  # fmt: skip
        assert [line.partition(":")[0] for line in fetched] == [str(published.two)]
        assert done.actions == ["reused"] * (len(done.actions) - 1) + ["uploaded"]
        assert proxy.stats().bytes_up < 20_000
        configured = dict(env)
        configured["NIX_CONFIG"] += f"\nsubstituters = {url}"
        planned = regpush("plan", published.two, "--to", to, env=configured).ok()
        assert "Would send 0 B" in planned.stdout
        again = push(published.two, to, "--nix-cache", url, env=env).ok()
        assert again.report["changed"] is False
        assert len(server.nars) == (by == "http")
    here = push(published.two, to, env=nix.environment).ok()
    assert here.report["digest"] == done.report["digest"]
    root = unpack(f"{to}:latest", tmp_path / "out")
    for path in nix.closure(published.two):
        assert below(root / path.lstrip("/")) == below(path), path


def test_nothing_is_taken_that_nobody_trusted_has_signed(
    docker_registry, repository, published, tmp_path
):
    to = f"{docker_registry.host}/{repository}"
    url = f"file://{published.directory}"
    with emptied(published.nix, tmp_path) as env:
        done = push(published.one, to, "--nix-cache", url, env=env)
        done.failed(9, published.one.name, "no binary cache has it with a trusted signature")
        assert "not signed by a key in trusted-public-keys" in done.stderr
        assert not has_tag(docker_registry, repository, "latest")
        push(published.one, to, "--nix-cache", f"{url}?trusted=1", env=env).ok()
        lax = {"NIX_CONFIG": f"substituters = {url}\nrequire-sigs = false"}
        push(published.one, f"{to}:b", "--reuse", "none", env=env | lax).ok()


def test_what_comes_is_what_was_announced(docker_registry, repository, published, tmp_path):
    """The files of one version under the signed name of the other."""
    to = f"{docker_registry.host}/{repository}"
    cache = published.copied(tmp_path / "cache")
    shutil.copyfile(nar(cache, published.two), nar(cache, published.one))
    with emptied(published.nix, tmp_path) as empty:
        env = empty | published.trusting
        done = push(published.one, to, "--nix-cache", f"file://{cache}", env=env)
        done.failed(9, published.one.name, "but the cache states sha256:")
    assert not has_tag(docker_registry, repository, "latest")


def test_caches_complete_each_other_and_the_store(docker_registry, repository, published, tmp_path):
    """One has no glibc, one has nothing else; a third of the closure is here already."""
    nix, to = published.nix, f"{docker_registry.host}/{repository}"
    paths = nix.closure(published.one)
    (libc,) = (path for path in paths if "libc-" in path)
    (tz,) = (path for path in paths if "tzdata-" in path)
    first, second = published.copied(tmp_path / "first"), published.copied(tmp_path / "second")
    narinfo(first, libc).unlink()
    for path in set(paths) - {libc}:
        narinfo(second, path).unlink()
    narinfo(first, tz).unlink()
    caches = ["--nix-cache", f"file://{first}", "--nix-cache", f"file://{second}"]
    with emptied(nix, tmp_path) as empty:
        env = empty | published.trusting
        done = push(published.one, to, *caches, env=env)
        done.failed(9, published.one.name)
        assert f"but {tz}, to which it refers, is in none" in done.stderr
        nix.run("nix", "copy", "--no-check-sigs", "--from", f"file://{published.directory}", tz)
        done = push(published.one, to, *caches, env=env).ok()
        assert "4 of 5 paths in binary caches" in done.stderr
        # What is here is not fetched, though a cache has it as well.
        whole = ["--nix-cache", f"file://{published.directory}", "--reuse", "none"]
        again = push(published.one, f"{to}:again", *whole, env=env).ok()
        assert f"{tz}: " not in again.stderr
        assert again.report["digest"] == done.report["digest"]
    assert sorted(nix_items(done)) == sorted(paths)
    root = unpack(f"{to}:latest", tmp_path / "out")
    for path in paths:
        assert below(root / path.lstrip("/")) == below(path), path


def test_a_cache_that_takes_connections_and_says_nothing(
    docker_registry, repository, published, tmp_path
):
    """Nix waits 300 s for its first byte (`stalled-download-timeout`): it is asked once.

    Of the others, the first has lost all files, and the second has them.
    """
    lacking = published.copied(tmp_path / "lacking")
    shutil.rmtree(lacking / "nar")
    nix, to = published.nix, f"{docker_registry.host}/{repository}"
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as mute,
        emptied(nix, tmp_path) as empty,
    ):
        silent = f"http://127.0.0.1:{mute.getsockname()[1]}"
        urls = (silent, f"file://{lacking}", f"file://{published.directory}")
        caches = [word for url in urls for word in ("--nix-cache", url)]
        env = empty | published.trusting
        done = push(published.one, to, *caches, env=env, timeout=2 * HANG_S).ok()
    assert f"the binary cache {silent} is not used by this push" in done.stderr
    assert sorted(nix_items(done)) == sorted(nix.closure(published.one))


def test_installables_in_a_cache_are_not_built(docker_registry, repository, published, tmp_path):
    nix, to = published.nix, f"{docker_registry.host}/{repository}"
    here = push(published.one, f"{to}:here", env=nix.environment).ok()
    with emptied(nix, tmp_path) as empty:
        env = empty | published.trusting
        cache = ["--nix-cache", f"file://{published.directory}"]
        done = push(f"nix:{nix.root}/app.nix", f"{to}:there", *cache, env=env).ok()
        assert "building " not in done.stderr
        assert all(name.endswith(".drv") for name in os.listdir(nix.store) if "-" in name)
        # Without the cache there is nothing for it but to build.
        built = push(f"nix:{nix.root}/app.nix", f"{to}:built", env=env).ok()
        assert "building " in built.stderr
    assert done.report["digest"] == here.report["digest"] == built.report["digest"]


def test_a_cache_that_fails_half_way(docker_registry, repository, published, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    with CacheServer(published.directory) as server, emptied(published.nix, tmp_path) as empty:
        server.broken = True
        env = empty | published.trusting | {"TMPDIR": str(tmp_path)}
        env["NIX_CONFIG"] += "\ndownload-attempts = 1"
        done = push(published.one, to, "--nix-cache", server.url, env=env)
        done.failed(9, "nix store dump-path failed", "HTTP error 500")
        assert not has_tag(docker_registry, repository, "latest")
        assert not list(tmp_path.glob("regpush-*"))
        server.broken = False
        push(published.one, to, "--nix-cache", server.url, env=env).ok()


def test_ctrl_c_while_a_cache_stalls(docker_registry, repository, published, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    with CacheServer(published.directory) as server, emptied(published.nix, tmp_path) as empty:
        server.release.clear()
        env = environment(**empty | published.trusting | {"TMPDIR": str(tmp_path)})
        process = subprocess.Popen(
            [sys.executable, "-m", "regpush", published.one, "--to", to, "--nix-cache", server.url],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert server.stalled.wait(HANG_S)
        process.send_signal(signal.SIGINT)
        # The cache stalls for longer.
        _, said = process.communicate(timeout=HANG_S)
        assert process.returncode == 130, said
        assert not list(tmp_path.glob("regpush-*"))
    assert not has_tag(docker_registry, repository, "latest")
