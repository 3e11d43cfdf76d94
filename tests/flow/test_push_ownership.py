"""--chown and --chmod, as a user gives them, and the images they make."""

import os

import pytest

from tests.images import unpack
from tests.program import push, regpush
from tests.registry.parts import real_part
from tests.stores import NixStore

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="owners, and nix-build, need root")


def owner(path):
    status = path.lstat()
    return status.st_uid, status.st_gid, status.st_mode & 0o7777


@pytest.fixture
def app(tmp_path):
    root = tmp_path / "app"
    (root / "data" / "in").mkdir(parents=True)
    (root / "data" / "in" / "x").write_text("x")
    (root / "node_modules" / "left-pad").mkdir(parents=True)
    (root / "node_modules" / "left-pad" / "index.js").write_text("y")
    (root / "run.sh").write_text("echo hi\n")
    return root


def test_a_directory(registry, repository, app, tmp_path):
    to = f"{registry.host}/{repository}"
    flags = ["--chown", "data/**=1000:50", "--chmod", "*.sh=0750", "--chmod", "/tmp=0755"]
    done = push(app, to, *flags).ok()
    root = unpack(f"{to}:latest", tmp_path / "out")
    assert owner(root / "app/data/in/x") == (1000, 50, 0o644)
    assert owner(root / "app/data") == (1000, 50, 0o755)
    assert owner(root / "app/run.sh") == (0, 0, 0o750)
    assert owner(root / "app") == (0, 0, 0o755)
    assert owner(root / "tmp") == (0, 0, 0o755)
    assert "matched nothing" not in done.stderr
    again = push(app, to, *flags).ok()
    assert not again.report["changed"]
    assert again.report["digest"] == done.report["digest"]


def test_only_layers_that_a_rule_touches_are_sent(docker_registry, repository, app):
    to = f"{docker_registry.host}/{repository}"
    push(app, to).ok()
    done = push(app, to, "--chown", "/app/run.sh=1:1").ok()
    items = {item: layer["action"] for layer in done.report["images"][0]["layers"]
             for item in layer["items"]}  # fmt: skip
    assert items["/app/node_modules/left-pad"] == "reused"
    assert items["/app"] == "uploaded"
    assert push(app, to, "--chown", "7:7").ok().actions.count("reused") == 0
    warned = push(app, to, "--chmod", "/app/nothing=0700").ok()
    assert "warning: --chmod /app/nothing=0700 matched nothing in the image" in warned.stderr


def test_the_stat_index_knows_of_rules(docker_registry, repository, app, tmp_path):
    """What was read with other rules is not what is wanted now."""
    home = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "REGPUSH_FORMAT": "json"}
    for path in [app, *app.rglob("*")]:
        os.utime(path, (1, 1))
    to = f"{docker_registry.host}/{repository}"
    digests = []
    for flags in ([], ["--chown", "9:9"], ["--chown", "8:8"], [], ["--chown", "9:9"]):
        done = regpush(app, "--to", f"{to}:v{len(digests)}", *flags, env=home).ok()
        digests.append(done.report["digest"])
    assert len(set(digests)) == 3
    assert digests[3:] == digests[:2]


def test_a_store(docker_registry, repository, tmp_path):
    real_part("nix-build")
    nix = NixStore(tmp_path / "nix")
    out = nix.build("1")
    to = f"{docker_registry.host}/{repository}"
    env = nix.environment
    plain = push(out, to, "--layers", "size", env=env).ok()
    flags = ["--chown", f"{nix.store}/*-app-1/share/**=1000:50", "--chmod", "bin/app=0500"]
    done = push(out, to, "--layers", "size", *flags, env=env).ok()
    assert done.actions.count("reused") == len(plain.actions) - 1
    root = unpack(f"{to}:latest", tmp_path / "out")
    inside = root / str(out).lstrip("/")
    assert owner(inside / "share/deps") == (1000, 50, 0o444)
    assert owner(inside / "bin/app") == (0, 0, 0o500)
    again = push(out, to, "--layers", "size", *flags, env=env).ok()
    assert not again.report["changed"]
    anew = push(out, f"{to}:x", *flags, "--chmod", "bin/x=0500", "--reuse", "none", env=env).ok()
    assert "--chmod bin/x=0500 matched nothing" in anew.stderr
    assert "--chmod bin/app" not in anew.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--chown", "/app=me:me"], ["--chown '/app=me:me'", "=1000:1000"]),
        (["--chmod", "/app=u+x"], ["--chmod '/app=u+x'", "=0755"]),
        (["--chmod", "a/../b=0755"], ["'..'"]),
    ],
)
def test_wrong_arguments(app, flags, words):
    regpush(app, "--to", "localhost:1/app", *flags).failed(2, *words)
