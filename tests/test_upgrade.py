"""An upgrade of regpush keeps its promise: an unchanged app sends no dependency layer.

An earlier commit's package pushes an app, then this one does, from an empty machine each. What
must break this comes once, together with a line in the CHANGELOG and a new commit here.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import ROOT, environment, push
from tests.registry.parts import real_part
from tests.stores import NixStore

STORES_SINCE = "18e938ca092a"
"""From this commit on, layers of store items are found again."""


def package_of(commit: str, folder: Path) -> Path:
    """The package `regpush` of a commit, in a folder of its own."""
    archive = ["git", "-C", ROOT, "archive", "--format=tar", commit, "regpush"]
    made = subprocess.run(archive, capture_output=True)
    if made.returncode:
        pytest.skip(f"no git history with {commit}: {made.stderr.decode().strip()}")
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=made.stdout, check=True)
    return folder


def push_with(package: Path, target, to: str, **env: str) -> None:
    words = [sys.executable, "-m", "regpush", target, "--to", to, "--no-cache"]
    env = environment(**env) | {"PYTHONPATH": str(package), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(words, env=env, cwd=package, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="nix-build here needs root")
def test_layers_of_a_store_are_found_again(docker_registry, repository, tmp_path):
    real_part("nix")
    nix = NixStore(tmp_path / "nix")
    app, to = nix.build("1"), f"{docker_registry.host}/{repository}"
    push_with(package_of(STORES_SINCE, tmp_path / "before"), app, to, **nix.environment)
    now = push(app, to, env=nix.environment).ok()
    assert set(now.actions) == {"reused"}
