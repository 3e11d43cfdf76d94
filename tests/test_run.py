"""A root file system made by Debian's tools, pushed as a directory, really runs."""

import json
import os
import subprocess

import pytest

from tests.images import tree, unpack
from tests.program import push
from tests.registry.parts import find_part, real_part

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="making a root file system needs root")


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    root = tmp_path_factory.mktemp("debian") / "root"
    subprocess.run(
        [real_part("mmdebstrap"), "--mode=root", "--variant=essential", "bookworm", root],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return root


def run_in(bundle, *command):
    """The words printed by `command` in the unpacked image: by runc, or in a chroot."""
    runc = find_part("runc")
    config = bundle / "config.json"
    spec = json.loads(config.read_text())
    spec["process"] |= {"terminal": False, "args": list(command)}
    config.write_text(json.dumps(spec))
    if runc:
        name = f"regpush-test-{os.getpid()}"
        done = subprocess.run(
            [runc, "run", "-b", bundle, name], capture_output=True, text=True, timeout=60
        )
        if done.returncode == 0:
            return done.stdout
    return subprocess.run(
        ["chroot", bundle / "rootfs", *command], check=True, capture_output=True, text=True
    ).stdout


def test_debian_runs(docker_registry, repository, debian, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    done = push(debian, to, "--root-dir", "/", "--cmd", "cat /etc/os-release").ok()
    assert done.report["changed"]
    rootfs = unpack(f"{to}:latest", tmp_path / "out")
    real = {name: node for name, node in tree(debian).items() if not name.startswith(b"dev/")}
    assert tree(rootfs) == real
    assert (rootfs / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (rootfs / "bin/su").stat().st_mode & 0o7777 == 0o4755
    assert any(node.links for node in real.values())
    assert "Debian" in run_in(rootfs.parent, "cat", "/etc/os-release")
    again = push(debian, to, "--root-dir", "/", "--cmd", "cat /etc/os-release").ok()
    assert not again.report["changed"]
