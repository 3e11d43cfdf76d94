"""A root file system made by Debian's tools, pushed as a directory, really runs."""

import json
import os
import subprocess

import pytest

from tests.images import tree, unpack
from tests.patience import HANG_S
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
        timeout=3 * HANG_S,
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
            [runc, "run", "-b", bundle, name], capture_output=True, text=True, timeout=HANG_S
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


def test_an_app_on_debian_leaves_links_and_modes_alone(
    docker_registry, repository, debian, tmp_path
):
    """`/bin` is a link there and `/tmp` open to all; neither is touched by what goes into it."""
    base, to = f"{docker_registry.host}/{repository}-base", f"{docker_registry.host}/{repository}"
    push(debian, base, "--root-dir", "/", "--cmd", "cat /etc/os-release").ok()
    assert (debian / "bin").is_symlink()
    real = {path: node for path, node in tree(debian).items() if not path.startswith(b"dev/")}
    top = tmp_path / "top"
    for path in ("bin", "tmp", "usr/local/bin", "srv/app"):
        (top / path).mkdir(parents=True)
    (top / "bin/hello").write_text("#!/bin/sh\necho hello from $0\n")
    (top / "bin/hello").chmod(0o755)
    (top / "tmp/note").write_text("x")
    (top / "srv/app/data").write_text("z")
    names = []
    for root, path, name in (
        ("/", top, "bin/hello"),
        ("/bin/tools", top / "bin", "bin/tools/hello"),
        ("/tmp/cache", top / "tmp", "tmp/cache/note"),
    ):
        names.append(name)
        done = push(path, f"{to}:{len(names)}", "--from", base, "--root-dir", root).ok()
        below = {one["action"] for one in done.report["images"][0]["base"]["layers"]}
        assert below <= {"mounted", "reused"}
        base = f"{to}:{len(names)}"
    rootfs = unpack(base, tmp_path / "out")
    assert all((rootfs / name).exists() for name in names)
    assert {path: node for path, node in tree(rootfs).items() if path in real} == real
    assert (rootfs / "srv/app/data").read_text() == "z"
    assert run_in(rootfs.parent, "hello") == "hello from /usr/bin/hello\n"
