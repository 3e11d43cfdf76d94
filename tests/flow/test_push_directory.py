"""Directories into real registries, and back out through skopeo and umoci."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import oras.client
import pytest

from regpush.flow import pipeline
from regpush.http.exchange import Exchange
from regpush.registry.client import Client
from regpush.settings import Settings
from regpush.transfer import schedule
from tests.images import tree, unpack
from tests.patience import HANG_S
from tests.program import (
    PATIENT,
    Outcome,
    environment,
    open_directory,
    open_to_all,
    push,
    regpush,
    regpush_as_nobody,
)
from tests.registry.parts import real_part


def write(path: Path, text: str | bytes = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def app(tmp_path) -> Path:
    """A small app with dependencies of two kinds."""
    root = tmp_path / "myapp"
    write(root / "main.py", "print('hello')\n")
    write(root / "static" / "logo.svg", "<svg/>")
    write(root / "node_modules" / "left-pad" / "index.js", os.urandom(300_000))
    write(root / "node_modules" / "@scope" / "pkg" / "index.js", os.urandom(400_000))
    write(root / "node_modules" / ".package-lock.json", "{}")
    write(root / "vendor" / "lib" / "a.go", "package a\n" * 50_000)
    (root / "node_modules" / ".bin").mkdir()
    (root / "node_modules" / ".bin" / "pad").symlink_to("../left-pad/index.js")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o775)
    return root


def below(path):
    """A tree without what the store profile does not keep: owners, hard links, `go` bits."""

    def mode(node):
        user = node.mode >> 6 & 7
        others = user & 5
        return 0o777 if node.kind == "symlink" else user << 6 | others << 3 | others

    return {
        name: (node.kind, mode(node), node.size, node.sha256, node.target)
        for name, node in tree(path).items()
    }


def same_app(to, app, directory):
    root = unpack(to, directory)
    assert below(root / "app") == below(app)
    assert {node.uid for node in tree(root / "app").values()} == {os.getuid()}
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    return root


def tags(registry, repository):
    with urllib.request.urlopen(f"{registry.url}/v2/{repository}/tags/list") as reply:
        return json.load(reply)["tags"]


def has_tag(registry, repository, tag):
    request = urllib.request.Request(
        f"{registry.url}/v2/{repository}/manifests/{tag}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        method="HEAD",
    )
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as error:
        error.close()
        return False
    return True


def test_stdout_is_one_line_that_names_the_image(registry, repository, app):
    to = f"{registry.host}/{repository}"
    done = regpush(app, "--to", to).ok()
    (line,) = done.stdout.splitlines()
    name, digest = line.split("@")
    assert name == to
    skopeo = [real_part("skopeo"), "inspect", "--tls-verify=false", f"docker://{to}:latest"]
    seen = json.loads(subprocess.run(skopeo, check=True, capture_output=True).stdout)
    assert seen["Digest"] == digest
    assert (seen["Os"], seen["Architecture"]) == ("linux", "amd64")
    assert "layer" in done.stderr
    assert "uploaded" in done.stderr
    assert "Sent" in done.stderr


def test_what_was_pushed_unpacks_to_what_was_there(registry, repository, app, tmp_path):
    to = f"{registry.host}/{repository}"
    push(app, to).ok()
    same_app(f"{to}:latest", app, tmp_path / "out")


@pytest.mark.parametrize("tag", ["latest", "v1"])
def test_an_unchanged_app_costs_two_questions(registry, repository, app, wire, tag):
    proxy = wire(registry)
    to = f"{proxy.host}/{repository}:{tag}"
    first = push(app, to).ok().report
    proxy.reset()
    second = push(app, to, program=PATIENT).ok().report
    stats = proxy.stats()
    assert second["digest"] == first["digest"]
    assert not second["changed"]
    assert first["changed"]
    manifest, config = stats.requests
    assert (manifest.method, manifest.target.rpartition("/")[2]) == ("GET", tag)
    assert (config.method, config.target.rpartition("/")[2][:7]) == ("GET", "sha256:")
    assert stats.connections == 1
    assert stats.bytes_up < 20_000


def test_the_changed_layer_asks_for_its_session_before_any_question(
    registry, repository, app, monkeypatch
):
    """Its upload is the longest chain of round trips: no question may take its connection."""
    asked = []
    send = Exchange.send

    def sending(exchange, request):
        asked.append(request.method)
        return send(exchange, request)

    monkeypatch.setattr(Exchange, "send", sending)
    monkeypatch.setattr(schedule, "_HEAD_START_S", 60)  # a busy machine is slow to start threads
    to = f"{registry.host}/{repository}"
    pipeline.push(str(app), to=to, settings=Settings())
    (app / "main.py").write_text("print('changed')\n")
    asked.clear()
    pipeline.push(str(app), to=to, settings=Settings())
    assert asked[:3] == ["GET", "GET", "POST"]
    assert asked[-1] == "HEAD"
    assert asked.count("HEAD") >= 4


def test_a_new_tag_begins_connections_before_the_plan_is_known(
    registry, repository, app, monkeypatch
):
    """With a tag that exists, the app's own code must differ, or the plan."""
    begun = []
    begin = Client.open_ahead

    def open_ahead(client, reference, count):
        begun.append(count)
        begin(client, reference, count)

    monkeypatch.setattr(Client, "open_ahead", open_ahead)

    def begun_by_push(tag):
        begun.clear()
        to = f"{registry.host}/{repository}:{tag}"
        result = pipeline.push(str(app), to=to, settings=Settings())
        return begun, len(result.images[0].layers) + 4

    begun_by_push("latest")
    counts, _ = begun_by_push("latest")
    assert counts == [1]
    (app / "main.py").write_text("print('changed')\n")
    counts, needed = begun_by_push("latest")
    assert counts == [1, needed, needed]
    (app / "main.py").write_text("print('changed again')\n")
    counts, needed = begun_by_push("new")
    assert counts == [1, needed, needed]


def test_what_another_tag_has_is_found_where_the_own_tag_lacks_it(registry, repository, app):
    """The tag to move is looked at first, and all others where a layer is not known by it."""
    to = f"{registry.host}/{repository}"
    push(app, f"{to}:old").ok()
    write(app / "main.py", "print('new')\n")
    push(app, f"{to}:latest").ok()
    moved = push(app, f"{to}:old").ok().report
    layers = [layer for image in moved["images"] for layer in image["layers"]]
    assert {layer["action"] for layer in layers} == {"reused"}
    assert moved["changed"]


def test_only_the_top_layer_crosses_when_the_app_changes(registry, repository, app, wire, tmp_path):
    proxy = wire(registry)
    to = f"{proxy.host}/{repository}"
    push(app, to).ok()
    write(app / "main.py", "print('hello again')\n")
    proxy.reset()
    second = push(app, to).ok()
    assert second.actions.count("uploaded") == 1
    assert second.actions[-1] == "uploaded"
    assert proxy.stats().bytes_up < 20_000
    same_app(f"{registry.host}/{repository}:latest", app, tmp_path / "out")


@pytest.fixture
def large(tmp_path) -> Path:
    """An app with 12 MB of own code: loose files, folders in folders, a package of 9 MB."""
    root = tmp_path / "large"
    for number in range(100):
        write(root / "loose" / f"f{number:02}", os.urandom(40_000))
        write(root / "data" / f"d{number % 7}" / f"{number % 3}" / f"f{number}", os.urandom(80_000))
        write(root / "node_modules" / "big" / f"p{number % 2}" / f"f{number}", os.urandom(90_000))
    write(root / "main.py", "print('hello')\n")
    (root / "data" / "d1").chmod(0o700)
    (root / "data" / "latest").symlink_to("d1/2")
    return root


def test_one_file_of_a_large_app_is_one_small_layer(
    docker_registry, repository, large, wire, tmp_path
):
    proxy = wire(docker_registry)
    to = f"{proxy.host}/{repository}"
    first = push(large, to).ok()
    assert len(first.actions) > 8
    same_app(f"{docker_registry.host}/{repository}:latest", large, tmp_path / "first")
    changed = large / "data" / "d3" / "1" / "f10"
    write(changed, "n" * changed.stat().st_size)
    write(large / "node_modules" / "big" / "p1" / "f1", "new")
    proxy.reset()
    second = push(large, to).ok()
    assert second.actions.count("uploaded") == 2
    assert proxy.stats().bytes_up < 7_000_000
    same_app(f"{docker_registry.host}/{repository}:latest", large, tmp_path / "out")


@pytest.mark.parametrize("where", [["--root-dir", "/"], ["--preserve"]])
def test_a_large_tree_comes_back_as_it_was(docker_registry, repository, large, tmp_path, where):
    """Modes, owners and hard links, also of folders that are divided among layers."""
    os.link(large / "loose" / "f00", large / "data" / "d5" / "linked")
    os.link(large / "data" / "d5" / "linked", large / "another")
    (large / "loose").chmod(0o2751)
    if os.getuid() == 0:
        os.chown(large / "data", 12, 34)
        os.chown(large / "data" / "d2" / "1", 56, 78)
    to = f"{docker_registry.host}/{repository}"
    layers = push(large, to, *where).ok().actions
    assert len(layers) > 5
    out = unpack(f"{to}:latest", tmp_path / "out")
    out = out if "/" in where else out / "app"
    assert tree(out) == tree(large)
    assert (out / "another").stat().st_nlink == 3


def test_a_tag_for_every_commit_reuses_as_well(registry, repository, app, tmp_path):
    to = f"{registry.host}/{repository}"
    push(app, f"{to}:sha1").ok()
    write(app / "main.py", "print('two')\n")
    second = push(app, f"{to}:sha2").ok()
    assert second.actions.count("uploaded") == 1
    assert sorted(tags(registry, repository)) == ["sha1", "sha2"]
    third = push(app, f"{to}:sha3").ok()
    assert set(third.actions) == {"reused"}
    assert third.report["digest"] == second.report["digest"]
    same_app(f"{to}:sha3", app, tmp_path / "out")


def test_a_latest_that_nobody_moves_any_more_is_not_all_that_is_looked_at(
    registry, repository, app, tmp_path
):
    to = f"{registry.host}/{repository}"
    old = write(tmp_path / "old" / "main.py").parent
    push(old, f"{to}:latest").ok()
    push(app, f"{to}:sha1").ok()
    write(app / "main.py", "print('two')\n")
    assert push(app, f"{to}:sha2").ok().actions.count("uploaded") == 1
    same_app(f"{to}:sha2", app, tmp_path / "out")


def test_several_tags(registry, repository, app):
    to = f"{registry.host}/{repository}:one"
    done = push(app, to, "-t", "two", "--tag", "three").ok().report
    assert done["destinations"][0]["tags"] == ["one", "two", "three"]
    assert sorted(tags(registry, repository)) == ["one", "three", "two"]
    again = push(app, to, "-t", "four").ok().report
    assert again["changed"]
    assert again["digest"] == done["digest"]
    assert sorted(tags(registry, repository)) == ["four", "one", "three", "two"]


def test_check_asks_for_every_blob(docker_registry, repository, app, wire):
    """A registry that lost a blob says so only when it is asked."""
    proxy = wire(docker_registry)
    to = f"{proxy.host}/{repository}"
    first = push(app, to).ok().report["images"][0]["layers"]
    proxy.reset()
    push(app, to, "--check").ok()
    asked = {r.target.rpartition("/")[2] for r in proxy.stats().requests if r.method == "HEAD"}
    assert {layer["digest"] for layer in first} <= asked
    lost = first[0]["digest"].removeprefix("sha256:")
    link = f"docker/registry/v2/repositories/{repository}/_layers/sha256/{lost}/link"
    (docker_registry.storage / link).unlink()
    again = push(app, to, "--check").ok()
    assert again.actions[0] == "uploaded"
    assert (docker_registry.storage / link).exists()


def test_by_digest_tags_nothing(docker_registry, repository, app, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    done = push(app, to, "--by-digest").ok().report
    assert done["destinations"][0]["tags"] == []
    assert not has_tag(docker_registry, repository, "latest")
    same_app(done["ref"], app, tmp_path / "out")
    push(app, f"{to}:x", "--by-digest").failed(2, "--by-digest")


def in_shell(script, *arguments):
    """regpush with `arguments`, started by a shell that runs `script` first."""
    command = [sys.executable, "-m", "regpush", *map(str, arguments)]
    done = subprocess.run(
        ["sh", "-c", f'{script}; exec "$@"', "sh", *command],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_few_open_files_are_enough(docker_registry, repository, large):
    to = f"{docker_registry.host}/{repository}"
    for jobs in ("4", "16"):
        in_shell("ulimit -n 256", large, "--to", to, "--jobs", jobs, "--reuse", "none").ok()


def test_a_current_directory_that_was_deleted(docker_registry, repository, app, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    script = f"mkdir '{tmp_path}/gone' && cd '{tmp_path}/gone' && rmdir '{tmp_path}/gone'"
    in_shell(script, app, "--to", to).ok()
    for target in (".", "dir:app", "store:x"):
        done = in_shell(script, target, "--to", to).failed(2, "the current directory was deleted")
        assert done.stdout == ""
    in_shell(script, tmp_path / "none", "--to", to).failed(2, "does not exist")


def test_an_unchanged_layer_is_read_once_and_neither_compressed_nor_sent(
    docker_registry, repository, app, tmp_path
):
    """Opens are counted by strace, outside our code."""
    strace = real_part("strace")
    to = f"{docker_registry.host}/{repository}"
    push(app, to).ok()
    log = tmp_path / "opens"
    subprocess.run(
        [
            *(strace, "-f", "-y", "-qq", "-e", "trace=open,openat", "-o", log),
            *(sys.executable, "-m", "regpush", str(app), "--to", to, "--no-cache"),
        ],
        env=environment(),
        check=True,
        capture_output=True,
    )
    opened = log.read_text().count("node_modules/left-pad/index.js>")  # what a call returned
    assert opened == 1


def test_reuse_content_trusts_nothing_it_did_not_derive(registry, repository, app, tmp_path):
    to = f"{registry.host}/{repository}"
    first = push(app, to).ok().report
    again = push(app, to, "--reuse", "content").ok()
    assert set(again.actions) == {"reused"}
    assert again.report["digest"] == first["digest"]
    assert all("content" in layer["why"] for layer in again.report["images"][0]["layers"])
    same_app(f"{to}:latest", app, tmp_path / "out")


def test_a_planted_recipe_is_believed_by_default_and_not_with_content(
    docker_registry, repository, app, tmp_path
):
    """Someone who may push a tag can plant a layer under a trusted recipe (SECURITY.md)."""
    to = f"{docker_registry.host}/{repository}"
    honest = push(app, f"{to}:a").ok().report["images"][0]["layers"]
    evil = shutil.copytree(app, tmp_path / "evil" / "myapp", symlinks=True)
    write(evil / "vendor" / "lib" / "a.go", "package b\n" * 50_000)
    planted = push(evil, f"{to}:b").ok().report
    manifest = json.loads(_get(docker_registry, f"{repository}/manifests/{planted['digest']}"))
    for layer, other in zip(manifest["layers"], honest, strict=True):
        layer["annotations"]["dev.regpush.recipe"] = other["recipe"]
    _put(docker_registry, f"{repository}/manifests/latest", manifest)
    push(app, f"{to}:latest").ok()
    root = unpack(f"{to}:latest", tmp_path / "believed")
    assert (root / "app/vendor/lib/a.go").read_text().startswith("package b")
    push(app, f"{to}:latest", "--reuse", "content").ok()
    same_app(f"{to}:latest", app, tmp_path / "out")


def test_a_planted_layer_does_not_travel_by_the_local_index(docker_registry, repository, tmp_path):
    """What was reused on the word of one repository's writers is no word for another."""
    home = {"HOME": str(tmp_path / "home")}
    app, evil = tmp_path / "good" / "app", tmp_path / "evil" / "app"
    write(app / "a", "good")
    write(evil / "a", "evil")
    dev, prod = (f"{docker_registry.host}/{repository}-{name}" for name in ("dev", "prod"))
    (honest,) = push(app, f"{dev}:honest").ok().report["images"][0]["layers"]
    planted = push(evil, f"{dev}:evil").ok().report["digest"]
    manifest = json.loads(_get(docker_registry, f"{repository}-dev/manifests/{planted}"))
    manifest["layers"][0]["annotations"]["dev.regpush.recipe"] = honest["recipe"]
    _put(docker_registry, f"{repository}-dev/manifests/latest", manifest)
    arguments = ["--format", "json"]
    regpush(app, "--to", dev, *arguments, env=home).ok()
    done = regpush(app, "--to", prod, *arguments, env=home).ok()
    assert done.actions == ["uploaded"]
    same_app(f"{prod}:latest", app, tmp_path / "out")


def test_a_config_that_was_lost_is_sent_again(docker_registry, repository, app, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    digest = push(app, to).ok().report["digest"]
    manifest = json.loads(_get(docker_registry, f"{repository}/manifests/{digest}"))
    lost = manifest["config"]["digest"].removeprefix("sha256:")
    blob = f"docker/registry/v2/blobs/sha256/{lost[:2]}/{lost}"
    shutil.rmtree(docker_registry.storage / blob)
    push(app, to).ok()
    same_app(f"{to}:latest", app, tmp_path / "out")


def test_a_damaged_tag_that_is_not_ours_is_a_miss(docker_registry, repository, app):
    to = f"{docker_registry.host}/{repository}"
    digest = push(app, f"{to}:bad").ok().report["digest"].removeprefix("sha256:")
    data = docker_registry.storage / f"docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"
    data.write_text("{")
    write(app / "main.py", "two")
    done = push(app, f"{to}:other", "--retry-times", "0").ok()
    assert "gives nothing to reuse" in done.stderr
    push(app, f"{to}:third", "--retry-times", "0", "--reuse", "none").ok()


def test_files_that_steer_the_push_are_no_traps(docker_registry, repository, app):
    """A FIFO is not waited for, a link not followed, a device not read to its end."""
    to = f"{docker_registry.host}/{repository}"
    record = app / "site-packages" / "foo-1.dist-info" / "RECORD"
    write(app / "site-packages" / "foo" / "x")
    record.parent.mkdir()
    record.symlink_to("/dev/zero")
    push(app, to, timeout=HANG_S).ok()
    os.mkfifo(app / ".regpushignore")
    push(app, to, timeout=HANG_S).failed(9, ".regpushignore")
    (app / ".regpushignore").unlink()
    write(app / ".regpushignore", "[a-z\n")
    assert "warning: " in (warned := push(app, to).ok().stderr)
    assert "'[a-z' matches nothing: its bracket is not closed" in warned
    regpush(app, "--to", to, "--strict").failed(2, "[a-z", "--strict")
    write(app / ".regpushignore", b"\xef\xbb\xbfmain.py\nrun\xe2\x80\xa8.sh\n")
    plain = push(app, to).ok().report
    assert plain["changed"]


def test_the_advice_for_a_secret_works_as_it_stands(docker_registry, repository, app):
    to = f"{docker_registry.host}/{repository}"
    write(app / "[x] y*" / ".env", "A=1")
    advice = push(app, to).failed(2, "--allow-secret").stderr.rpartition("--allow-secret ")[2]
    push(app, to, "--allow-secret", advice.strip().strip("'")).ok()


def test_reuse_none_depends_on_no_history(registry, repository, app):
    to = f"{registry.host}/{repository}"
    first = push(app, f"{to}:a", "--reuse", "none").ok()
    assert "uploaded" in first.actions
    push(app, f"{to}:zstd", "--compression", "zstd").ok()
    second = push(app, f"{to}:b", "--reuse", "none").ok()
    assert second.report["digest"] == first.report["digest"]
    third = push(app, f"{to}-other", "--reuse", "none").ok()
    assert third.report["digest"] == first.report["digest"]


def test_layers_of_another_tool_are_found_by_content(docker_registry, repository, app, tmp_path):
    """An image that lost its annotations, as some tools' copies do."""
    to = f"{docker_registry.host}/{repository}"
    push(app, to).ok()
    image = ["--src-tls-verify=false", f"docker://{to}:latest"]
    # Docker's manifests have no annotations at all.
    subprocess.run(
        [
            *(real_part("skopeo"), "copy", "-q", *image, "--dest-tls-verify=false"),
            *("--format", "v2s2", f"docker://{to}:latest"),
        ],
        check=True,
    )
    again = push(app, to).ok()
    assert set(again.actions) == {"reused"}
    same_app(f"{to}:latest", app, tmp_path / "out")


def test_an_explicit_compression_is_kept(registry, repository, app, tmp_path):
    to = f"{registry.host}/{repository}"
    push(app, to).ok()
    types = {
        "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
        "none": "application/vnd.oci.image.layer.v1.tar",
        "gzip:best": "application/vnd.oci.image.layer.v1.tar+gzip",
    }
    for name, media_type in types.items():
        layers = push(app, to, "--compression", name).ok().report["images"][0]["layers"]
        assert {layer["media_type"] for layer in layers} == {media_type}
    default = push(app, to).ok()
    assert set(default.actions) == {"reused"}
    same_app(f"{to}:latest", app, tmp_path / "out")
    copy = [real_part("skopeo"), "copy", "-q", "--src-tls-verify=false"]
    subprocess.run([*copy, f"docker://{to}:latest", f"dir:{app.parent / 'copied'}"], check=True)


def test_layers_are_mounted_from_another_repository(registry, repository, app, wire, tmp_path):
    push(app, f"{registry.host}/{repository}").ok()
    proxy = wire(registry)
    to = f"{proxy.host}/{repository}-two"
    done = push(app, to, "--reuse-from", f"{proxy.host}/{repository}:latest").ok()
    assert set(done.actions) == {"mounted"}
    assert done.report["bytes"]["mounted"] > 700_000
    assert proxy.stats().bytes_up < 30_000
    same_app(f"{registry.host}/{repository}-two:latest", app, tmp_path / "out")


def test_the_local_index_is_the_second_thing_to_ask(registry, repository, app, tmp_path):
    home = {"HOME": str(tmp_path / "home")}
    regpush(app, "--to", f"{registry.host}/{repository}", env=home).ok()
    done = regpush(
        app, "--to", f"{registry.host}/{repository}-two", "--format", "json", env=home
    ).ok()
    assert set(done.actions) == {"mounted"}
    assert (tmp_path / "home/.cache/regpush").is_dir()
    same_app(f"{registry.host}/{repository}-two:latest", app, tmp_path / "out")


def test_a_read_only_home_is_no_error(registry, repository, app, tmp_path):
    write(tmp_path / "not-a-directory")
    home = {"HOME": str(tmp_path / "not-a-directory")}
    regpush(app, "--to", f"{registry.host}/{repository}", env=home).ok()


def test_the_store_profile_forgets_where_and_who(registry, repository, app, tmp_path):
    to = f"{registry.host}/{repository}"
    first = push(app, f"{to}:a", "--reuse", "none").ok().report["digest"]
    other = tmp_path / "deeper" / "down" / "myapp"
    other.mkdir(parents=True)
    subprocess.run(["tar", "-C", app, "-cf", tmp_path / "t", "."], check=True)
    subprocess.run(["tar", "-C", other, "-xf", tmp_path / "t", "--sort=inode"], check=False)
    subprocess.run(
        ["tar", "-C", other, "--no-same-permissions", "--touch", "-xf", tmp_path / "t"],
        check=True,
        preexec_fn=lambda: os.umask(0o077),
    )
    assert push(other, f"{to}:b", "--reuse", "none").ok().report["digest"] == first


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_with_nothing_to_write_to_gets_the_same_digest(
    docker_registry, repository, app
):
    to = f"{docker_registry.host}/{repository}"
    first = push(app, f"{to}:a", "--reuse", "none").ok().report["digest"]
    with open_directory() as there:
        sealed = there / "sealed"
        sealed.mkdir(mode=0o555)
        copy = Path(shutil.move(app, there))
        open_to_all(copy)
        env = {"HOME": str(sealed), "TMPDIR": str(sealed)}
        arguments = [copy, "--to", f"{to}:b", "--reuse", "none", "--format", "json"]
        done = regpush_as_nobody(*arguments, env=env)
    assert done.ok().report["digest"] == first


def test_the_tree_profile_gives_the_same_tree_back(registry, repository, tmp_path):
    root = tmp_path / "root"
    for name in ("tmp", "bin", "dev", "etc"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    su = write(root / "bin/su", "#!/bin/sh\n")
    su.chmod(0o4755)
    os.link(su, root / "bin/su2")
    (root / "etc" / "mtab").symlink_to("../proc/mounts")
    write(root / "dev" / "log")
    if os.getuid() == 0:
        os.chown(root / "etc", 12, 34)
        os.chown(write(root / "etc/shadow"), 0, 42)
    (root / "etc").chmod(0o2750)
    su.chmod(0o4755)
    to = f"{registry.host}/{repository}"
    done = push(root, to, "--root-dir", "/").ok()
    assert "/dev" in done.stderr
    (root / "dev/log").unlink()
    out = unpack(f"{to}:latest", tmp_path / "out")
    assert tree(out) == tree(root)
    assert (out / "bin/su").stat().st_nlink == 2


@pytest.mark.skipif(os.getuid() != 0, reason="capabilities are root's to give")
def test_extended_attributes_are_kept_where_asked(docker_registry, repository, tmp_path):
    """A file capability, as `setcap cap_net_raw+ep` writes it, and a user attribute."""
    root = tmp_path / "app"
    ping = write(root / "ping")
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    try:
        os.setxattr(ping, "security.capability", capability)
        os.setxattr(ping, "user.note", "é\0\n".encode())
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    to = f"{docker_registry.host}/{repository}"
    push(root, f"{to}:with", "--preserve-xattrs").ok()
    kept = unpack(f"{to}:with", tmp_path / "with") / "app" / "ping"
    assert os.getxattr(kept, "security.capability") == capability
    assert os.getxattr(kept, "user.note") == "é\0\n".encode()
    push(root, f"{to}:without", "--preserve").ok()
    plain = unpack(f"{to}:without", tmp_path / "without") / "app" / "ping"
    assert os.listxattr(plain) == []


@pytest.mark.parametrize("profile", [[], ["--preserve"]])
def test_names_of_every_kind(registry, repository, tmp_path, profile):
    root = tmp_path / "app"
    write(root / "plain")
    write(root / "with\nnewline", "1")
    write(root / "ünïcödé-☃", "2")
    write(root / "sp ace" / "q'uo\"te", "3")
    write(root / ("d" * 100) / ("e" * 100) / ("f" * 95), "4")
    write(root / ("g" * 200), "5")
    write(root / "-dash")
    write(root / "a=b")
    (root / "dangling").symlink_to("/nowhere/" + "h" * 200)
    (root / "loop").symlink_to("loop")
    write(root / "one")
    os.link(root / "one", root / "two")
    (root / "empty").mkdir()
    to = f"{registry.host}/{repository}"
    push(root, to, *profile).ok()
    out = unpack(f"{to}:latest", tmp_path / "out") / "app"
    assert tree(out) == tree(root) if profile else below(out) == below(root)


def test_names_that_are_not_utf8(docker_registry, repository, tmp_path):
    """umoci and Go keep such bytes; GNU tar too."""
    root = tmp_path / "app"
    write(root / "plain")
    (Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9"))).write_text("x")
    to = f"{docker_registry.host}/{repository}"
    push(root, to).ok()
    out = unpack(f"{to}:latest", tmp_path / "out") / "app"
    assert below(out) == below(root)


def test_what_cannot_be_packed_is_named(docker_registry, repository, app):
    write(app / ".wh.bad")
    done = push(app, f"{docker_registry.host}/{repository}").failed(9, "bad", ".wh.")
    assert done.stdout == ""
    assert not has_tag(docker_registry, repository, "latest")


def test_sockets_and_fifos_stay_out(docker_registry, repository, app, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    before = below(app)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(app / "dev.sock"))
    os.mkfifo(app / "fifo")
    done = push(app, to).ok()
    assert "sockets and FIFOs are left out: dev.sock, fifo" in done.stderr
    assert below(unpack(f"{to}:latest", tmp_path / "out") / "app") == before


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
def test_an_unreadable_file_is_named(docker_registry, repository, app, tmp_path):
    (app / "main.py").chmod(0)
    with open_directory() as there:
        copy = Path(shutil.move(app, there))
        open_to_all(copy)
        done = regpush_as_nobody(copy, "--to", f"{docker_registry.host}/{repository}")
    done.failed(9, "main.py", "Permission denied")
    assert not has_tag(docker_registry, repository, "latest")


def test_a_file_that_changes_while_it_is_read(docker_registry, repository, app):
    """Another process keeps appending: whatever the moment, nothing may be tagged."""
    file = write(app / "growing.log", os.urandom(5_000_000))
    writer = subprocess.Popen(
        ["sh", "-c", f"while :; do echo more >> '{file}'; done"], start_new_session=True
    )
    try:
        push(app, f"{docker_registry.host}/{repository}").failed(9, "changed", "growing.log")
    finally:
        os.killpg(writer.pid, 9)
        writer.wait()
    assert not has_tag(docker_registry, repository, "latest")


def test_a_directory_lands_where_it_is_told(registry, repository, app, tmp_path):
    to = f"{registry.host}/{repository}"
    push(app, to, "--root-dir", "/srv/www/site").ok()
    out = unpack(f"{to}:latest", tmp_path / "out")
    assert below(out / "srv/www/site") == below(app)
    assert (out / "srv").stat().st_mode & 0o777 == 0o755


def test_every_strategy_and_every_number_of_layers(docker_registry, repository, app, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    for number, (name, most) in enumerate(
        [("single", 64), ("app-deps", 64), ("size", 64), ("popularity", 3), ("stable", 1)]
    ):
        done = push(app, to, "--layers", name, "--max-layers", most).ok()
        assert 1 <= len(done.actions) <= most
        assert (len(done.actions) == 1) == (name == "single" or most == 1)
        same_app(f"{to}:latest", app, tmp_path / f"out{number}")


def test_an_image_for_several_platforms_is_not_replaced(docker_registry, repository, app, tmp_path):
    host, name = docker_registry.host, repository
    digest = push(app, f"{host}/{name}:one").ok().report["digest"]
    manifest = json.loads(_get(docker_registry, f"{name}/manifests/{digest}"))
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": manifest["mediaType"],
                "digest": digest,
                "size": len(_get(docker_registry, f"{name}/manifests/{digest}")),
                "platform": {"os": "linux", "architecture": "amd64"},
            }
        ],
    }
    _put(docker_registry, f"{name}/manifests/latest", index)
    push(app, f"{host}/{name}").failed(6, "--replace-index")
    # The child for our platform is a previous image all the same.
    done = push(app, f"{host}/{name}", "--replace-index").ok()
    assert set(done.actions) == {"reused"}
    same_app(f"{host}/{name}:latest", app, tmp_path / "out")


def _put(registry, path, manifest):
    request = urllib.request.Request(
        f"{registry.url}/v2/{path}",
        data=json.dumps(manifest).encode(),
        headers={"Content-Type": manifest["mediaType"]},
        method="PUT",
    )
    urllib.request.urlopen(request).close()


def _get(registry, path):
    request = urllib.request.Request(
        f"{registry.url}/v2/{path}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request) as reply:
        return reply.read()


def test_an_artifact_under_the_tag_is_a_miss_not_a_crash(
    docker_registry, repository, app, tmp_path
):
    """An SBOM pushed by oras, say, where an image was expected."""
    host = docker_registry.host
    folder = tmp_path / "artifact"
    write(folder / "sbom.json", "{}")
    client = oras.client.OrasClient(insecure=True)
    with contextlib.chdir(folder):
        client.push(target=f"{host}/{repository}:latest", files=["sbom.json"])
    done = push(app, f"{host}/{repository}").ok()
    assert "gives nothing to reuse" in done.stderr
