"""`node:`: a project with a lock of npm, tarball by tarball, over a real registry and an index."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.images import unpack
from tests.program import push, regpush
from tests.tarballs import integrity, locked, make_tarball, write_lock

BARE = ("--from", "none")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    app.mkdir()
    (app / "index.js").write_text("console.log('hello')\n")
    return app


def test_nothing_is_fetched_that_the_registry_has(index, app, to):
    """Packages for some machines only have a layer each, since they are large."""
    native = {"cpu": ["x64", "arm64"]}
    names = ("one", "@acme/two", "three")
    made = {
        name: make_tarball(index.folder, name, files={"data": os.urandom(400_000)})
        for name in names
    }
    packages = {
        f"node_modules/{name}": locked(path, index.url, **native) for name, path in made.items()
    }
    write_lock(app, packages, dict.fromkeys(names, "^1"))
    push(f"node:{app}", to, *BARE).ok()
    assert sorted(index.gets) == sorted(path.name for path in made.values())

    index.gets.clear()
    again = push(f"node:{app}", to, *BARE).ok()
    assert index.gets == []
    assert set(again.actions) == {"reused"}

    (app / "index.js").write_text("console.log('changed')\n")
    changed = push(f"node:{app}", to, *BARE).ok()
    assert index.gets == []
    assert changed.actions.count("uploaded") == 1

    newer = make_tarball(index.folder, "@acme/two", "1.1.0", {"data": os.urandom(400_000)})
    packages["node_modules/@acme/two"] = locked(newer, index.url, "1.1.0", **native)
    write_lock(app, packages, dict.fromkeys(names, "^1"))
    one = push(f"node:{app}", to, *BARE).ok()
    assert index.gets == [newer.name]
    assert one.actions.count("uploaded") == 1


def test_packages_lie_as_npm_lays_them_out(index, app, to, tmp_path):
    one = make_tarball(
        index.folder, "one", top="other-name",
        files={"cli.js": "#!/usr/bin/env node\r\nx\r\n", ".gitignore": "a", "s/.npmignore": "b",
               "s/.gitignore": "c", "large": os.urandom(200_000), "run": ""},
        modes={"run": 0o700, "package.json": 0o600},
    )  # fmt: skip
    nested = make_tarball(index.folder, "two", "2.0.0")
    arm = make_tarball(index.folder, "arm")
    packages = {
        "node_modules/one": locked(one, index.url, bin={"one": "cli.js", "gone": "gone.js"}),
        "node_modules/one/node_modules/two": locked(nested, index.url, "2.0.0"),
        "node_modules/arm": locked(arm, index.url, optional=True, cpu=["arm64"]),
        "node_modules/dev": locked(arm, index.url, dev=True),
        "node_modules/lib": {"resolved": "packages/lib", "link": True},
        "packages/lib": {"name": "lib", "version": "1.0.0"},
    }
    (app / "packages/lib").mkdir(parents=True)
    (app / "packages/lib/package.json").write_text('{"name": "lib", "version": "1.0.0"}')
    write_lock(app, packages, {"one": "^1", "lib": "*"}, workspaces=["packages/*"])
    pushed = push(f"node:{app}", to, *BARE, "--platform", "linux/amd64").ok()
    assert "arm" not in str(index.gets)
    assert "warning" not in pushed.stderr
    root = unpack(to, tmp_path / "out") / "app"
    folder = root / "node_modules/one"
    assert (folder / "cli.js").read_bytes() == b"#!/usr/bin/env node\nx\r\n"
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in ("cli.js", "run", "large")}
    assert modes == {"cli.js": 0o755, "run": 0o744, "large": 0o644}
    assert (folder / "package.json").stat().st_mode & 0o777 == 0o644
    assert (folder / ".npmignore").read_text() == "a"
    assert (folder / "s/.npmignore").read_text() == "b"
    assert not list(folder.rglob(".gitignore"))
    assert (folder / "node_modules/two/package.json").exists()
    assert os.listdir(root / "node_modules/.bin") == ["one"]
    assert os.readlink(root / "node_modules/.bin/one") == "../one/cli.js"
    assert os.readlink(root / "node_modules/lib") == "../packages/lib"
    assert sorted(os.listdir(root)) == ["index.js", "node_modules", "package.json", "packages"]


def test_install_scripts_are_warned_of(index, app, to):
    one = make_tarball(index.folder, "one")
    packages = {"node_modules/one": locked(one, index.url, hasInstallScript=True)}
    write_lock(app, packages, {"one": "^1"})
    said = "one 1.0.0 has an install script, which regpush does not run"
    assert said in push(f"node:{app}", to, *BARE).ok().stderr
    push(f"node:{app}", to, *BARE, "--strict").failed(2, said)
    built = make_tarball(index.folder, "one", "1.0.1", {"binding.gyp": "{}"})
    packages = {"node_modules/one": locked(built, index.url, "1.0.1", hasInstallScript=True)}
    write_lock(app, packages, {"one": "^1"})
    push(f"node:{app}", to, *BARE, "--platform", "linux/amd64").failed(
        9, "one 1.0.1 has no machine code for linux-x64-glibc"
    )


def test_machine_code_is_looked_for_on_each_platform(index, app, to):
    files = {"binding.gyp": "{}", "prebuilds/linux-x64/one.node": "x"}
    one = make_tarball(index.folder, "one", files=files)
    packages = {"node_modules/one": locked(one, index.url, hasInstallScript=True)}
    write_lock(app, packages, {"one": "^1"})
    push(f"node:{app}", to, *BARE, "--platform", "linux/amd64").ok()
    # The layer for amd64 is there, and says nothing of arm64.
    said = "one 1.0.0 has no machine code for linux-arm64-glibc"
    push(f"node:{app}", to, *BARE, "--platform", "linux/arm64").failed(9, said)
    packages["node_modules/one"]["optional"] = True
    write_lock(app, packages, {"one": "^1"})
    push(f"node:{app}", to, *BARE, "--platform", "linux/arm64").ok()


def test_programs_of_workspaces_may_be_run_and_what_is_not_needed_stays_out(
    index, app, to, tmp_path
):
    one = make_tarball(index.folder, "one")
    packages = {
        "node_modules/one": locked(one, index.url, extraneous=True),
        "node_modules/lib": {"resolved": "packages/lib", "link": True},
        "node_modules/tool": {"resolved": "packages/tool", "link": True},
        "packages/lib": {"name": "lib", "version": "1.0.0", "bin": {"lib": "cli.js"}},
        "packages/tool": {"name": "tool", "version": "1.0.0", "dev": True, "bin": "cli.js"},
    }
    for name in ("lib", "tool"):
        (app / "packages" / name).mkdir(parents=True)
        (app / "packages" / name / "package.json").write_text(json.dumps({"name": name}))
        (app / "packages" / name / "cli.js").write_text("#!/usr/bin/env node\n")
    write_lock(app, packages, {"lib": "file:packages/lib"})
    push(f"node:{app}", to, *BARE).ok()
    assert index.gets == []
    root = unpack(to, tmp_path / "out") / "app"
    assert sorted(os.listdir(root / "node_modules")) == [".bin", "lib"]
    assert os.listdir(root / "node_modules/.bin") == ["lib"]
    assert (root / "node_modules/.bin/lib").stat().st_mode & 0o777 == 0o755
    assert (root / "packages/tool/cli.js").stat().st_mode & 0o777 == 0o644


def test_what_cannot_be_pushed_is_said_in_one_line(index, app, to):
    one = make_tarball(index.folder, "one")

    def fails(code: int, *words: str) -> None:
        push(f"node:{app}", to, *BARE).failed(code, *words)

    fails(2, "no package-lock.json", "npm install --package-lock-only")
    good = locked(one, index.url)
    lock = write_lock(app, {"node_modules/one": good}, {"one": "^1"})
    lock.write_text(lock.read_text().replace('"lockfileVersion": 3', '"lockfileVersion": 1'))
    fails(2, "lockfileVersion 1, and 2 or 3 is needed")
    git = {**good, "resolved": "git+ssh://git@example.com/one.git#0123"}
    write_lock(app, {"node_modules/one": git}, {"one": "^1"})
    fails(2, "one 1.0.0 comes from git")
    weak = {**good, "integrity": integrity(one, "sha1")}
    write_lock(app, {"node_modules/one": weak}, {"one": "^1"})
    fails(2, "only sha1 for one 1.0.0")
    write_lock(app, {"node_modules/one": good}, {"one": "^1"})
    (app / "package.json").write_text(json.dumps({"dependencies": {"one": "^2"}}))
    fails(2, "out of date", "'^2'", "'^1'")
    assert index.gets == []
    other = {**good, "integrity": integrity(make_tarball(index.folder / "x", "one", "9.0.0"))}
    write_lock(app, {"node_modules/one": other}, {"one": "^1"})
    fails(9, "one 1.0.0", "has the sha512", "but the lock file states")


def test_a_member_of_a_workspace_is_pushed_with_it(app, to):
    write_lock(app, {}, {})
    (app / "packages/web").mkdir(parents=True)
    (app / "packages/web/package.json").write_text("{}")
    push(f"node:{app}/packages/web", to, *BARE).failed(
        2, f"push that workspace, node:{app}", "--entrypoint 'node packages/web/FILE'"
    )


def test_npm_is_obeyed_where_packages_come_from(index, app, to, tmp_path):
    """Registries, tokens and variables of .npmrc; each token is sent to its place alone."""
    one, two, three = (make_tarball(index.folder, name) for name in ("one", "@acme/two", "three"))
    for path, name in ((one, "one"), (two, "two"), (three, "three")):
        path.rename(index.folder / f"{name}-1.0.0.tgz")
    packages = {}
    for name in ("one", "@acme/two", "three"):
        file = index.folder / f"{name.rpartition('/')[2]}-1.0.0.tgz"
        packages[f"node_modules/{name}"] = {"version": "1.0.0", "integrity": integrity(file)}
    gone = "https://gone.example.com/one/-/one-1.0.0.tgz"
    packages["node_modules/one"]["resolved"] = gone
    write_lock(app, packages, dict.fromkeys(("one", "@acme/two", "three"), "^1"))
    host = index.url.removeprefix("http:")
    (app / ".npmrc").write_text(
        f"; a comment\nregistry = {index.url}/npm/\n@acme:registry={index.url}/acme\n"
        "replace-registry-host=gone.example.com\n"
        f"{host}/acme/:_authToken=${{ACME_TOKEN}}\n//elsewhere.example.com/:_authToken=n0\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    (home / ".npmrc").write_text(f'{host}/npm/:_auth = "bWU6czNjcmV0"\nregistry=http://127.0.0.1:9')
    env = {"HOME": str(home), "ACME_TOKEN": "t0ken"}
    done = push(f"node:{app}", to, *BARE, "-vv", env=env).ok()
    assert dict(zip(index.gets, index.logins_seen, strict=True)) == {
        "one-1.0.0.tgz": "Basic bWU6czNjcmV0",
        "two-1.0.0.tgz": "Bearer t0ken",
        "three-1.0.0.tgz": "Basic bWU6czNjcmV0",
    }
    assert "t0ken" not in done.stderr
    assert "bWU6" not in done.stderr
    # Nothing is asked, and no token needed, once the registry has it.
    index.gets.clear()
    again = push(f"node:{app}", to, *BARE, env={"HOME": str(tmp_path)}).ok()
    assert "variable ACME_TOKEN, which is not set" in again.stderr
    assert index.gets == []


@pytest.mark.parametrize(
    ("second", "sent"), [("", "Bearer t0ken"), ("0ther", ""), ("t0ken", "Bearer t0ken")]
)
def test_a_registry_may_keep_tarballs_elsewhere_on_its_host(index, app, to, second, sent):
    """As GitLab's of a group does; which of two tokens for one host is meant, nothing tells."""
    one = make_tarball(index.folder, "one")
    write_lock(app, {"node_modules/one": locked(one, f"{index.url}/projects/7")}, {"one": "^1"})
    host = index.url.removeprefix("http:")
    lines = [f"registry={index.url}/groups/5/", f"{host}/groups/5/:_authToken=t0ken"]
    if second:
        lines += [f"@acme:registry={index.url}/groups/6", f"{host}/groups/6/:_authToken={second}"]
    (app / ".npmrc").write_text("\n".join(lines))
    push(f"node:{app}", to, *BARE).ok()
    assert index.logins_seen == [sent]


def test_the_cache_of_npm_is_read_first(index, app, to, tmp_path):
    one = make_tarball(index.folder, "one")
    write_lock(app, {"node_modules/one": locked(one, index.url)}, {"one": "^1"})
    digest = hashlib.sha512(one.read_bytes()).hexdigest()
    kept = tmp_path / "npm/_cacache/content-v2/sha512" / digest[:2] / digest[2:4] / digest[4:]
    kept.parent.mkdir(parents=True)
    kept.write_bytes(one.read_bytes())
    env = {"npm_config_cache": str(tmp_path / "npm")}
    push(f"node:{app}", to, *BARE, env=env).ok()
    assert index.gets == []
    kept.write_bytes(b"damaged")
    push(f"node:{app}", f"{to}-2", *BARE, "--reuse", "none", env=env).ok()
    assert index.gets == [one.name]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, 3, ["401", "_authToken"]),
        (403, 3, ["403"]),
        (404, 9, ["404"]),
        (429, 5, ["429"]),
        (503, 5, ["503"]),
    ],
)
def test_what_the_index_refuses(index, app, to, status, code, words):
    one = make_tarball(index.folder, "one")
    write_lock(app, {"node_modules/one": locked(one, index.url)}, {"one": "^1"})
    index.answers[one.name] = [(status, {"Retry-After": "0"})] * 3
    push(f"node:{app}", to, *BARE, "--retry-times", "1").failed(code, "one 1.0.0", *words)
    assert regpush("inspect", to).code != 0
    index.answers.clear()
    push(f"node:{app}", to, *BARE).ok()
