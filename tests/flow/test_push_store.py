"""Closures of real Nix and Guix stores into registries, and back out."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.flow.test_push_directory import below, has_tag
from tests.flow.test_run_configuration import config
from tests.images import unpack
from tests.program import environment, open_directory, open_to_all, push, regpush, regpush_as_nobody
from tests.registry.parts import real_part
from tests.stores import NixStore, guix_store, removed

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="nix-build here needs root")


@pytest.fixture(scope="module")
def nix():
    real_part("nix-build")
    with open_directory() as root:
        yield NixStore(root)


def same_closure(to, paths, directory):
    """The image holds exactly `paths`, byte for byte."""
    root = unpack(to, directory)
    for path in paths:
        assert below(root / path.lstrip("/")) == below(path), path
    store = Path(paths[0]).parent
    held = {entry.name for entry in (root / str(store).lstrip("/")).iterdir()}
    assert held == {Path(path).name for path in paths}
    return root


def test_a_closure_is_pushed_and_unpacked(registry, repository, nix, tmp_path):
    out = nix.build("1")
    link = tmp_path / "result"
    link.symlink_to(out)
    to = f"{registry.host}/{repository}"
    done = push(link, to, "-S", "/bin=bin", env=nix.environment).ok()
    paths = nix.closure(out)
    items = [i for layer in done.report["images"][0]["layers"] for i in layer["items"]]
    assert sorted(i for i in items if i.startswith("/")) == sorted(paths)
    root = same_closure(f"{to}:latest", paths, tmp_path / "out")
    assert os.readlink(root / "bin") == f"{out}/bin"
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_an_unchanged_layer_is_not_opened_at_all(registry, repository, nix, tmp_path, wire):
    """The items are moved away: whoever opened one would fail."""
    one = nix.build("opened-1")
    two = nix.build("opened-2")
    to = f"{registry.host}/{repository}"
    push(one, f"{to}:sha1", env=nix.environment).ok()
    kept = set(nix.closure(one)) & set(nix.closure(two))
    away = nix.root / "away"
    nix.store.rename(away)
    try:
        nix.store.mkdir()
        proxy = wire(registry)
        unchanged = push(one, f"{proxy.host}/{repository}:sha1", env=nix.environment).ok()
        assert not unchanged.report["changed"]
        assert len(proxy.stats().requests) <= 5
        assert proxy.stats().bytes_up < 20_000
        (nix.store / two.name).symlink_to(away / two.name)
        (nix.store / two.name).unlink()
        (away / two.name).rename(nix.store / two.name)
        second = push(two, f"{to}:sha2", env=nix.environment).ok()
    finally:
        for path in nix.store.iterdir():
            path.rename(away / path.name)
        nix.store.rmdir()
        away.rename(nix.store)
    assert len(kept) == 4
    assert second.actions.count("uploaded") == 1
    assert second.actions[-1] == "uploaded"
    same_closure(f"{to}:sha2", nix.closure(two), tmp_path / "out")


def test_a_library_in_the_middle(registry, repository, nix, tmp_path):
    one, two = nix.build("1"), nix.build("1", salt="-patched")
    to = f"{registry.host}/{repository}"
    push(one, to, "--layers", "size", env=nix.environment).ok()
    done = push(two, to, "--layers", "size", env=nix.environment).ok()
    assert done.actions.count("reused") == 3
    why = " ".join(layer["why"] for layer in done.report["images"][0]["layers"])
    assert "openssl 3.0.1 -> 3.0.1-patched changed; 2 items depend on it" in why
    same_closure(f"{to}:latest", nix.closure(two), tmp_path / "out")


def test_deduplicated_files_do_not_change_the_digest(docker_registry, repository, tmp_path):
    """`nix-store --optimise` hard-links equal files; an image must not show it."""
    real_part("nix-build")
    store = NixStore(tmp_path / "nix")
    out = store.build("1")
    to = f"{docker_registry.host}/{repository}"
    before = push(out, f"{to}:a", "--reuse", "none", env=store.environment).ok()
    store.run("nix-store", "--optimise")
    files = [file for path in store.closure(out) for file in Path(path).rglob("*")]
    assert any(f.lstat().st_nlink > 2 for f in files if f.is_file() and not f.is_symlink())
    after = push(out, f"{to}:b", "--reuse", "none", env=store.environment).ok()
    assert after.report["digest"] == before.report["digest"]


def test_a_guix_profile_read_in_place_runs(registry, repository, tmp_path):
    """The store lies elsewhere than its paths say; the image has it where they say."""
    profile, _ = guix_store(tmp_path / "guix")
    to = f"{registry.host}/{repository}"
    done = push(profile, to, "-S", "/bin=bin", "--entrypoint", "bin/hello").ok()
    layers = done.report["images"][0]["layers"]
    items = [item for layer in layers for item in layer["items"]]
    assert f"/gnu/store/{profile.name}" in items
    root = unpack(f"{to}:latest", tmp_path / "out")
    for item in items:
        if item.startswith("/"):
            assert below(root / item.lstrip("/")) == below(profile.parent / Path(item).name)
    hello = subprocess.run(["chroot", root, "/bin/hello"], capture_output=True, text=True)
    assert (hello.returncode, hello.stdout) == (0, "hello from guix store\n")
    seen = [real_part("skopeo"), "inspect", "--tls-verify=false", "--config", f"docker://{to}"]
    config = json.loads(subprocess.run(seen, check=True, capture_output=True).stdout)
    assert config["config"]["Entrypoint"] == [f"/gnu/store/{profile.name}/bin/hello"]


def test_an_entry_point_in_an_item_that_is_one_file(docker_registry, repository, nix, tmp_path):
    """A script that `writeScript` of Nixpkgs makes is a store item without a directory."""
    script = tmp_path / "serve"
    script.write_text("#!/bin/sh\necho served\n")
    script.chmod(0o755)
    item = nix.run("nix-store", "--add", str(script)).strip()
    to = f"{docker_registry.host}/{repository}"
    for program in ("./serve", f"./{Path(item).name}", item):
        push(item, to, "--entrypoint", f"{program} --all", env=nix.environment).ok()
        assert config(f"{to}:latest")["Entrypoint"] == [item, "--all"]
    wrong = push(item, f"{to}:x", "--entrypoint", "bin/serve", env=nix.environment)
    wrong.failed(2, "the target is one file", "does not hold bin/serve", f"say --entrypoint {item}")
    assert not has_tag(docker_registry, repository, "x")


def test_a_guix_profile_at_home(docker_registry, repository, tmp_path):
    """The same store bound at /gnu/store and /var/guix, in a mount namespace of its own."""
    if Path("/gnu").exists() or Path("/var/guix").exists():
        pytest.skip("this machine has a Guix of its own")
    profile, database = guix_store(tmp_path / "guix")
    to = f"{docker_registry.host}/{repository}"
    home = [Path("/gnu/store"), Path("/var/guix")]
    link = tmp_path / "guix-profile"
    link.symlink_to(f"/gnu/store/{profile.name}")
    script = (
        f"mount --bind '{profile.parent}' /gnu/store && "
        f"mount --bind '{database.parent}' /var/guix && "
        f"exec '{sys.executable}' -m regpush '{link}' --to {to} -S /bin=bin --format json"
    )
    try:
        for folder in home:
            folder.mkdir(parents=True)
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script],
            capture_output=True,
            text=True,
            env=environment(),
        )
    finally:
        for folder in (*home, Path("/gnu")):
            folder.rmdir()
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "Guix profile" in done.stderr
    elsewhere = push(profile, f"{to}:b", "-S", "/bin=bin", "--reuse", "none").ok()
    assert json.loads(done.stdout)["digest"] == elsewhere.report["digest"]
    hello = unpack(f"{to}:latest", tmp_path / "out")
    ran = subprocess.run(["chroot", hello, "/bin/hello"], capture_output=True, text=True)
    assert ran.stdout == "hello from guix store\n"


def test_the_database_can_be_named(docker_registry, repository, tmp_path):
    """As `guix` itself is told where its state is."""
    profile, database = guix_store(tmp_path / "guix")
    elsewhere = tmp_path / "state"
    database.rename(elsewhere)
    env = {"GUIX_DATABASE_DIRECTORY": str(elsewhere)}
    to = f"{docker_registry.host}/{repository}"
    push(profile, to, env=env).ok()
    push(profile, f"{to}:x").failed(9)


def test_a_path_that_is_not_valid(docker_registry, repository, nix):
    stray = nix.store / ("0" * 32 + "-stray-1.0")
    stray.mkdir(exist_ok=True)
    to = f"{docker_registry.host}/{repository}"
    push(stray, to, env=nix.environment).failed(9, "stray-1.0")
    assert not has_tag(docker_registry, repository, "latest")


def test_an_item_that_is_gone_is_named(docker_registry, repository, nix):
    out = nix.build("vanishing")
    removed([str(out / "share")], nix.root) if (out / "share").is_dir() else None
    subprocess.run(["chmod", "u+w", str(out), str(nix.store)], check=True)
    os.rename(out, nix.root / "gone")
    to = f"{docker_registry.host}/{repository}"
    push(f"store:{out}", to, env=nix.environment).failed(9, out.name)
    assert not has_tag(docker_registry, repository, "latest")


def test_a_closure_file_says_the_same_as_the_store(docker_registry, repository, nix, tmp_path):
    out = nix.build("1")
    to = f"{docker_registry.host}/{repository}"
    first = push(out, f"{to}:store", "--platform", "linux/amd64", env=nix.environment).ok()
    graph = tmp_path / "graph.json"
    graph.write_text(nix.run("nix", "path-info", "-r", "--json", str(out)))
    second = push(graph, f"{to}:file", "--platform", "linux/amd64").ok()
    assert second.report["digest"] == first.report["digest"]
    registration = tmp_path / "registration"
    registration.write_text(nix.run("nix-store", "--dump-db", *nix.closure(out)))
    third = push(f"closure:{registration}", f"{to}:reg", "--platform", "linux/amd64").ok()
    assert third.report["digest"] == first.report["digest"]


def test_plan_sends_nothing_and_says_the_same(docker_registry, repository, nix, wire):
    one, two = nix.build("plan-1"), nix.build("plan-2")
    proxy = wire(docker_registry)
    to = f"{proxy.host}/{repository}"
    push(one, to, env=nix.environment).ok()
    proxy.reset()
    arguments = ["--to", to, "--format", "json", "--no-cache"]
    planned = regpush("plan", two, *arguments, env=nix.environment).ok()
    exact = regpush("plan", two, "--exact", *arguments, env=nix.environment).ok()
    assert {request.method for request in proxy.stats().requests} <= {"GET", "HEAD"}
    assert planned.actions.count("upload") == 1
    done = push(two, to, env=nix.environment).ok()
    assert exact.report["digest"] == done.report["digest"]
    (uploaded,) = [
        layer for layer in planned.report["images"][0]["layers"] if layer["action"] == "upload"
    ]
    assert (uploaded["digest"], uploaded["size_is_estimate"]) == (None, True)
    again = regpush("plan", two, *arguments, env=nix.environment).ok()
    assert again.report["changed"] is False
    assert set(again.actions) == {"reuse"}


def test_every_strategy_holds_the_whole_closure(docker_registry, repository, nix, tmp_path):
    out = nix.build("1")
    to = f"{docker_registry.host}/{repository}"
    for name in ("single", "app-deps", "size", "popularity", "stable"):
        for most in (1, 2, 4):
            tag = f"{name}-{most}"
            done = push(out, f"{to}:{tag}", "--layers", name, "--max-layers", most,
                        env=nix.environment).ok()  # fmt: skip
            assert len(done.actions) <= most
            same_closure(f"{to}:{tag}", nix.closure(out), tmp_path / tag)


def test_two_users_and_umasks(docker_registry, repository, nix):
    out = nix.build("1")
    to = f"{docker_registry.host}/{repository}"
    first = push(out, f"{to}:a", "--reuse", "none", env=nix.environment).ok()
    open_to_all(nix.root)
    done = regpush_as_nobody(
        out, "--to", f"{to}:b", "--reuse", "none", "--format", "json", env=nix.environment
    )
    assert done.ok().report["digest"] == first.report["digest"]


@pytest.fixture
def hurt(nix):
    """An item of its own whose file can be changed as a failing disk, or root, would."""

    @contextmanager
    def changed(version, change):
        out = nix.build(version)
        (library,) = (path for path in nix.closure(out) if path.endswith("-libfoo-1.2"))
        file = Path(library, "share/foo")
        before, mode = file.read_bytes(), file.stat().st_mode
        os.chmod(file, 0o644)
        change(file)
        try:
            yield out, library
        finally:
            file.write_bytes(before)
            os.chmod(file, mode)

    return changed


def append(file):
    file.write_bytes(file.read_bytes() + b"one line more\n")
    os.chmod(file, 0o444)


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.chmod(file, 0o444)


def make_executable(file):
    os.chmod(file, 0o555)


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        (append, []),
        (flip, ["--reuse", "content"]),
        (flip, ["--chown", "1:1"]),
        (make_executable, []),
        (make_executable, ["--chmod", "/**/share/foo=0700"]),
    ],
    ids=["append", "flip-content", "flip-chown", "executable", "executable-chmod"],
)
def test_a_damaged_item_is_not_pushed(docker_registry, repository, nix, hurt, change, flags):
    """Else its layer would be there under a recipe that says it is whole, and be reused."""
    to = f"{docker_registry.host}/{repository}"
    with hurt("damaged", change) as (out, library):
        done = push(out, to, *flags, env=nix.environment)
        done.failed(9, library, "damaged", f"nix-store --repair-path {library}")
        assert not has_tag(docker_registry, repository, "latest")
    push(out, to, *flags, env=nix.environment).ok()


def test_a_repaired_item_is_pushed_whole(docker_registry, repository, nix, hurt, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    with hurt("repaired", append) as (out, _):
        push(out, to, env=nix.environment).failed(9, "damaged")
    push(out, to, env=nix.environment).ok()
    same_closure(f"{to}:latest", nix.closure(out), tmp_path / "out")


def test_what_has_no_recorded_hash_is_said(docker_registry, repository, nix, tmp_path):
    """`exportReferencesGraph` tells none, and a build has no database to look one up in."""
    out = nix.build("1")
    graph = tmp_path / "graph"
    lines = []
    for path in nix.closure(out):
        references = nix.run("nix-store", "--query", "--references", path).split()
        lines += [path, "", str(len(references)), *references]
    graph.write_text("\n".join(lines) + "\n")
    to = f"{docker_registry.host}/{repository}"
    count = len(nix.closure(out))
    away = nix.root / "database"
    nix.state.rename(away)
    try:
        done = push(f"closure:{graph}", to, "--platform", "linux/amd64").ok()
    finally:
        away.rename(nix.state)
    assert f"database state no hash of {count} of {count} store paths" in done.stderr
    known = push(f"closure:{graph}", to, "--platform", "linux/amd64", env=nix.environment).ok()
    assert "state no hash" not in known.stderr
