"""The quickstarts of the documents, as they stand, until the container answers.

Two things differ from what a user does: `localhost:5000` is the registry of the tests, and the
official base images are those of tests/bases.py. `podman run` is done by umoci and runc.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bases import OFFICIAL, put_stand_in
from tests.documents import blocks
from tests.images import unpack
from tests.program import environment, program_on_path
from tests.registry.parts import real_part
from tests.registry.servers import Registry

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="containers of runc need root here")

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
_ASK = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode(), end="")
"""
_START_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What `podman run` of a quickstart names: an image, and the port in it (0: none)."""

    image: str
    port: int


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
    env = environment(HOME=str(tmp_path / "home"), UV_PYTHON=sys.executable)
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
        assert done.returncode == 0, (command, done.stderr)
    program, verb, *words = shlex.split(last)
    assert (program, verb) == ("podman", "run")
    ports = re.findall(r"-p 8000:(\d+)", last)
    image = words[-1].replace("localhost:5000", registry.host)
    return Container(image=image, port=int(ports[0]) if ports else 0)


@contextmanager
def running(container: Container, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The image's own process in a container of runc, while the block lasts, and its name.

    It has a network of its own, so that its port is nobody else's.
    """
    bundle = unpack(container.image, tmp_path / "image").parent
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"]["terminal"] = False
    spec["process"].pop("rlimits", None)  # a runner may be unable to raise them
    (bundle / "config.json").write_text(json.dumps(spec))
    runc, name = real_part("runc"), f"regpush-{uuid.uuid4().hex[:12]}"
    process = subprocess.Popen(
        [runc, "run", "-b", bundle, name],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield process, name
    finally:
        subprocess.run([runc, "kill", name, "KILL"], capture_output=True)
        process.communicate(timeout=30)
        subprocess.run([runc, "delete", "-f", name], capture_output=True)


def answer(container: Container, tmp_path: Path) -> str:
    """What the container answers over HTTP at `/`."""
    url, said = f"http://127.0.0.1:{container.port}/", ""
    with running(container, tmp_path) as (process, name):
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            if process.poll() is not None:
                pytest.fail(f"it ended with {process.returncode}: {process.communicate()[0]}")
            state = subprocess.run(
                [real_part("runc"), "state", name], capture_output=True, text=True
            )
            if state.returncode == 0 and (pid := json.loads(state.stdout)["pid"]):
                inside = ["nsenter", "-t", str(pid), "-n", sys.executable, "-c", _ASK, url]
                done = subprocess.run(inside, capture_output=True, text=True)
                if done.returncode == 0:
                    return done.stdout
                said = done.stderr
            time.sleep(0.2)
    pytest.fail(f"no answer within {_START_S:.0f} s: {said}")


@pytest.mark.parametrize(
    ("name", "files", "tools"),
    [
        ("python", {"app.py": FLASK}, ("uv",)),
        ("python-directory", {"app.py": FLASK}, ("pip",)),
        ("node", {"server.js": EXPRESS}, ("node", "npm")),
        ("static", {"site/index.html": "hello"}, ("nginx",)),
        pytest.param("binary", {"server.go": GO}, ("go",), marks=pytest.mark.soak),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_answers(name, files, tools, docker_registry, tmp_path):
    container = pushed(name, files, tools, docker_registry, tmp_path)
    assert answer(container, tmp_path) == "hello"


@pytest.mark.soak
@pytest.mark.parametrize(("name", "tool"), [("nix", "nix"), ("guix", "guix")])
def test_it_says_hello(name, tool, docker_registry, tmp_path):
    container = pushed(name, {}, (tool,), docker_registry, tmp_path)
    with running(container, tmp_path) as (process, _):
        assert "Hello, world!" in process.communicate(timeout=_START_S)[0]
