"""`python:`: a project with a lock file, wheel by wheel, over a real registry and an index."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.test_from import config, put_base
from tests.flow.test_from import layer as base_layer
from tests.images import tree, unpack
from tests.program import push, regpush
from tests.registry.servers import Registry
from tests.wheels import Index, make_wheel, record_hash, serve, write_pylock, write_uv_lock

SITE = "app/.venv/lib/python3.11/site-packages"
BARE = ("--from", "none", "--python", "3.11.2")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "index").mkdir()
    with serve(tmp_path / "index") as found:
        yield found


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    app.mkdir()
    (app / "main.py").write_text("import one\nprint(one.VERSION)\n")
    return app


@pytest.fixture
def to(docker_registry: Registry, repository: str) -> str:
    return f"{docker_registry.host}/{repository}:1"


def layers(outcome) -> dict[str, str]:
    """What became of each layer, by its label."""
    return {one["label"]: one["action"] for one in outcome.report["images"][0]["layers"]}


def test_wheels_are_laid_out_as_installing_them_leaves_them(index, app, to, tmp_path):
    one = make_wheel(index.folder, "one", files={
        "one/__init__.py": "VERSION = '1.0'\ndef main():\n    print('one', VERSION)\n",
        "one/run.sh": "#!/bin/sh\n",
        "one/large.bin": os.urandom(1 << 20),
        "one-1.0.data/scripts/tool": "#!python -E\nprint('tool')\n",
        "one-1.0.data/scripts/plain": "#!/bin/sh\necho plain\n",
        "one-1.0.data/data/share/one.txt": "data\n",
        "one-1.0.data/purelib/pure.py": "",
        "one-1.0.data/headers/one.h": "/* */\n",
    }, scripts={"one": "one:main"}, executable=["one/run.sh"])  # fmt: skip
    two = make_wheel(index.folder, "two", stored=True)
    write_pylock(app, [one, two], index.url_of)
    python = Path(sys.executable).resolve()
    push(f"python:{app}", to, *BARE, "--python-path", python).ok()
    root = unpack(to, tmp_path / "out")

    assert (root / SITE / "one/run.sh").stat().st_mode & 0o777 == 0o755
    assert (root / SITE / "one/__init__.py").stat().st_mode & 0o777 == 0o644
    assert (root / "app/.venv/share/one.txt").read_text() == "data\n"
    assert (root / "app/.venv/include/site/python3.11/one/one.h").exists()
    assert (root / SITE / "pure.py").exists()
    shebang = "#!/app/.venv/bin/python"
    assert (root / "app/.venv/bin/tool").read_text() == f"{shebang} -E\nprint('tool')\n"
    assert (root / "app/.venv/bin/plain").read_text() == "#!/bin/sh\necho plain\n"
    assert (root / "app/.venv/bin/one").read_text().startswith(f"{shebang}\n")
    with zipfile.ZipFile(one.path) as archive:
        assert (root / SITE / "one/large.bin").read_bytes() == archive.read("one/large.bin")
    for script in ("tool", "plain", "one"):
        assert (root / "app/.venv/bin" / script).stat().st_mode & 0o777 == 0o755
    links = {name: os.readlink(root / "app/.venv/bin" / name) for name in ("python", "python3")}
    assert links == {"python": str(python), "python3": "python"}

    # Every file of the package is in RECORD, with the hash of what lies there.
    recorded = (root / SITE / "one-1.0.dist-info/RECORD").read_text()
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(recorded))}
    for name, (digest, size) in rows.items():
        data = (root / SITE / name).read_bytes()
        if not name.endswith("/RECORD"):
            assert (digest, size) == (record_hash(data), str(len(data))), name
    held = {os.path.normpath(f"{SITE}/{name}") for name in rows}
    there = {
        os.fsdecode(path)
        for path, node in tree(root).items()
        if node.kind == "file" and path.startswith(b"app/.venv/")
    }
    others = {f"{SITE}/two.py", "app/.venv/pyvenv.cfg"}
    assert there - held == others | {one for one in there if "two-1.0.dist-info" in one}
    assert not held - there

    # And Python agrees: the environment, moved to where it is meant to be.
    done = in_image(root, "app/.venv/bin/python", "-c", "import one, two, sys; print(sys.prefix)")
    assert done == f"{root}/app/.venv\n"


def in_image(root: Path, program: str, *arguments: str) -> str:
    """What a program of the unpacked image prints; it may use what this machine has."""
    command = [str(root / program), "-P", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.defpath})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_fetched_that_the_registry_has(index, app, to):
    wheels = [
        make_wheel(index.folder, name, files={f"{name}.py": os.urandom(400_000)})
        for name in ("one", "two", "three")
    ]
    write_pylock(app, wheels, index.url_of)
    push(f"python:{app}", to, *BARE).ok()
    assert sorted(index.gets) == sorted(one.path.name for one in wheels)

    index.gets.clear()
    again = push(f"python:{app}", to, *BARE).ok()
    assert index.gets == []
    assert not again.report["changed"]
    assert set(again.actions) == {"reused"}

    (app / "main.py").write_text("print('changed')\n")
    changed = push(f"python:{app}", to, *BARE).ok()
    assert index.gets == []
    assert changed.actions.count("uploaded") == 1

    newer = make_wheel(index.folder, "two", "1.1", {"two.py": os.urandom(400_000)})
    write_pylock(app, [wheels[0], newer, wheels[2]], index.url_of)
    plan = regpush("plan", f"python:{app}", "--to", to, *BARE).ok()
    assert "two 1.0 -> 1.1 changed" in plan.stdout
    assert index.gets == []
    bumped = push(f"python:{app}", to, *BARE).ok()
    assert index.gets == [newer.path.name]
    assert [k for k, v in layers(bumped).items() if v == "uploaded"] == ["two-1.1"]

    why = regpush("why", to, f"python:{app}", *BARE).ok()
    assert "0 B in 0 layers" in why.stdout
    checked = regpush("verify", to, f"python:{app}", "--python", "3.11.2").ok()
    assert "all right" in checked.stdout
    made_from = {one.path.name for one in (wheels[0], newer, wheels[2])}
    assert set(index.gets) == made_from


def test_the_base_says_which_python_and_which_libc(index, app, docker_registry, repository, to):
    tags = [
        "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "cp312-cp312-manylinux_2_38_x86_64",
        "cp312-cp312-musllinux_1_2_x86_64",
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp39-abi3-manylinux_2_17_aarch64",
    ]
    wheels = [make_wheel(index.folder, "one", tag=tag) for tag in tags]
    write_pylock(app, wheels, index.url_of)

    def fetched(history: str, **more: str) -> list[str]:
        base = put_base(
            docker_registry, f"{repository}/base", [base_layer("etc/os")], history[:3].strip("# "),
            architecture=more.get("architecture", "amd64"),
            config={"Env": ["PATH=/usr/local/bin:/bin", "PYTHON_VERSION=3.12.7"], "Cmd": ["x"]},
            history=[{"created_by": history}],
        )  # fmt: skip
        index.gets.clear()
        flags = ["--platform", f"linux/{more['architecture']}"] if more else []
        push(f"python:{app}", to, "--from", base, *flags, "--entrypoint", "python main.py").ok()
        return index.gets

    assert fetched("# debian.sh --arch 'amd64' out/ 'trixie' '@1733702400'") == [
        wheels[1].path.name
    ]
    assert fetched("# debian.sh --arch 'amd64' out/ 'bookworm' '@1733702400'") == [
        wheels[0].path.name
    ]
    assert fetched("ADD alpine-minirootfs-3.20.3-x86_64.tar.gz / # buildkit") == [
        wheels[2].path.name
    ]
    assert fetched("something else", architecture="arm64") == [wheels[4].path.name]
    image = config(to)["config"]
    assert image["Env"] == [
        "PATH=/app/.venv/bin:/usr/local/bin:/bin",
        "PYTHON_VERSION=3.12.7",
        "VIRTUAL_ENV=/app/.venv",
    ]
    assert image["WorkingDir"] == "/app"
    assert image["Entrypoint"] == ["python", "main.py"]
    assert "Cmd" not in image


PYPROJECT = """
[project]
name = "my-app"
version = "0.1"
dependencies = ["one>=1"]
[project.optional-dependencies]
fast = ["two"]
[dependency-groups]
dev = ["three"]
[project.scripts]
serve = "my_app:main"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""

MEMBER = """[[package]]
name = "my-app"
version = "0.1"
source = { editable = "." }
dependencies = [
    { name = "one" },
]

[package.optional-dependencies]
fast = [
    { name = "two" },
]

[package.dev-dependencies]
dev = [
    { name = "three" },
]

[package.metadata]
requires-dist = [
    { name = "one", specifier = ">=1" },
    { name = "two", marker = "extra == 'fast'" },
]
provides-extras = ["fast"]

[package.metadata.requires-dev]
dev = [{ name = "three" }]
"""


@pytest.fixture
def project(index: Index, app: Path) -> Path:
    """A project of uv with an extra, a group and a program."""
    wheels = [make_wheel(index.folder, name) for name in ("one", "two", "three")]
    (app / "pyproject.toml").write_text(PYPROJECT)
    (app / "src/my_app").mkdir(parents=True)
    (app / "src/my_app/__init__.py").write_text("def main():\n    print('served')\n    return 3\n")
    write_uv_lock(app, wheels, index.url_of, [MEMBER])
    return app


def test_a_project_of_uv_is_installed_with_what_is_asked_for(project, index, to, tmp_path):
    hostile = {"UV_PYTHON": "9.9", "UV_INDEX_URL": "http://127.0.0.1:1/", "UV_OFFLINE": "0"}
    python = ("--python-path", str(Path(sys.executable).resolve()))
    (project / ".venv").mkdir()
    (project / ".venv/junk").write_text("x")
    push(f"python:{project}", to, *BARE, *python, env=hostile).ok()
    assert index.gets == ["one-1.0-py3-none-any.whl"]
    assert config(to)["config"]["Entrypoint"] == ["/app/.venv/bin/serve"]
    root = unpack(to, tmp_path / "out")
    assert not (root / "app/.venv/junk").exists()
    assert (root / SITE / "my_app.pth").read_text() == "/app/src\n"
    metadata = (root / SITE / "my_app-0.1.dist-info/METADATA").read_text()
    assert "Requires-Dist: one>=1\n" in metadata
    assert "Requires-Dist: two; extra == 'fast'\n" in metadata
    listed = "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))"
    assert in_image(root, "app/.venv/bin/python", "-c", listed) == "['my-app', 'one']\n"

    push(f"python:{project}", to, *BARE, "--extra", "fast", "--group", "dev").ok()
    assert set(index.gets) == {f"{name}-1.0-py3-none-any.whl" for name in ("one", "two", "three")}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('dependencies = ["one>=1"]', 'dependencies = ["one>=1", "four"]', ["four", "added"]),
        ('dependencies = ["one>=1"]', "dependencies = []", ["one", "removed"]),
        ('"one>=1"', '"one>=2"', ["one", "added or changed"]),
        ('dev = ["three"]', 'dev = ["three", "six"]', ["six"]),
        ('dev = ["three"]', 'dev = ["three"]\nmore = ["six"]', ["six"]),
        ('fast = ["two"]', 'fast = ["two", "five"]', ["five"]),
    ],
)
def test_a_stale_lock_is_refused(project, to, old, new, words):
    (project / "pyproject.toml").write_text(PYPROJECT.replace(old, new))
    done = push(f"python:{project}", to, *BARE)
    done.failed(2, "uv.lock", "my-app", "run 'uv lock'", *words)
