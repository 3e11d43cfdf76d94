"""A real application, locked by the real uv and pushed by its lock, runs and answers HTTP."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.flow.test_from import put_base
from tests.images import unpack
from tests.program import push, regpush
from tests.registry.parts import real_part

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mmdebstrap and chroot need root")

PYPROJECT = """
[project]
name = "shop"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["fastapi", "uvicorn[standard]", "numpy", "psycopg[binary]"]
[project.scripts]
shop = "shop:main"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""

APP = """
import fastapi, numpy, psycopg, sys, uvicorn

app = fastapi.FastAPI()

@app.get("/")
def root():
    return {"sum": int(numpy.arange(5).sum()), "pq": psycopg.pq.__impl__}

def main():
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A layer: the smallest Debian that has Python."""
    mmdebstrap = real_part("mmdebstrap")
    archive = tmp_path_factory.mktemp("debian") / "base.tar.gz"
    sources = Path("/etc/apt/sources.list")
    release = subprocess.run(
        ["sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME"], capture_output=True, text=True
    ).stdout.strip()
    # apt, which the slim images of Python have, brings libstdc++; wheels may count on that.
    packages = "python3-minimal,libpython3-stdlib,libstdc++6"
    command = [mmdebstrap, "--variant=essential", f"--include={packages}", release, str(archive)]
    if sources.exists() and sources.read_text().strip():
        command.append(str(sources))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return archive.read_bytes()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that uv has just locked; it is skipped where uv reaches no index."""
    uv = real_part("uv")
    folder = tmp_path_factory.mktemp("shop")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "shop").mkdir()
    (folder / "shop/__init__.py").write_text(APP)
    done = subprocess.run([uv, "lock"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        reason = f"uv reaches no index: {done.stderr.splitlines()[-1:]}"
        if os.environ.get("REGPUSH_REQUIRE_REAL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


def test_an_application_runs_in_its_image(base, project, docker_registry, repository, tmp_path):
    python = "3.11" if shutil.which("python3.11", path="/usr/bin") else "3.13"
    reference = put_base(
        docker_registry, f"{repository}/base", [base],
        config={"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        history=[{"created_by": "# debian.sh --arch 'amd64' out/ 'bookworm' '@1'"}],
    )  # fmt: skip
    to = f"{docker_registry.host}/{repository}:1"
    flags = ("--from", reference, "--python", f"{python}.2", "--python-path",
             f"/usr/bin/python{python}")  # fmt: skip
    push(f"python:{project}", to, *flags).ok()
    root = unpack(to, tmp_path / "image")

    listing = (
        "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    )
    listed = _in(root, "/app/.venv/bin/python", "-c", listing).splitlines()
    assert {_normal(one) for one in listed} == {"shop 1.0", *_locked(project, python)}
    with _serving(root) as port:
        body = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
    assert body == b'{"sum":10,"pq":"binary"}'

    synced = _synced(project, tmp_path, python)
    ours = root / "app/.venv"
    assert _files(ours) == _files(synced)

    again = push(f"python:{project}", to, *flags).ok()
    assert not again.report["changed"]
    assert regpush("plan", f"python:{project}", "--to", to, *flags, env={"PATH": "/nowhere"}).ok()


def test_for_another_machine(project, docker_registry, repository, tmp_path):
    to = f"{docker_registry.host}/{repository}:1"
    push(f"python:{project}", to, "--from", "none", "--python", "3.12.1", "--platform",
         "linux/arm64").ok()  # fmt: skip
    root = unpack(to, tmp_path / "image")
    libraries = [path for path in root.rglob("*.so*") if path.is_file()]
    assert len(libraries) > 20
    for path in libraries:
        head = path.read_bytes()[:20]
        # ELF header, e_machine: EM_AARCH64 is 183.
        assert head[:4] == b"\x7fELF"
        assert int.from_bytes(head[18:20], "little") == 183, path
    push(f"python:{project}", f"{to}-musl", "--from", "none", "--python", "3.12.1", "--libc",
         "musl-1.2").ok()  # fmt: skip
    wheels = unpack(f"{to}-musl", tmp_path / "musl").rglob("*.dist-info/WHEEL")
    tags = {
        line.partition(": ")[2].rpartition("-")[2]
        for path in wheels
        for line in path.read_text().splitlines()
        if line.startswith("Tag: ")
    }
    assert "any" in tags
    assert all(tag == "any" or tag.startswith("musllinux") for tag in tags)


def _normal(line: str) -> str:
    """A name as PyPA normalises it, and a version."""
    name, _, version = line.partition(" ")
    return f"{re.sub(r'[-_.]+', '-', name).lower()} {version}"


def _in(root: Path, *command: str) -> str:
    done = subprocess.run(
        [real_part("chroot"), str(root), *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def _serving(root: Path) -> Iterator[int]:
    """The image's own entry point, while the block lasts; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([real_part("chroot"), str(root), "/app/.venv/bin/shop", str(port)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    try:
        for _ in range(300):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _locked(project: Path, python: str) -> set[str]:
    """Names and versions that uv itself would install."""
    done = subprocess.run(
        [real_part("uv"), "export", "--frozen", "--no-emit-project", "--no-default-groups",
         "--no-hashes", "--no-annotate", "--no-header"],
        cwd=project, capture_output=True, text=True, check=True,
    )  # fmt: skip
    from packaging.requirements import Requirement

    here = {"python_full_version": f"{python}.2", "python_version": python}
    found = set()
    for line in done.stdout.splitlines():
        one = Requirement(line)
        if one.marker is None or one.marker.evaluate(here):
            found.add(_normal(f"{one.name} {next(iter(one.specifier)).version}"))
    return found


def _synced(project: Path, tmp_path: Path, python: str) -> Path:
    """What `uv sync` makes of the project for the same Python."""
    copy = tmp_path / "synced"
    shutil.copytree(project, copy)
    subprocess.run(
        [real_part("uv"), "sync", "-q", "--frozen", "--no-default-groups", "--no-install-project",
         "--link-mode", "copy", "-p", f"/usr/bin/python{python}"],
        cwd=copy, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return copy / ".venv"


_INSTALLERS_OWN = {"REQUESTED", "direct_url.json", "INSTALLER", "RECORD", "uv_cache.json",
                   "pyvenv.cfg", ".lock", "CACHEDIR.TAG", ".gitignore", "pydoc.bat"}  # fmt: skip


def _files(environment: Path) -> dict[str, tuple[int, bytes]]:
    """Modes and contents by path, without what each installer writes in its own words."""
    found = {}
    for path in environment.rglob("*"):
        name = str(path.relative_to(environment))
        if path.is_symlink() or not path.is_file() or "__pycache__" in name or "shop" in name:
            continue
        if path.name in _INSTALLERS_OWN or "activate" in path.name:
            continue
        is_script = name.startswith("bin/")
        found[name] = path.stat().st_mode & 0o777, b"" if is_script else path.read_bytes()
    return found
