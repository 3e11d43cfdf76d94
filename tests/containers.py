"""Runs containers of pushed images by umoci and runc, and reads their replies over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images import unpack
from tests.patience import HANG_S
from tests.registry.parts import real_part

_ASK = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode(), end="")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """The reference of an image, and the port that its process listens at (0 for none)."""

    image: str
    port: int


@contextmanager
def running(container: Container, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the image's own process in a container of runc; yields the process and the name.

    The container has a network of its own, so that no other process uses its port.
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
        process.communicate(timeout=HANG_S)
        subprocess.run([runc, "delete", "-f", name], capture_output=True)


def answer(container: Container, tmp_path: Path) -> str:
    """Run the container and return the body of its reply over HTTP to `GET /`."""
    url, said = f"http://127.0.0.1:{container.port}/", ""
    with running(container, tmp_path) as (process, name):
        end = time.monotonic() + HANG_S
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
    pytest.fail(f"no answer within {HANG_S:.0f} s: {said}")
