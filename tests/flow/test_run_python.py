"""A real application, locked by the real uv and pushed by its lock, runs and answers HTTP."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.flow.test_from import put_base
from tests.http.proxying import proxy
from tests.images import unpack
from tests.patience import HANG_S
from tests.program import push, regpush
from tests.registry.parts import real_part
from tests.registry.servers import Registry

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


DJANGO = """
import sys

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="for a test",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
)
urlpatterns = [path("", lambda request: HttpResponse("django"))]

def main():
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application()).serve_forever()
"""


class Everywhere(dict[str, str]):
    """What a proxy serves: any host, as itself."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return name


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
    return locked(tmp_path_factory.mktemp("shop"), PYPROJECT, APP)


def locked(folder: Path, pyproject: str, app: str) -> Path:
    uv = real_part("uv")
    (folder / "pyproject.toml").write_text(pyproject)
    (folder / "shop").mkdir()
    (folder / "shop/__init__.py").write_text(app)
    done = subprocess.run([uv, "lock"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        reason = f"uv reaches no index: {done.stderr.splitlines()[-1:]}"
        if os.environ.get("REGPUSH_REQUIRE_REAL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


def host_python() -> str:
    """The version of Debian's Python, which the base has too."""
    return "3.11" if shutil.which("python3.11", path="/usr/bin") else "3.13"


def on_base(layer: bytes, registry: Registry, repository: str) -> tuple[str, ...]:
    """The flags of a push on a base of `layer`, which is put beside it."""
    reference = put_base(
        registry, f"{repository}/base", [layer],
        config={"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        history=[{"created_by": "# debian.sh --arch 'amd64' out/ 'bookworm' '@1'"}],
    )  # fmt: skip
    python = host_python()
    return ("--from", reference, "--python", f"{python}.2", "--python-path",
            f"/usr/bin/python{python}")  # fmt: skip


def test_an_application_runs_in_its_image(base, project, docker_registry, repository, tmp_path):
    python = host_python()
    to = f"{docker_registry.host}/{repository}:1"
    flags = on_base(base, docker_registry, repository)
    push(f"python:{project}", to, *flags).ok()
    root = unpack(to, tmp_path / "image")

    listing = (
        "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    )
    listed = _in(root, "/app/.venv/bin/python", "-c", listing).splitlines()
    assert {_normal(one) for one in listed} == {"shop 1.0", *_locked(project, python)}
    with _serving(root) as port:
        body = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=HANG_S).read()
    assert body == b'{"sum":10,"pq":"binary"}'

    synced = _synced(project, tmp_path, python)
    ours = root / "app/.venv"
    assert _files(ours) == _files(synced)
    check = [sys.executable, "-m", "pip", "--python", str(ours / "bin/python"), "check"]
    done = subprocess.run(check, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _seen_by_syft(ours) == _locked(project, python) | {"shop 1.0"}

    again = push(f"python:{project}", to, *flags).ok()
    assert not again.report["changed"]
    assert regpush("plan", f"python:{project}", "--to", to, *flags, env={"PATH": "/nowhere"}).ok()


def test_django_runs_in_its_image(base, docker_registry, repository, tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    dependencies = re.sub(r"dependencies = .*", 'dependencies = ["django"]', PYPROJECT)
    project = locked(folder, dependencies, DJANGO)
    to = f"{docker_registry.host}/{repository}:1"
    push(f"python:{project}", to, *on_base(base, docker_registry, repository)).ok()
    with _serving(unpack(to, tmp_path / "image")) as port:
        reply = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=HANG_S)
        assert reply.read() == b"django"


def test_only_what_changed_is_fetched_and_sent(project, docker_registry, repository, tmp_path):
    """Counted at the proxy that all requests to the index take; each push has an empty home."""
    shutil.copytree(project, tmp_path / "app")
    target, to = f"python:{tmp_path}/app", f"{docker_registry.host}/{repository}:1"
    with proxy(Everywhere()) as running:
        env = {"HTTPS_PROXY": f"http://{running.host}", "NO_PROXY": "127.0.0.1"}
        flags = ("--from", "none", "--python", "3.11.2")
        push(target, to, *flags, env=env).ok()
        assert running.connections
        before = running.connections

        again = push(target, to, *flags, env=env).ok()
        assert set(again.actions) == {"reused"}
        assert again.report["bytes"]["uploaded"] == 0

        with (tmp_path / "app/shop/__init__.py").open("a") as app:
            app.write("# changed\n")
        changed = push(target, to, *flags, env=env).ok()
        assert changed.actions.count("uploaded") == 1
        assert changed.actions[-1] == "uploaded"
        assert running.connections == before

        older = [real_part("uv"), "lock", "-q", "--upgrade-package", "idna==3.10"]
        subprocess.run(older, cwd=tmp_path / "app", check=True)
        changed = push(target, to, *flags, env=env).ok()
        assert changed.actions.count("uploaded") == 1
        (layer,) = (one for one in changed.report["images"][0]["layers"]
                    if one["action"] == "uploaded")  # fmt: skip
        assert any("idna-3.10" in path for path in layer["items"]), layer
        # Connections are kept: no more than one for each package of the layer.
        assert 0 < running.connections - before <= len(layer["items"])


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
        for _ in range(1200):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=HANG_S)


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


def _seen_by_syft(environment: Path) -> set[str]:
    done = subprocess.run(
        [real_part("syft"), "scan", f"dir:{environment}", "-q", "-o", "syft-json"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"},
    )  # fmt: skip
    found = json.loads(done.stdout)["artifacts"]
    return {_normal(f"{one['name']} {one['version']}") for one in found if one["type"] == "python"}


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
