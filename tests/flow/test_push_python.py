"""`python:`: a project with a lock file, wheel by wheel, over a real registry and an index."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.flow.test_from import config, put_base
from tests.flow.test_from import layer as base_layer
from tests.images import tree, unpack
from tests.program import push, regpush
from tests.wheels import Index, make_wheel, record_hash, serve, write_pylock, write_uv_lock

SITE = "app/.venv/lib/python3.11/site-packages"
BARE = ("--from", "none", "--python", "3.11.2")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    app.mkdir()
    (app / "main.py").write_text("import one\nprint(one.VERSION)\n")
    return app


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

    refused = regpush("why", to, f"python:{app}")
    refused.failed(2, "why compares two images", f"regpush plan python:{app} --to {to}")
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
    ("flag", "known"), [("--extra", "its extras are: fast"), ("--group", "its groups are: dev")]
)
def test_an_unknown_extra_or_group_is_told_the_known_ones(project, to, flag, known):
    push(f"python:{project}", to, *BARE, flag, "slow").failed(2, f"{flag} slow", known)


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


def test_a_member_outside_of_the_target_goes_along(index, tmp_path, to):
    wheels = [make_wheel(index.folder, "one")]
    root = tmp_path / "work"
    for name, needs in (("api", '"lib"'), ("lib", '"one"')):
        folder = root / "packages" / name
        (folder / "src" / name).mkdir(parents=True)
        (folder / "src" / name / "__init__.py").write_text(f"NAME = '{name}'\n")
        sources = "[tool.uv.sources]\nlib = { workspace = true }\n" if name == "api" else ""
        (folder / "pyproject.toml").write_text(
            f'[project]\nname = "{name}"\nversion = "1"\ndependencies = [{needs}]\n'
            f'[build-system]\nrequires = ["x"]\nbuild-backend = "x"\n{sources}'
        )
    (root / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["packages/*"]\n')
    member = (
        '[[package]]\nname = "{0}"\nversion = "1"\nsource = {{ editable = "packages/{0}" }}\n'
        'dependencies = [\n    {{ name = "{1}" }},\n]\n\n[package.metadata]\n'
        'requires-dist = [{{ name = "{1}"{2} }}]\n'
    )
    members = [
        member.format("api", "lib", ', editable = "packages/lib"'),
        member.format("lib", "one", ""),
    ]
    write_uv_lock(root, wheels, index.url_of, members)
    with (root / "uv.lock").open("a") as lock:
        lock.write('\n[manifest]\nmembers = [\n    "api",\n    "lib",\n]\n')
    done = push(f"python:{root}/packages/api", to, *BARE, "--cmd", "x").ok()
    unpacked = unpack(to, tmp_path / "out")
    assert (unpacked / "app/src/api/__init__.py").exists()
    assert (unpacked / "app/packages/lib/src/lib/__init__.py").exists()
    assert (unpacked / SITE / "api.pth").read_text() == "/app/src\n"
    assert (unpacked / SITE / "lib.pth").read_text() == "/app/packages/lib/src\n"
    assert index.gets == ["one-1.0-py3-none-any.whl"]
    assert done.report["changed"]
    push(f"python:{root}", to, *BARE).failed(2, "--package", "api, lib")
    by_name = push(f"python:{root}", to, *BARE, "--package", "api", "--cmd", "x").ok()
    assert by_name.report["digest"] == done.report["digest"]


def test_files_of_two_wheels(index, app, to, tmp_path):
    same = {"shared/__init__.py": "same\n"}
    wheels = [
        make_wheel(index.folder, "one", files={**same, "shared/a.py": "1\n"}),
        make_wheel(index.folder, "two", files={**same, "shared/a.py": "2\n"}),
    ]
    write_pylock(app, wheels, index.url_of)
    done = push(f"python:{app}", to, *BARE, "--cmd", "x").ok()
    assert "one 1.0 and two 1.0 both install" in done.stderr
    assert "shared/a.py" in done.stderr
    assert "__init__" not in done.stderr
    root = unpack(to, tmp_path / "out")
    assert (root / SITE / "shared/a.py").read_text() == "2\n"
    single = push(f"python:{app}", to, *BARE, "--max-layers", "1", "--cmd", "x").ok()
    assert single.actions == ["uploaded"]
    root = unpack(to, tmp_path / "single")
    assert (root / SITE / "shared/a.py").read_text() == "2\n"
    refused = push(f"python:{app}", f"{to}-strict", *BARE, "--strict", "--cmd", "x",
                   "--reuse", "none")  # fmt: skip
    refused.failed(2, "shared/a.py")


def gone(index: Index) -> None:
    (index.folder / "one-1.0-py3-none-any.whl").unlink()


def altered(index: Index) -> None:
    path = index.folder / "one-1.0-py3-none-any.whl"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def longer(index: Index) -> None:
    with (index.folder / "one-1.0-py3-none-any.whl").open("ab") as file:
        file.write(b"more")


def answering(status: int, times: int = 99, **headers: str):
    def spoil(index: Index) -> None:
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        index.answers["one-1.0-py3-none-any.whl"] = [(status, said)] * times

    return spoil


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (gone, 9, ["one 1.0", "does not exist (404)"]),
        (altered, 9, ["one 1.0", "sha256", "was replaced"]),
        (longer, 9, ["one 1.0", "larger than", "its size in the lock file"]),
        (answering(401), 3, ["one 1.0", "401", "UV_INDEX_"]),
        (answering(403), 3, ["one 1.0", "403"]),
        (answering(410), 9, ["one 1.0", "410"]),
        (answering(418), 9, ["one 1.0", "418"]),
        (answering(503), 5, ["one 1.0", "503"]),
        (answering(302, Location="http://127.0.0.1:1/x"), 5, ["one 1.0"]),
        (answering(302, Location="gopher://x/"), 9, ["one 1.0", "gopher"]),
        (answering(302, Location="/one-1.0-py3-none-any.whl"), 9, ["more than 5 times"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_the_index_does_wrong(index, app, to, spoil, code, words):
    write_pylock(app, [make_wheel(index.folder, "one")], index.url_of)
    spoil(index)
    done = push(f"python:{app}", to, *BARE, "--cmd", "x", "--retry-times", "1")
    done.failed(code, *words)
    has_no_tag(to)


def has_no_tag(to: str) -> None:
    regpush("inspect", to).failed(4, "tests/r")


def test_an_index_that_recovers(index, app, to):
    """A connection that breaks goes on where it broke; 429 and 503 are waited for."""
    wheel = make_wheel(index.folder, "one", files={"one.bin": os.urandom(3 << 20)})
    write_pylock(app, [wheel], index.url_of)
    answering(429, 1, Retry_After="1")(index)
    index.answers[wheel.path.name].append((503, {}))
    index.cut_after = 1 << 20
    push(f"python:{app}", to, *BARE, "--cmd", "x").ok()
    assert index.gets == [wheel.path.name] * 4
    assert index.bytes_sent == wheel.size


def test_logins_are_for_their_origin_alone(index, app, to, tmp_path):
    index.login = ("me", "s3cret")
    wheel = make_wheel(index.folder, "one")
    with_login = index.url.replace("http://", "http://me:s3cret@")
    environments: list[dict[str, str]] = [
        {"PIP_INDEX_URL": f"{with_login}/simple"},
        {"UV_INDEX_OUR_INDEX_USERNAME": "me", "UV_INDEX_OUR_INDEX_PASSWORD": "s3cret"},
        {"NETRC": str(tmp_path / "netrc")},
    ]
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    (app / "pyproject.toml").write_text(
        f'[[tool.uv.index]]\nname = "our-index"\nurl = "{index.url}/simple"\n'
    )
    write_pylock(app, [wheel], index.url_of)
    for number, env in enumerate(environments):
        done = push(f"python:{app}", f"{to}-{number}", *BARE, "--reuse", "none", "--cmd", "x",
                    "-vv", env=env).ok()  # fmt: skip
        assert "s3cret" not in done.stderr
    write_pylock(app, [wheel], lambda one: index.url_of(one).replace(index.url, with_login))
    done = push(f"python:{app}", f"{to}-4", *BARE, "--reuse", "none", "--cmd", "x", "-vv").ok()
    assert "s3cret" not in done.stderr

    # Another origin, by the lock or by a redirect, sees nothing of it.
    (tmp_path / "other").mkdir()
    with serve(tmp_path / "other") as other:
        other_wheel = make_wheel(other.folder, "one", files={"one.py": "other\n"})
        write_pylock(app, [other_wheel], other.url_of)
        push(f"python:{app}", f"{to}-5", *BARE, "--cmd", "x", env=environments[0]).ok()
        (index.folder / other_wheel.path.name).write_bytes(other_wheel.path.read_bytes())
        write_pylock(app, [other_wheel], index.url_of)
        index.answers[other_wheel.path.name] = [(302, {"Location": other.url_of(other_wheel)})]
        index.login = None
        push(f"python:{app}", f"{to}-6", *BARE, "--reuse", "none", "--cmd", "x",
             env=environments[0]).ok()  # fmt: skip
        assert other.gets == [other_wheel.path.name] * 2
        assert set(other.logins_seen) == {""}


def test_mirrors_and_caches(index, app, to, tmp_path):
    wheel = make_wheel(index.folder, "one")
    write_pylock(app, [wheel], lambda one: f"http://127.0.0.1:1/packages/{one.path.name}?x=1")
    mirror = ("--index-url", f"{index.url}/simple")
    home = {"HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    again = ("--reuse", "none", "--cmd", "x")
    regpush(f"python:{app}", "--to", to, *BARE, *mirror, *again, env=home).ok()
    assert index.gets == [wheel.path.name]
    regpush(f"python:{app}", "--to", to, *BARE, *again, env=home).ok()
    assert index.gets == [wheel.path.name]
    # One that was spoiled on this machine is fetched again.
    (kept,) = (tmp_path / "home/.cache/regpush/artifacts").iterdir()
    kept.write_bytes(b"x" * wheel.size)
    regpush(f"python:{app}", "--to", to, *BARE, *mirror, *again, env=home).ok()
    assert index.gets == [wheel.path.name] * 2
    # Without a cache nothing stays.
    push(f"python:{app}", to, *BARE, *mirror, *again, env=home).ok()
    assert len(index.gets) == 3


def lock_with(app: Path, index: Index, entry: str, head: str = "") -> None:
    write_pylock(app, [make_wheel(index.folder, "one")], index.url_of, more=entry, head=head)


SHA = "0" * 64


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('[[packages]]\nname = "two"\nversion = "1"\n[packages.sdist]\nurl = "http://x/two-1.tar.gz"\n'
         f'hashes = {{ sha256 = "{SHA}" }}', ["two 1", "lists no wheel of it", "--find-links"]),
        ('[[packages]]\nname = "two"\nversion = "1"\nvcs = { type = "git", url = "https://x/y", '
         f'commit-id = "{SHA[:40]}" }}', ["two 1", "commit", "--find-links"]),
        ('[[packages]]\nname = "two"\nversion = "1"\nwheels = [{ url = "http://x/two-1-cp39-cp39-'
         f'win_amd64.whl", hashes = {{ sha256 = "{SHA}" }} }}]', ["two", "cp311-cp311-manylinux"]),
        ('[[packages]]\nname = "two"\nversion = "1"\nmarker = "platform_release >= \'5\'"\nwheels '
         f'= [{{ url = "http://x/two-1-py3-none-any.whl", hashes = {{ sha256 = "{SHA}" }} }}]',
         ["two", "platform_release"]),
        ('[[packages]]\nname = "two"\nversion = "1"\nwheels = [{ url = "http://x/two-1-py3-none-any'
         '.whl", hashes = { md5 = "00" } }]', ["two-1", "no secure hash"]),
        ('[[packages]]\nname = "two"', ["pylock.toml"]),
        ("nonsense", ["pylock.toml"]),
    ],
    ids=["sdist", "git", "no wheel", "marker", "md5", "no source", "no toml"],
)  # fmt: skip
def test_what_cannot_be_installed(index, app, to, entry, words):
    lock_with(app, index, entry)
    push(f"python:{app}", to, *BARE, "--cmd", "x").failed(2, *words)
    assert index.gets == []


def test_a_wheel_of_a_folder_takes_the_place_of_a_source(index, app, to, tmp_path):
    entry = (
        '[[packages]]\nname = "two"\nversion = "1.0"\n[packages.sdist]\nurl = "http://x/two-1.0.tar.gz"'
        f'\nhashes = {{ sha256 = "{SHA}" }}'
    )
    lock_with(app, index, entry)
    make_wheel(tmp_path / "links", "two", tag="cp311-cp311-linux_x86_64")
    make_wheel(tmp_path / "links", "two", tag="cp312-cp312-linux_x86_64")
    own = make_wheel(tmp_path / "dist", "mine", tag="py3-none-any")
    flags = ("--find-links", tmp_path / "links", "--project-wheel", own.path, "--cmd", "x")
    push(f"python:{app}", to, *BARE, "--platform", "linux/amd64", *flags).ok()
    root = unpack(to, tmp_path / "out")
    assert {"one.py", "two.py", "mine.py"} <= {path.name for path in (root / SITE).iterdir()}
    foreign = make_wheel(tmp_path / "dist", "mine", tag="cp311-cp311-win_amd64")
    push(f"python:{app}", to, *BARE, *flags, "--project-wheel", foreign.path).failed(2, "win_amd64")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('version = "0.1"', 'dynamic = ["version"]', ["my-app", "dynamic", "--project-wheel"]),
        ('"hatchling.build"', '"maturin"', ["my-app", "maturin", "--project-wheel"]),
        ('name = "my-app"', 'name = "other-name"', ["other-name", "run 'uv lock'"]),
    ],
)
def test_a_project_that_must_be_built(project, to, old, new, words):
    (project / "pyproject.toml").write_text(PYPROJECT.replace(old, new, 1))
    push(f"python:{project}", to, *BARE).failed(2, *words)


def test_targets_that_are_none(app, to, tmp_path):
    push(f"python:{app}", to, *BARE).failed(2, "no uv.lock or pylock.toml", "uv lock")
    (app / "poetry.lock").write_text("")
    push(f"python:{app}", to, *BARE).failed(2, "poetry.lock", "poetry export")
    push(f"python:{app}/main.py", to, *BARE).failed(2, "neither a uv.lock nor a pylock.toml")
    push(f"python:{tmp_path}/none", to, *BARE).failed(2, "no such folder or file")


def test_python_must_be_known_and_agree(index, app, docker_registry, repository, to):
    wheels = [make_wheel(index.folder, "one", tag=f"cp3{n}-cp3{n}-manylinux_2_17_x86_64")
              for n in (12, 13)]  # fmt: skip
    write_pylock(app, wheels, index.url_of)
    amd64 = ("--platform", "linux/amd64", "--cmd", "x")
    nowhere = push(f"python:{app}", to, "--from", "none", *amd64)
    nowhere.failed(2, "--python", "3.12, 3.13")
    base = put_base(docker_registry, f"{repository}/base", [base_layer("etc/os")],
                    config={"Env": ["PYTHON_VERSION=3.12.7"]})  # fmt: skip
    (app / ".python-version").write_text("# ours\n3.13\n")
    push(f"python:{app}", to, "--from", base, *amd64).failed(2, ".python-version", "3.12.7")
    push(f"python:{app}", to, "--from", base, "--python", "3.12.1", *amd64).failed(2, "3.12.7")
    push(f"python:{app}", to, "--from", base, "--python", "3.12", *amd64).ok()
    push(f"python:{app}", to, "--from", "none", *amd64).ok()
    assert index.gets == [one.path.name for one in wheels]
    for flag, bad in (("--python", "2.7"), ("--libc", "glibc"), ("--python-path", "python")):
        push(f"python:{app}", to, "--from", "none", flag, bad, *amd64).failed(2, flag, bad)


def test_the_patch_version_may_decide(index, app, to):
    entry = (
        '[[packages]]\nname = "two"\nversion = "1.0"\nmarker = "python_full_version < \'3.11.4\'"\n'
        'wheels = [{ url = "http://127.0.0.1:1/two-1.0-py3-none-any.whl", '
        f'hashes = {{ sha256 = "{SHA}" }} }}]'
    )
    lock_with(app, index, entry)
    flags = ("--from", "none", "--cmd", "x")
    push(f"python:{app}", to, *flags, "--python", "3.11").failed(2, "two", "patch version")
    push(f"python:{app}", to, *flags, "--python", "3.11.4").ok()


def test_the_bill_is_the_lock(index, app, to):
    make = make_wheel(index.folder, "one"), make_wheel(index.folder, "two", needs=["one"])
    write_pylock(app, make, index.url_of)
    push(f"python:{app}", to, *BARE, "--cmd", "x", "--sbom", "cyclonedx").ok()
    assert len(index.gets) == 2
    bill = json.loads(regpush("sbom", to).ok().stdout)
    found = {one["name"]: one for one in bill["components"]}
    for wheel in make:
        assert found[wheel.name]["purl"] == f"pkg:pypi/{wheel.name}@1.0"
        assert found[wheel.name]["hashes"] == [{"alg": "SHA-256", "content": wheel.sha256}]
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    assert needs[found["two"]["bom-ref"]] == [found["one"]["bom-ref"]]
    assert needs[found["app"]["bom-ref"]] == [found["two"]["bom-ref"]]


def test_several_platforms_from_one_lock(index, app, to):
    tags = [f"cp311-cp311-manylinux_2_17_{machine}" for machine in ("x86_64", "aarch64")]
    wheels = [make_wheel(index.folder, "one", tag=tag) for tag in tags]
    pure = make_wheel(index.folder, "two")
    write_pylock(app, [*wheels, pure], index.url_of)
    done = push(f"python:{app}", to, *BARE, "--platform", "linux/amd64,linux/arm64", "--cmd", "x")
    assert [one["platform"] for one in done.ok().report["images"]] == ["linux/amd64", "linux/arm64"]
    assert sorted(index.gets) == sorted(one.path.name for one in [*wheels, pure])


@pytest.mark.parametrize(
    ("tags", "has"),
    [
        (["cp311-cp311-win_amd64", "cp311-cp311-macosx_11_0_arm64"], ["win_amd64", "macosx_11_0"]),
        (
            ["cp311-cp311-win_amd64", "cp39-cp39-manylinux_2_28_s390x"],
            ["(its wheels are for cp39-cp39-many"],
        ),
        (
            ["cp311-cp311-win_amd64", "cp39-cp39-win32.linux_s390x"],
            ["(its wheels are for cp39-cp39-win32.lin"],
        ),
    ],
)
def test_wheels_for_other_systems_are_told_of_where_there_are_no_others(project, to, tags, has):
    lock = project / "uv.lock"
    head, _, rest = lock.read_text().partition("wheels = [\n")
    url, zeros = rest.partition('url = "')[2].partition("one-1.0")[0], "0" * 64

    def file(end: str) -> str:
        return f'{{ url = "{url}one-1.0{end}", hash = "sha256:{zeros}", size = 1 }}'

    wheels = "".join(f"    {file(f'-{tag}.whl')},\n" for tag in tags)
    lock.write_text(
        f"{head}sdist = {file('.tar.gz')}\nwheels = [\n{wheels}]\n{rest.partition(']')[2]}"
    )
    push(f"python:{project}", to, *BARE).failed(2, "one 1.0 has no wheel", "builds no wheels", *has)


def test_a_wheel_that_the_lock_names_by_its_path(index, app, to, tmp_path):
    """uv writes the path relative to the directory it runs in, whatever directory that is."""
    (app / "links").mkdir()
    here = make_wheel(app / "links", "two")
    (app / "pyproject.toml").write_text(
        '[project]\nname = "my-app"\nversion = "0.1"\ndependencies = ["two"]\n'
        f'[tool.uv.sources]\ntwo = {{ path = "links/{here.path.name}" }}\n'
    )
    source = f'{{ path = "links/{here.path.name}" }}'
    (app / "uv.lock").write_text(
        'version = 1\nrevision = 3\nrequires-python = ">=3.11"\n\n'
        '[[package]]\nname = "my-app"\nversion = "0.1"\nsource = { virtual = "." }\n'
        'dependencies = [\n    { name = "two" },\n]\n\n[package.metadata]\n'
        f'requires-dist = [{{ name = "two", path = "links/{here.path.name}" }}]\n\n'
        f'[[package]]\nname = "two"\nversion = "1.0"\nsource = {source}\n'
        f'wheels = [\n    {{ filename = "{here.path.name}", hash = "sha256:{here.sha256}" }},\n]\n'
    )
    for at, folder in enumerate((app, tmp_path)):
        push(f"python:{app}", to, *BARE, "--cmd", "x", cwd=folder).ok()
        root = unpack(to, tmp_path / f"out{at}")
        assert list((root / SITE).glob("two-1.0.dist-info"))


def compilable(index: Index, app: Path) -> None:
    wheel = make_wheel(index.folder, "one", files={
        "one/__init__.py": "from one import part\nVERSION = part.VERSION\n",
        "one/part.py": "VERSION = '1.0' if 'b' in {'a', 'b', 'c'} else None\n",
        "one/template.py": "class {{ name }}:\n",
        "one-1.0.data/scripts/tool.py": "#!python\nprint('tool')\n",
    })  # fmt: skip
    write_pylock(app, [wheel], index.url_of)


def test_compiled_files_are_used_and_are_the_same_everywhere(index, app, to, tmp_path):
    compilable(index, app)
    python = Path(sys.executable).resolve()
    minor = sys.version_info[1]
    site = f"app/.venv/lib/python3.{minor}/site-packages"
    flags = ("--python", f"3.{minor}", "--python-path", python)
    push(f"python:{app}", to, "--from", "none", *flags, "--compile").ok()
    root = unpack(to, tmp_path / "out")

    made = {str(path.relative_to(root / site)) for path in (root / "app").rglob("*.pyc")}
    cached = {f"one/__pycache__/{name}.cpython-3{minor}.pyc" for name in ("__init__", "part")}
    assert made == cached
    for name in cached:
        assert (root / site / name).stat().st_mode & 0o777 == 0o644
    record = (root / site / "one-1.0.dist-info/RECORD").read_text()
    rows = list(csv.reader(io.StringIO(record)))
    assert {row[0] for row in rows if row[1:] == ["", ""]} == {*cached, "one-1.0.dist-info/RECORD"}

    # Nothing is compared with the source: the times in the image are all the same.
    command = [root / "app/.venv/bin/python", "-P", "-v", "-c", "import one; print(one.VERSION)"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.defpath})
    assert done.stdout == "1.0\n"
    for name in cached:
        assert f"code object from '{root / site / name}'" in done.stderr
    assert f"wrote '{root}" not in done.stderr

    # From another machine: nothing is sent; made anew: the same bytes.
    index.gets.clear()
    moved = app.rename(tmp_path / "moved")
    again = push(f"python:{moved}", to, "--from", "none", *flags, "--compile").ok()
    assert (index.gets, again.report["changed"]) == ([], False)
    flags_anew = ("--from", "none", *flags, "--compile", "--reuse", "none")
    anew = push(f"python:{moved}", f"{to}-anew", *flags_anew).ok()
    assert anew.report["digest"] == again.report["digest"]
    regpush("verify", to, f"python:{moved}", *flags, "--compile").ok()

    without = push(f"python:{moved}", f"{to}-without", "--from", "none", *flags).ok()
    assert without.report["digest"] != again.report["digest"]
    assert layers(without)["one-1.0"] == "uploaded"


def test_compiling_takes_the_python_of_the_image(index, app, to, tmp_path):
    compilable(index, app)
    flags = ("--from", "none", "--python", "3.15", "--compile")
    path = f"{Path(sys.executable).parent}:{os.defpath}"
    done = push(f"python:{app}", to, *flags, env={"PATH": path, "HOME": str(tmp_path)})
    assert done.code == 2
    assert "--compile needs Python 3.15 on this machine" in done.stderr
    assert index.gets == []
