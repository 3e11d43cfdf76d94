"""Trees that other file systems are mounted into: bind mounts and overlayfs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.test_push_directory import below
from tests.images import unpack
from tests.program import environment

MOUNT = """
set -e
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged
mount --bind other app/bound
mount --bind merged app/overlay
echo copied up >> app/overlay/sub/changed
cp -a app/. expected
"$@"
"$@"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")
def test_bind_mounts_and_overlayfs(docker_registry, repository, tmp_path: Path) -> None:
    for folder in ("lower/sub/deep", "upper", "work", "merged", "other/x", "app/bound"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "app/overlay").mkdir()
    for path in ("lower/sub/deep/low", "lower/sub/changed", "upper/up", "other/x/y", "app/own"):
        (tmp_path / path).write_text(path)
    try:
        subprocess.run(["unshare", "-m", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount namespace of our own")
    to = f"{docker_registry.host}/{repository}"
    push = (sys.executable, "-m", "regpush", "app", "--to", to, "--preserve", "--quiet")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", MOUNT, "sh", *push],
        env=environment(HOME=str(tmp_path / "home")), cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "mount: " in done.stderr:
        pytest.skip(f"nothing can be mounted: {done.stderr}")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split()
    assert first == second
    image = unpack(f"{to}:latest", tmp_path / "out") / "app"
    assert below(image) == below(tmp_path / "expected")
    assert (image / "overlay/sub/changed").read_text() == "lower/sub/changedcopied up\n"
