"""Many pushers of one tag, and a registry that dies under a push: real processes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.program import ROOT, environment
from tests.registry.faults import TroubledWire
from tests.registry.outcomes import verify_image
from tests.registry.servers import Registry, run_docker_registry, run_embedded_registry

MIB = 1 << 20

PUSHER = """
import json, os, sys
from pathlib import Path
import regpush
from regpush.options import PushOptions
from regpush.settings import Settings

root, to, number, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
(root / "node_modules/own").mkdir(parents=True)
digests = []
for turn in range(times):
    (root / "main.py").write_text(f"print({number}, {turn})")
    (root / "node_modules/own/x").write_text(str(number * turn % 5) * 50_000)
    done = regpush.push(str(root), to=to, options=PushOptions(cache=False), settings=Settings())
    digests.append(str(done.digest))
print(json.dumps(digests))
"""


def push_together(
    registry: Registry, repository: str, directory: Path, processes: int, times: int
) -> None:
    """All push to one tag at the same time: every push succeeds, and every image is whole."""
    running = []
    for number in range(processes):
        root = directory / f"pusher{number}" / "app"
        shared = root / "node_modules" / "shared" / "x"
        shared.parent.mkdir(parents=True)
        shared.write_bytes(random.Random(1).randbytes(300_000))
        arguments = [str(root), f"{registry.host}/{repository}", str(number), str(times)]
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", PUSHER, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
                cwd=ROOT,
            )
        )
    digests: set[str] = set()
    for process in running:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        digests |= set(json.loads(out))
    assert len(digests) == processes * times
    for digest in sorted(digests):
        assert verify_image(registry.host, repository, digest) == digest
    assert verify_image(registry.host, repository) in digests


def test_a_few_pushers_of_one_tag(registry: Registry, repository: str, tmp_path: Path) -> None:
    push_together(registry, repository, tmp_path, processes=3, times=4)


@pytest.mark.soak
def test_two_hundred_pushes_by_eight_processes(
    registry: Registry, repository: str, tmp_path: Path
) -> None:
    push_together(registry, repository, tmp_path, processes=8, times=25)


RUNNERS: list[Callable[[Path], AbstractContextManager[Registry]]] = [
    run_docker_registry,
    run_embedded_registry,
]


def push_while_dying(
    run: Callable[[Path], AbstractContextManager[Registry]],
    directory: Path,
    layers: int,
    size: int,
    deaths: int,
) -> None:
    """Push `layers` of `size` random bytes each to a registry that is killed again and again."""
    chance = random.Random(5)
    app = directory / "app"
    for number in range(layers):
        file = app / "node_modules" / f"p{number:02d}" / "x"
        file.parent.mkdir(parents=True)
        with file.open("wb") as out:
            for _ in range(size // MIB):
                out.write(chance.randbytes(MIB))
    home = directory / "registry"
    with run(home) as first, TroubledWire(first.host, []) as wire:
        registry = first
        command = [sys.executable, "-m", "regpush", str(app), "--to", f"{wire.host}/app"]
        process = subprocess.Popen(
            [*command, "--no-cache", "--retry-times", "8"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        stack = []
        try:
            for death in range(deaths):
                passed = layers * size * (death + 1) // (deaths + 1)
                assert wire.wait_until_passed(passed, 120), process.poll()
                assert process.poll() is None
                registry.stop()
                again = run(home)
                registry = again.__enter__()
                stack.append(again)
                wire.lead_to(registry.host)
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            assert out.strip().endswith(verify_image(registry.host, "app"))
            assert "retrying in" in err
        finally:
            process.kill()
            process.communicate()
            for again in reversed(stack):
                again.__exit__(None, None, None)


@pytest.mark.parametrize("run", RUNNERS, ids=["docker-registry", "embedded"])
def test_a_registry_that_is_killed_and_restarted(
    run: Callable[[Path], AbstractContextManager[Registry]], tmp_path: Path
) -> None:
    push_while_dying(run, tmp_path, layers=6, size=16 * MIB, deaths=1)


@pytest.mark.soak
@pytest.mark.parametrize("run", RUNNERS, ids=["docker-registry", "embedded"])
def test_a_registry_that_is_killed_three_times_during_a_gigabyte(
    run: Callable[[Path], AbstractContextManager[Registry]], tmp_path: Path
) -> None:
    push_while_dying(run, tmp_path, layers=16, size=64 * MIB, deaths=3)
