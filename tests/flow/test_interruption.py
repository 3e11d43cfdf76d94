"""Ctrl-C, SIGTERM and SIGKILL at whatever moment: real processes, real registries."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.patience import HANG_S, wait_until
from tests.program import environment, regpush
from tests.registry.faults import FOREVER, Act, Answer, Asked, Rule, Upstream, fault_server
from tests.registry.outcomes import make_app, tagged, verify_image
from tests.registry.servers import Registry
from tests.registry_client.opening import open_sessions

MIB = 1 << 20


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """With one layer that is too large for memory, and so is streamed."""
    root = make_app(tmp_path / "app")
    chance = random.Random(9)
    with (root / "node_modules" / "big" / "x").open("wb") as file:
        for _ in range(48):
            file.write(chance.randbytes(MIB))
    return root


def start(app: Path, to: str, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "regpush", str(app), "--to", to, "--no-cache", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # As from a terminal: under nohup(1), which the tests may run under, it would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def hold(released: threading.Event, reached: threading.Event) -> Act:
    """The request is held up until the test is over, and never answered."""

    def act(asked: Asked, upstream: Upstream) -> Answer | None:
        reached.set()
        released.wait(2 * HANG_S)
        return None

    return act


@pytest.mark.parametrize(
    ("method", "kind", "number", "code"),
    [
        ("GET", "tag", signal.SIGINT, 130),
        ("HEAD", "blob", signal.SIGINT, 130),
        ("POST", "open", signal.SIGINT, 130),
        ("PATCH", "upload", signal.SIGINT, 130),
        ("PATCH", "upload", signal.SIGTERM, 143),
        ("PATCH", "upload", signal.SIGHUP, 129),
        ("PUT", "upload", signal.SIGINT, 130),
        ("PUT", "manifest", signal.SIGTERM, 143),
    ],
)
def test_a_signal_ends_a_push_that_waits_for_the_registry(
    docker_registry: Registry,
    repository: str,
    app: Path,
    method: str,
    kind: str,
    number: signal.Signals,
    code: int,
) -> None:
    released, reached = threading.Event(), threading.Event()
    rule = Rule(hold(released, reached), method, kind, times=FOREVER)
    with fault_server(docker_registry.host, rule) as server:
        process = start(app, f"{server.host}/{repository}")
        try:
            assert reached.wait(HANG_S)
            process.send_signal(number)
            out, err = process.communicate(timeout=HANG_S)
            if (method, kind) == ("PATCH", "upload"):
                deleted = partial(server.count, "DELETE", "upload")
                wait_until(deleted, "the upload to be deleted")
        finally:
            released.set()
            process.kill()
            process.wait()
    assert (process.returncode, out) == (code, ""), err
    assert "cancelled: no tag was moved; running again continues" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert tagged(docker_registry.host, repository) is None
    if (method, kind) == ("PUT", "manifest"):
        assert open_sessions(docker_registry, repository) == []


def test_a_signal_between_tags_names_them(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    released, reached = threading.Event(), threading.Event()
    second = Rule(hold(released, reached), "PUT", "tag", times=FOREVER, after=1)
    with fault_server(docker_registry.host, second) as server:
        process = start(app, f"{server.host}/{repository}:one", "-t", "two", "-t", "three")
        try:
            assert reached.wait(HANG_S)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=HANG_S)
        finally:
            released.set()
            process.kill()
            process.wait()
    assert process.returncode == 130
    assert "one, two may name sha256:" in err.splitlines()[-1]
    assert verify_image(docker_registry.host, repository, "one")
    assert tagged(docker_registry.host, repository, "three") is None


def test_a_second_signal_does_not_wait(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    released, reached = threading.Event(), threading.Event()
    rule = Rule(hold(released, reached), "POST", "open", times=FOREVER)
    with fault_server(docker_registry.host, rule) as server:
        process = start(app, f"{server.host}/{repository}")
        try:
            assert reached.wait(HANG_S)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=HANG_S)
        finally:
            released.set()
            process.kill()
            process.wait()
    assert process.returncode in (130, 143)


def killed_runs(registry: Registry, repository: str, app: Path, seeds: range) -> list[int]:
    """Kill a push at a random moment, again and again; then let one through. Requests of each."""
    requests = []
    for seed in seeds:
        chance = random.Random(seed)
        name = f"{repository}-{seed}"
        with fault_server(registry.host) as server:
            before = None
            for _ in range(2):
                process = start(app, f"{server.host}/{name}")
                # Starting takes some 0.2 s, all the rest about as long.
                timer = threading.Timer(chance.uniform(0.15, 1.2), process.kill)
                timer.start()
                process.communicate()
                timer.cancel()
                now = tagged(registry.host, name)
                if now != before:
                    assert verify_image(registry.host, name) == now
                before = now
            server.asked.clear()
            done = regpush(app, "--to", f"{server.host}/{name}", "--no-cache").ok()
            digest = verify_image(registry.host, name)
            assert done.stdout.strip().endswith(digest)
            requests.append(sum(len(asked.body) for asked in server.asked))
    return requests


def test_a_push_that_is_killed_leaves_no_wrong_tag(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    killed_runs(docker_registry, repository, app, range(1))


@pytest.mark.soak
def test_a_push_that_is_killed_again_and_again(
    registry: Registry, repository: str, app: Path
) -> None:
    killed_runs(registry, repository, app, range(25))


def test_the_next_run_skips_the_blobs_that_are_there(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    """Killed at its manifest, when all blobs stand: the next run sends no layer."""
    released, reached = threading.Event(), threading.Event()
    rule = Rule(hold(released, reached), "PUT", "manifest")
    with fault_server(docker_registry.host, rule) as server:
        process = start(app, f"{server.host}/{repository}")
        try:
            assert reached.wait(HANG_S)
            process.kill()
        finally:
            process.communicate()
            released.set()
        assert tagged(docker_registry.host, repository) is None
        server.asked.clear()
        regpush(app, "--to", f"{server.host}/{repository}", "--no-cache").ok()
        # The one larger than memory has no name before it is read: it goes again.
        small = [a for a in server.asked if a.kind == "upload" and a.method == "PUT" and a.body]
        assert small == []
    verify_image(docker_registry.host, repository)
