"""What regpush keeps below the directory that it pushes is in no image."""

import os
import subprocess
import sys
import sysconfig

from tests.flow.test_push_directory import app, below
from tests.images import unpack
from tests.program import ROOT, environment, push, regpush

__all__ = ["app"]

CACHE, REPORT, DIGEST = ".cache/regpush", "out/report.json", "out/digest"


def test_cache_and_reports_are_left_out(docker_registry, repository, app, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    before = below(app)
    (app / "out").mkdir()
    flags = ("--metadata-file", str(app / REPORT), "--digest-file", str(app / DIGEST))
    cache = {"XDG_CACHE_HOME": str(app / ".cache")}
    pushes = [regpush(app, "--to", to, *flags, env=cache).ok() for _ in range(3)]
    assert "Unchanged" in pushes[1].stderr
    assert "Unchanged" in pushes[2].stderr
    assert (app / CACHE).is_dir()
    assert "note: .cache/regpush is left out: it belongs to regpush itself" in pushes[2].stderr
    held = below(unpack(f"{to}:latest", tmp_path / "out") / "app")
    assert held.keys() - before.keys() == {b".cache", b"out"}


def test_the_folder_of_an_embedded_registry_is_left_out(docker_registry, repository, app, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    for name in ("blobs", "repositories", "scratch"):
        (app / "registry" / name).mkdir(parents=True)
    (app / "registry" / "lock").touch()
    (app / "registry/blobs/x").touch()
    push(app, to).ok()
    held = below(unpack(f"{to}:latest", tmp_path / "out") / "app")
    assert b"registry" in held
    assert not any(name.startswith(b"registry/") for name in held)


def test_the_own_virtual_environment_is_left_out_unless_the_app_uses_it(
    docker_registry, repository, app
):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", app / ".venv"], check=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(app / ".venv")})
    held = sysconfig.get_path("purelib")
    # The environment's own packages are none yet: what regpush needs is found elsewhere.
    run = [app / ".venv/bin/python", "-m", "regpush", app]
    env = environment(PYTHONPATH=os.pathsep.join([str(ROOT), held]))
    to = f"{docker_registry.host}/{repository}"
    done = subprocess.run([*run, "--to", to], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "note: .venv is left out: it belongs to regpush itself" in done.stderr
    os.makedirs(f"{packages}/flask-3.0.dist-info")
    with open(f"{packages}/flask-3.0.dist-info/METADATA", "w") as file:
        file.write("Metadata-Version: 2.1\nName: Flask\nVersion: 3.0\n")
    done = subprocess.run([*run, "--to", to], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ".venv is left out" not in done.stderr


def test_a_directory_within_the_cache_is_an_app_like_any_other(docker_registry, repository, app):
    to = f"{docker_registry.host}/{repository}"
    regpush(app, "--to", to, env={"XDG_CACHE_HOME": str(app.parent.parent)}).ok()
