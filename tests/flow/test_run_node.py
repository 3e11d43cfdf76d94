"""Express apps that the real npm has locked: what is in their images, what they do, what it costs.

The packages come through a server of the test, which counts: nothing of a cost is believed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.bases import put_stand_in
from tests.containers import Container, answer
from tests.images import tree, unpack
from tests.patience import HANG_S
from tests.program import Outcome, push
from tests.registry.parts import real_part

NEEDS = {
    "express": "^4",
    "express-debug": "npm:debug@^4",  # an alias
    "semver": "7.5.0",  # a program of its own
    "@parcel/watcher": "^2.4",  # has a binding.gyp, and a package for each platform
}
SERVER = """
const express = require("express");
const watcher = require("@parcel/watcher");
const debug = require("express-debug")("app");
express().get("/", (_, reply) => reply.send(typeof watcher.subscribe)).listen(8000);
"""


@dataclass
class Mirror:
    """A server in front of npm's own registry; `gets` are names of tarballs, in order."""

    url: str = ""
    gets: list[str] = field(default_factory=list)
    bytes_sent: int = 0


@contextmanager
def _mirror(upstream: str) -> Iterator[Mirror]:
    mirror, lock, known = Mirror(), threading.Lock(), {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path not in known:
                reply = urllib.request.urlopen(upstream + self.path, timeout=HANG_S)
                known[self.path] = reply.read()
            body = known[self.path]
            with lock:
                mirror.gets.append(self.path.rpartition("/")[2])
                mirror.bytes_sent += len(body)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mirror.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Npm:
    """The real npm, with a cache of the test run's own."""

    program: str
    cache: Path

    def run(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        flags = ("--no-audit", "--no-fund", "--ignore-scripts", f"--cache={self.cache}")
        return subprocess.run(
            [self.program, *words, *flags], cwd=cwd, capture_output=True, text=True
        )


@pytest.fixture(scope="module")
def npm(tmp_path_factory: pytest.TempPathFactory) -> Npm:
    return Npm(real_part("npm"), tmp_path_factory.mktemp("npm"))


@pytest.fixture(scope="module")
def locked_shop(tmp_path_factory: pytest.TempPathFactory, npm: Npm) -> Path:
    """A project that npm has just locked; it is skipped where npm reaches no registry."""
    folder = tmp_path_factory.mktemp("shop")
    manifest = {"name": "shop", "version": "1.0.0", "engines": {"node": "^22"},
                "scripts": {"start": "node server.js"}, "dependencies": NEEDS,
                "devDependencies": {"ms": "2.1.2"}}  # fmt: skip
    (folder / "package.json").write_text(json.dumps(manifest))
    (folder / "server.js").write_text(SERVER)
    done = npm.run("install", "--package-lock-only", cwd=folder)
    if done.returncode:
        reason = f"npm reaches no registry: {done.stderr.splitlines()[:1]}"
        if os.environ.get("REGPUSH_REQUIRE_REAL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture
def shop(locked_shop: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(locked_shop, tmp_path / "shop"))


@pytest.fixture(scope="module")
def mirror(npm: Npm, locked_shop: Path) -> Iterator[Mirror]:
    upstream = npm.run("config", "get", "registry", cwd=locked_shop).stdout.strip().rstrip("/")
    with _mirror(upstream) as found:
        yield found


def _packages(project: Path, *, omit: str = "dev") -> set[str]:
    """Names of the tarballs that a lock has for this machine, as npm names them."""
    lock = json.loads((project / "package-lock.json").read_text())
    found = set()
    for at, one in lock["packages"].items():
        if at and not one.get(omit) and "linux" in one.get("os", ["linux"]):
            name = one.get("name", at.rpartition("node_modules/")[2]).rpartition("/")[2]
            found.add(f"{name}-{one['version']}.tgz")
    return found


@pytest.mark.skipif(os.getuid() != 0, reason="containers of runc need root here")
def test_an_app_is_what_npm_leaves_and_answers(
    npm, shop, mirror, docker_registry, repository, tmp_path
):
    to = f"{docker_registry.host}/{repository}:1"
    base = put_stand_in(docker_registry, "docker.io/library/node:22-slim")

    def pushed() -> Outcome:
        """A push from an empty home; what the mirror gives is counted from zero."""
        mirror.gets.clear()
        mirror.bytes_sent = 0
        return push(f"node:{shop}", to, "--from", base, "--index-url", mirror.url).ok()

    first = pushed()
    assert set(mirror.gets) <= _packages(shop)
    assert len(mirror.gets) == len(set(mirror.gets)) > 60
    assert "ms-2.1.2.tgz" not in mirror.gets

    found = tree(unpack(to, tmp_path / "out") / "app/node_modules")
    assert npm.run("ci", "--omit=dev", cwd=shop).returncode == 0
    (shop / "node_modules/.package-lock.json").unlink()
    wanted = tree(shop / "node_modules")
    assert len(wanted) > 500
    assert found == wanted
    shutil.rmtree(shop / "node_modules")
    assert answer(Container(image=to, port=8000), tmp_path) == "function"

    again = pushed()
    assert (mirror.gets, mirror.bytes_sent) == ([], 0)
    assert again.report["bytes"]["uploaded"] == 0
    assert again.report["digest"] == first.report["digest"]

    (shop / "server.js").write_text(SERVER.replace("typeof", "'a ' + typeof"))
    changed = pushed()
    assert (mirror.gets, mirror.bytes_sent) == ([], 0)
    (layer,) = _sent(changed)
    assert layer["items"] == ["/app"]

    npm.run("install", "--package-lock-only", "--save-exact", "semver@7.5.1", cwd=shop)
    newer = pushed()
    own, theirs = sorted(_sent(newer), key=lambda one: "/app" not in one["items"])
    assert own["items"] == ["/app"]  # package.json has changed
    held = {path.rpartition("node_modules/")[2].rpartition("/")[2] for path in theirs["items"]}
    assert set(mirror.gets) == {f"{one.replace('@', '-')}.tgz" for one in held}
    assert "semver-7.5.1.tgz" in mirror.gets
    assert answer(Container(image=to, port=8000), tmp_path / "newer") == "a function"


def _sent(outcome: Outcome) -> list[dict]:
    (image,) = outcome.report["images"]
    return [one for one in image["layers"] if one["action"] == "uploaded"]


@pytest.mark.parametrize("libc", ["glibc", "musl"])
def test_for_another_machine(shop, mirror, docker_registry, repository, tmp_path, libc):
    to = f"{docker_registry.host}/{repository}:1"
    push(f"node:{shop}", to, "--from", "none", "--platform", "linux/arm64", "--libc", libc,
         "--index-url", mirror.url).ok()  # fmt: skip
    folder = unpack(to, tmp_path / "out") / "app/node_modules"
    found = list(folder.rglob("*.node"))
    assert {path.parent.name for path in found} == {f"watcher-linux-arm64-{libc}"}
    for path in found:
        # ELF header, e_machine: EM_AARCH64 is 183.
        head = path.read_bytes()[:20]
        assert (head[:4], int.from_bytes(head[18:20], "little")) == (b"\x7fELF", 183)


PNPM_NEEDS = {
    "express": "^4",
    "express-debug": "npm:debug@^4",
    "semver": "^7",
    "rimraf": "^3",  # has a program, and needs packages that have
    "react-dom": "^18",  # has a peer
    "react": "^18",
    "JSONStream": "^1",  # upper case, which changes the name of its folder
    "@parcel/watcher": "^2.4",
}


@pytest.fixture(scope="module")
def pnpm(tmp_path_factory: pytest.TempPathFactory, npm: Npm, locked_shop: Path) -> list[str]:
    """The command that runs the real pnpm, which npm installs."""
    folder = tmp_path_factory.mktemp("pnpm")
    done = npm.run("install", "--prefix", str(folder), "pnpm@10", cwd=folder)
    assert done.returncode == 0, done.stderr
    return [str(folder / "node_modules/.bin/pnpm"), f"--config.store-dir={folder / 'store'}",
            "--config.prefer-symlinked-executables=true"]  # fmt: skip


def test_a_workspace_is_what_pnpm_leaves(pnpm, mirror, docker_registry, repository, tmp_path):
    shop, to = tmp_path / "shop", f"{docker_registry.host}/{repository}:1"
    lib = shop / "packages/lib"
    lib.mkdir(parents=True)
    (shop / "pnpm-workspace.yaml").write_text("packages: [packages/*]\n")
    lists = {
        shop: {"name": "shop", "dependencies": {**PNPM_NEEDS, "@shop/lib": "workspace:*"},
               "devDependencies": {"ms": "2.1.2"}},
        lib: {"name": "@shop/lib", "version": "1.0.0", "bin": {"lib": "cli.js"},
              "dependencies": {"debug": "^2", "mkdirp": "^1"}},
    }  # fmt: skip
    for folder, manifest in lists.items():
        (folder / "package.json").write_text(json.dumps(manifest))
        (folder / "cli.js").write_text("#!/usr/bin/env node\n")
    env = {**os.environ, "CI": "true", "HOME": str(tmp_path / "home")}

    def run(*words: str) -> None:
        command = [*pnpm, "install", "--ignore-scripts", *words]
        done = subprocess.run(command, cwd=shop, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    run("--lockfile-only")
    mirror.gets.clear()
    push(f"node:{shop}", to, "--from", "none", "--index-url", mirror.url).ok()
    assert len(mirror.gets) == len(set(mirror.gets)) > 60
    found = unpack(to, tmp_path / "out") / "app"
    run("--frozen-lockfile", "--prod")
    for record in (".modules.yaml", ".pnpm-workspace-state-v1.json", ".pnpm/lock.yaml"):
        (shop / "node_modules" / record).unlink(missing_ok=True)
    wanted = tree(shop / "node_modules")
    assert len(wanted) > 1000
    assert tree(found / "node_modules") == _without_shared(wanted)
    assert tree(found / "packages/lib/node_modules") == tree(lib / "node_modules")


def _without_shared(found):
    """pnpm's files are hard links into its store, which no image has."""
    return {path: replace(one, links=()) for path, one in found.items()}
