"""The quickstarts of the documents, as they stand, until the container answers.

Two things differ from what a user does: `localhost:5000` is the registry of the tests, and the
official base images are those of tests/bases.py. `podman run` is done by umoci and runc.
Nix and Guix run in chroots (tests/chroots.py) whose package `hello` is a static program in C.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bases import OFFICIAL, put_stand_in
from tests.chroots import Chroot, chroot
from tests.containers import Container, answer, running
from tests.documents import blocks
from tests.greeting import GREETING, greeter
from tests.guix_daemon import running_guix
from tests.patience import HANG_S
from tests.program import environment, program_on_path
from tests.registry.parts import missing, real_part
from tests.registry.servers import Registry

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="containers of runc need root here")

_OFFLINE = re.compile(r"(?i)could ?n[o']t resolve host|name resolution|dns error")
"""What pip, uv and npm say of a network that is not there."""

FLASK = """
from flask import Flask

app = Flask(__name__)

@app.get("/")
def hello():
    return "hello"
"""
EXPRESS = """
require("express")().get("/", (_, reply) => reply.send("hello")).listen(8000)
"""
GO = """
package main

import (
	"fmt"
	"net/http"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") })
	panic(http.ListenAndServe(":8000", nil))
}
"""
FASTAPI = """
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

app = FastAPI()

@app.get("/", response_class=PlainTextResponse)
def hello():
    return "hello"
"""
NIXPKGS = """
{ outputs = { self }: { packages.x86_64-linux.hello = derivation {
    name = "hello-2.12.3"; system = "x86_64-linux"; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
    args = [ "-ec" "mkdir -p $out/bin; cp ${./program} $out/bin/hello" ];
  } // { meta.mainProgram = "hello"; }; };
}
"""
NIX_SETTINGS = """
build-users-group =
experimental-features = nix-command flakes
sandbox = false
substituters =
"""
COMMANDS = "/opt/regpush-commands"
NIX = "/opt/regpush-quickstart"
CARGO = """
[package]
name = "hello"
version = "0.1.0"
edition = "2021"
"""
RUST = """
use std::{io::{Read, Write}, net::TcpListener};

fn main() {
    for stream in TcpListener::bind("0.0.0.0:8000").unwrap().incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello");
    }
}
"""
JAVA = """
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

public class Hello {
    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(8000), 0);
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, 5);
            exchange.getResponseBody().write("hello".getBytes());
            exchange.close();
        });
        server.start();
    }
}
"""


def tools_of_this_user() -> dict[str, str]:
    """Where rustup has its toolchains, though HOME is another."""
    return {
        "CARGO_HOME": os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo")),
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", os.path.expanduser("~/.rustup")),
    }


def pushed(
    name: str, files: dict[str, str], tools: tuple[str, ...], registry: Registry, tmp_path: Path
) -> Container:
    """Run the block `quickstart-NAME` in a folder of `files`; its last line is what to run."""
    for tool in tools:
        real_part(tool)
    home = tmp_path / "project"
    for path, text in files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    home.mkdir(exist_ok=True)
    env = environment(HOME=str(tmp_path / "home"), UV_PYTHON=sys.executable, **tools_of_this_user())
    del env["PYTHONWARNINGS"]  # pip and uv are not ours
    # Where the index is reached through a proxy with a certificate of its own, the system has it.
    env["UV_SYSTEM_CERTS"] = env["UV_NATIVE_TLS"] = "1"
    env["PATH"] = program_on_path(tmp_path / "bin", env["PATH"])
    (block,) = blocks(f"quickstart-{name}")
    *commands, last = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    for command in commands:
        for official in OFFICIAL:
            if official in command:
                command = command.replace(official, put_stand_in(registry, official))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace("localhost:5000", registry.host)],
            cwd=home, env=env, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        if done.returncode and _OFFLINE.search(done.stderr):
            missing(f"'{command}' cannot reach what it downloads from")
        assert done.returncode == 0, (command, done.stderr)
    program, verb, *words = shlex.split(last)
    assert (program, verb) == ("podman", "run")
    ports = re.findall(r"-p 8000:(\d+)", last)
    image = words[-1].replace("localhost:5000", registry.host)
    return Container(image=image, port=int(ports[0]) if ports else 0)


@pytest.mark.parametrize(
    ("name", "files", "tools"),
    [
        ("python", {"app.py": FLASK}, ("uv",)),
        ("python-directory", {"app.py": FLASK}, ("pip",)),
        ("node", {"server.js": EXPRESS}, ("node", "npm")),
        ("static", {"site/index.html": "hello"}, ("nginx",)),
        pytest.param("binary", {"server.go": GO}, ("go",), marks=pytest.mark.soak),
        pytest.param("fastapi", {"app.py": FASTAPI}, ("pip",), marks=pytest.mark.soak),
        pytest.param(
            "rust", {"Cargo.toml": CARGO, "src/main.rs": RUST}, ("cargo",), marks=pytest.mark.soak
        ),
        pytest.param("jar", {"Hello.java": JAVA}, ("javac", "jar"), marks=pytest.mark.soak),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_answers(name, files, tools, docker_registry, tmp_path):
    container = pushed(name, files, tools, docker_registry, tmp_path)
    assert answer(container, tmp_path) == "hello"


def says(name: str, inside: Chroot, registry: Registry, env: dict[str, str], scratch: Path) -> str:
    """What the container of the block `quickstart-NAME` prints, after a push in the chroot."""
    inside.write(f"{COMMANDS}/regpush", '#!/bin/sh\nexec python3 -m regpush "$@"\n', 0o755)
    (block,) = blocks(f"quickstart-{name}")
    command, last = (line[2:] for line in block.splitlines() if line.startswith("$ "))
    words = ("bash", "-euc", f"PATH={COMMANDS}:$PATH; {command}".replace(*at(registry)))
    inside.output(*words, env=env)
    program, verb, *words = shlex.split(last.replace(*at(registry)))
    assert (program, verb) == ("podman", "run")
    with running(Container(image=words[-1], port=0), scratch) as (process, _):
        return process.communicate(timeout=HANG_S)[0]


def at(registry: Registry) -> tuple[str, str]:
    """The registry of the documents, and the one of the tests that stands for it."""
    return "localhost:5000", registry.host


@pytest.mark.soak
@pytest.mark.parametrize("suite", ["trixie", "sid"])
def test_hello_of_nix(suite: str, docker_registry: Registry, tmp_path: Path) -> None:
    """The registry of flakes, a setting of Nix, leads `nixpkgs` to a flake on this disk."""
    inside = chroot(suite, tmp_path)
    inside.write(f"{NIX}/nixpkgs/flake.nix", NIXPKGS)
    shutil.copy(greeter(tmp_path), inside.root / f"{NIX[1:]}/nixpkgs/program")
    named = {"type": "indirect", "id": "nixpkgs"}, {"type": "path", "path": f"{NIX}/nixpkgs"}
    entry = dict(zip(("from", "to"), named, strict=True))
    registry = inside.write(f"{NIX}/registry.json", json.dumps({"version": 2, "flakes": [entry]}))
    inside.write(f"{NIX}/nix.conf", f"{NIX_SETTINGS}flake-registry = {registry}\n")
    env = {"NIX_CONF_DIR": NIX, "NIX_REMOTE": "local", "HOME": f"{NIX}/home"}
    assert says("nix", inside, docker_registry, env, tmp_path) == GREETING


@pytest.mark.soak
def test_hello_of_guix(docker_registry: Registry, tmp_path: Path) -> None:
    with running_guix(tmp_path) as guix:
        guix.supply("hello", ours=False)
        assert says("guix", guix.inside, docker_registry, {}, tmp_path) == GREETING
