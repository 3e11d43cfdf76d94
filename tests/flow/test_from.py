"""`--from REF`: an image on top of another, over real registries."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.program import Outcome, push, regpush
from tests.programs import builds
from tests.registry.api import Api, descriptor, sha256
from tests.registry.faults import (
    FOREVER,
    Answer,
    Rule,
    Trouble,
    TroubledWire,
    answers,
    changed,
    error,
    fault_server,
)
from tests.registry.parts import real_part
from tests.registry.servers import Registry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    (app / "node_modules/left-pad").mkdir(parents=True)
    (app / "node_modules/left-pad/index.js").write_text("module.exports = 1\n" * 1000)
    (app / "node_modules/left-pad/package.json").write_text('{"name":"left-pad","version":"1.0.0"}')
    (app / "main.js").write_text("console.log(1)\n")
    return app


def layer(name: str, text: str = "base") -> bytes:
    """A layer of one file, as some other tool would make it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(archive.getvalue(), mtime=0)


def put_base(
    registry: Registry, repository: str, layers: Iterable[bytes], tag: str = "1", **config: Any
) -> str:
    """An image that regpush has not made; its reference."""
    at, layers = Api(registry.host, repository), list(layers)
    body = {
        "os": "linux",
        "architecture": "amd64",
        "config": config.pop("config", {}),
        "rootfs": {"type": "layers", "diff_ids": [sha256(gzip.decompress(one)) for one in layers]},
        **config,
    }
    data = json.dumps(body).encode()
    for blob in (data, *layers):
        at.put_blob(blob)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(data, CONFIG),
        "layers": [descriptor(one, LAYER) for one in layers],
    }
    assert at.put_manifest(tag, json.dumps(manifest).encode()).status == 201
    return f"{registry.host}/{repository}:{tag}"


def raw_bytes(reference: str) -> bytes:
    """The very bytes that a reference names, as skopeo reads them."""
    command = [real_part("skopeo"), "inspect", "--raw", "--tls-verify=false"]
    done = subprocess.run([*command, f"docker://{reference}"], capture_output=True, check=True)
    return done.stdout


def raw(reference: str) -> dict[str, Any]:
    return json.loads(raw_bytes(reference))


def config(reference: str) -> dict[str, Any]:
    command = [real_part("skopeo"), "inspect", "--config", "--raw", "--tls-verify=false"]
    done = subprocess.run([*command, f"docker://{reference}"], capture_output=True, check=True)
    return json.loads(done.stdout)


def below(outcome: Outcome) -> list[str]:
    """What became of the layers of the base."""
    return [one["action"] for one in outcome.report["images"][0]["base"]["layers"]]


def members(registry: Registry, repository: str, digest: str) -> list[str]:
    blob = Api(registry.host, repository).blob(digest).body
    with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
        return tar.getnames()


def test_layers_come_from_the_same_registry_by_mount(
    registry: Registry, repository: str, app: Path, tmp_path: Path
) -> None:
    blobs = [layer("etc/os", "one"), layer("etc/more", "two")]
    base = put_base(registry, f"{repository}-base", blobs)
    to = f"{registry.host}/{repository}"
    done = push(app, to, "--from", base).ok()
    assert below(done) == ["mounted", "mounted"]
    assert done.report["bytes"]["mounted"] == sum(map(len, blobs))
    manifest = raw(to)
    assert [one["digest"] for one in manifest["layers"][:2]] == [sha256(one) for one in blobs]
    digest = sha256(Api(registry.host, f"{repository}-base").manifest("1").body)
    assert manifest["annotations"]["org.opencontainers.image.base.name"] == base
    assert manifest["annotations"]["org.opencontainers.image.base.digest"] == digest
    assert done.report["images"][0]["base"]["digest"] == digest
    rootfs = images.unpack(f"{to}:latest", tmp_path / "out")
    assert (rootfs / "etc/os").read_text() == "one"
    images.assert_same_tree(images.tree(rootfs / "app"), images.as_store(images.tree(app)))
    # Nothing above what is ours: the base's own directories, or links, stay.
    above = [one["digest"] for one in manifest["layers"][2:]]
    own = [name for digest in above for name in members(registry, repository, digest)]
    assert own
    assert all(name.startswith("app") for name in own)
    shown = regpush("inspect", to).ok().stdout
    assert "base 1" in shown


def test_layers_come_from_another_registry_as_they_are(
    docker_registry: Registry,
    embedded_registry: Registry,
    repository: str,
    app: Path,
    tmp_path: Path,
) -> None:
    base = put_base(docker_registry, repository, [layer("etc/os")])
    to = f"{embedded_registry.host}/{repository}"
    planned = regpush("plan", app, "--to", to, "--from", base, "--format", "json").ok()
    assert below(planned) == ["upload"]
    done = push(app, to, "--from", base).ok()
    assert below(done) == ["uploaded"]
    rootfs = images.unpack(f"{to}:latest", tmp_path / "out")
    assert (rootfs / "etc/os").read_text() == "base"
    assert (rootfs / "app/main.js").exists()
    assert regpush("verify", to, app).ok().stdout


def test_what_did_not_change_is_not_sent(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    base = put_base(docker_registry, f"{repository}-base", [layer("etc/os")])
    to = f"{docker_registry.host}/{repository}"
    alone = f"{to}-alone"
    push(app, alone).ok()
    without = push(app, alone).ok().report["requests"]
    push(app, to, "--from", base).ok()
    again = push(app, to, "--from", base).ok()
    assert not again.report["changed"]
    assert again.report["bytes"]["uploaded"] == 0
    assert again.report["requests"] == without + 2  # the base's manifest and config
    assert below(again) == ["reused"]
    assert set(again.actions) == {"reused"}
    (app / "main.js").write_text("console.log(2)\n")
    changed = push(app, to, "--from", base).ok()
    assert below(changed) == ["reused"]
    assert changed.actions.count("uploaded") == 1
    assert changed.actions.count("reused") == len(changed.actions) - 1


def test_a_new_base_below_the_same_app(registry: Registry, repository: str, app: Path) -> None:
    base = put_base(registry, f"{repository}-base", [layer("etc/os", "old")])
    to = f"{registry.host}/{repository}"
    first = push(app, to, "--from", base).ok().report
    pinned = f"{base.rpartition(':')[0]}@{first['images'][0]['base']['digest']}"
    put_base(registry, f"{repository}-base", [layer("etc/os", "new"), layer("etc/more")])
    second = push(app, to, "--from", base).ok()
    assert below(second) == ["mounted", "mounted"]
    assert set(second.actions) == {"reused"}
    assert second.report["digest"] != first["digest"]
    # The old one by its digest: the name is another, the layers are the same.
    third = push(app, to, "--from", pinned).ok()
    assert set(third.actions) == {"reused"}
    annotations = raw(to)["annotations"]
    assert annotations["org.opencontainers.image.base.name"] == pinned
    tagged = f"{base}@{first['images'][0]['base']['digest']}"
    assert push(app, to, "--from", tagged).ok().report["digest"] == first["digest"]


def test_learning_above_a_base(registry: Registry, repository: str, app: Path) -> None:
    base = put_base(registry, f"{repository}-base", [layer("etc/os"), layer("etc/more")])
    to = f"{registry.host}/{repository}"
    flags = ("--from", base, "--layers", "auto")
    push(app, f"{to}:1", *flags).ok()
    (app / "main.js").write_text("console.log(2)\n")
    second = push(app, f"{to}:2", *flags).ok()
    assert second.actions.count("uploaded") == 1
    put_base(registry, f"{repository}-base", [layer("etc/os", "new")])
    third = push(app, f"{to}:3", *flags).ok()
    assert set(third.actions) == {"reused"}
    assert below(third) == ["mounted"]
    again = push(app, f"{to}:3", *flags).ok()
    assert not again.report["changed"]
    why = regpush("why", f"{to}:2", f"{to}:3").ok().stdout
    assert "the base changed" in why
    refused = regpush("why", f"{to}:3", app)
    refused.failed(2, "why compares two images", f"regpush plan {app} --to {to}:3")


def test_configuration_of_a_docker_image(
    docker_registry: Registry, repository: str, app: Path, tmp_path: Path
) -> None:
    """What is inherited, from an image with Docker's own media types."""
    run = {
        "Env": ["PATH=/bin", "A=0"],
        "Labels": {"maintainer": "x", "l": "0"},
        "Entrypoint": ["/init"],
        "Cmd": ["serve"],
        "User": "1000",
        "WorkingDir": "/srv",
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "true"]},
        "Shell": ["/bin/bash", "-c"],
        "OnBuild": ["RUN true"],
    }
    history = [{"created_by": "ADD"}, {"created_by": "CMD", "empty_layer": True}]
    oci = put_base(docker_registry, f"{repository}-oci", [layer("os")], config=run, history=history)
    base = f"{docker_registry.host}/{repository}-base:1"
    skopeo = [real_part("skopeo"), "copy", "--quiet", "--format", "v2s2"]
    there = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run([*skopeo, *there, f"docker://{oci}", f"docker://{base}"], check=True)
    assert "docker" in raw(base)["layers"][0]["mediaType"]
    to = f"{docker_registry.host}/{repository}"
    ours = ("-e", "A=1", "-l", "l=1", "--expose", "8080")
    push(app, to, "--from", base, *ours).ok()
    assert raw(to)["layers"][0]["mediaType"] == LAYER
    got = config(to)
    assert got["config"] == {
        **{key: value for key, value in run.items() if key != "OnBuild"},
        "Env": ["PATH=/bin", "A=1"],
        "Labels": {"maintainer": "x", "l": "1"},
        "ExposedPorts": {"80/tcp": {}, "8080/tcp": {}},
    }
    assert [one.get("created_by") for one in got["history"]][:2] == ["ADD", "CMD"]
    assert sum(not one.get("empty_layer") for one in got["history"]) == len(raw(to)["layers"])
    push(app, to, "--from", base, "--entrypoint", "/app/main.js", "-u", "0").ok()
    got = config(to)["config"]
    assert got["Entrypoint"] == ["/app/main.js"]
    assert "Cmd" not in got
    assert got["User"] == "0"


def test_a_base_without_a_history(registry: Registry, repository: str, app: Path) -> None:
    base = put_base(registry, f"{repository}-base", [layer("a"), layer("b")])
    to = f"{registry.host}/{repository}"
    push(app, to, "--from", base).ok()
    assert len(config(to)["history"]) == len(raw(to)["layers"])
    shown = regpush("inspect", to, "--format", "json").ok().report
    items = [one["items"] for one in shown["layers"]]
    assert items[:2] == [[], []]
    assert all(items[2:])


def test_a_base_for_several_platforms(
    registry: Registry, repository: str, app: Path, tmp_path: Path
) -> None:
    base = f"{registry.host}/{repository}-base"
    dist = builds(tmp_path / "dist", "amd64", "arm64")
    pushed = push(dist, base, "--platform", "linux/amd64,linux/arm64", "--root-dir", "/opt").ok()
    children = {one["platform"]: one["digest"] for one in pushed.report["images"]}
    to = f"{registry.host}/{repository}"
    done = push(app, to, "--from", base, "--platform", "linux/amd64,linux/arm64").ok().report
    assert {one["platform"]: one["base"]["digest"] for one in done["images"]} == children
    for one in done["images"]:
        ours = raw(f"{to}@{one['digest']}")["layers"]
        theirs = raw(f"{base}@{children[one['platform']]}")["layers"]
        assert [x["digest"] for x in ours[: len(theirs)]] == [x["digest"] for x in theirs]
    wrong = push(app, to, "--from", base, "--platform", "linux/s390x", "--replace-index")
    wrong.failed(2, "--from", "linux/s390x", "linux/amd64", "linux/arm64")


def test_layers_together_are_127_at_most(
    embedded_registry: Registry, repository: str, app: Path
) -> None:
    for number in range(8):
        package = app / f"node_modules/p{number}"
        package.mkdir()
        (package / "index.js").write_text(f"{number}\n" * 40_000)
        (package / "package.json").write_text(f'{{"name":"p{number}","version":"1.0.0"}}')
    to = f"{embedded_registry.host}/{repository}"
    many = [layer(f"f{number}") for number in range(127)]
    base = put_base(embedded_registry, f"{repository}-base", many[:124])
    done = push(app, to, "--from", base).ok()
    assert "--max-layers is lowered to 3" in done.stderr
    assert len(raw(to)["layers"]) == 127
    full = put_base(embedded_registry, f"{repository}-base", many, "2")
    push(app, to, "--from", full).failed(2, "127 layers", "no layer is left for the app")


@pytest.mark.parametrize(
    ("reference", "code", "words"),
    [
        ("{host}/no/such:1", 4, "no such image"),
        ("{host}/No:1", 2, "lower case"),
        ("127.0.0.1:1/x", 5, "127.0.0.1:1"),
    ],
)
def test_a_base_that_is_not_there(
    registry: Registry, repository: str, app: Path, reference: str, code: int, words: str
) -> None:
    to, base = f"{registry.host}/{repository}", reference.format(host=registry.host)
    push(app, to, "--from", base, "--retry-times", "0").failed(code, words)


def test_a_base_for_another_platform(registry: Registry, repository: str, app: Path) -> None:
    base = put_base(registry, f"{repository}-base", [layer("a")], architecture="arm64")
    to = f"{registry.host}/{repository}"
    push(app, to, "--from", base, "--platform", "linux/amd64").failed(
        2, "--from", "linux/arm64", "linux/amd64"
    )


def test_a_base_with_a_foreign_layer(docker_registry: Registry, repository: str, app: Path) -> None:
    base = put_base(docker_registry, f"{repository}-base", [layer("a")])

    def foreign(answer: Answer) -> None:
        foreign = b"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        answer.body = answer.body.replace(LAYER.encode(), foreign)
        answer.headers["Docker-Content-Digest"] = sha256(answer.body)
        answer.headers["Content-Length"] = str(len(answer.body))

    rule = Rule(changed(foreign), "GET", "tag", FOREVER)
    with fault_server(docker_registry.host, rule) as faults:
        there = base.replace(docker_registry.host, faults.host)
        push(app, f"{docker_registry.host}/{repository}", "--from", there).failed(
            2, "--from", "foreign layer"
        )


def test_a_base_that_wants_a_login(
    docker_registry_htpasswd: Registry, embedded_registry: Registry, repository: str, app: Path
) -> None:
    there = docker_registry_htpasswd
    login = ("--username", there.username, "--password-stdin")
    base, to = f"{there.host}/{repository}", f"{embedded_registry.host}/{repository}"
    push(app, base, *login, "--root-dir", "/opt", stdin=f"{there.password}\n").ok()
    push(app, to, "--from", base).failed(3, there.host)
    stored = {"auths": {there.host: {"username": there.username, "password": there.password}}}
    push(app, to, "--from", base, env={"REGPUSH_AUTH": json.dumps(stored)}).ok()


def _flip(answer: Answer) -> None:
    answer.body = bytes([answer.body[0] ^ 1]) + answer.body[1:]


@pytest.mark.parametrize(
    ("act", "code", "words"),
    [
        (changed(_flip), 8, "another digest"),
        (error(404, "BLOB_UNKNOWN"), 8, "is missing in the registry"),
        (answers(500), 5, "500"),
    ],
    ids=["wrong", "gone", "500"],
)
def test_a_base_that_fails_half_way(
    docker_registry: Registry,
    embedded_registry: Registry,
    repository: str,
    app: Path,
    act: Any,
    code: int,
    words: str,
) -> None:
    blob = layer("etc/os")
    put_base(docker_registry, repository, [blob])
    rule = Rule(act, "GET", "blob", FOREVER, only=lambda asked: sha256(blob) in asked.target)
    to = f"{embedded_registry.host}/{repository}"
    with fault_server(docker_registry.host, rule) as faults:
        base = f"{faults.host}/{repository}:1"
        push(app, to, "--from", base, "--retry-times", "0").failed(code, faults.host, words)
    assert Api(embedded_registry.host, repository).manifest("latest").status == 404


def test_a_base_whose_registry_dies_half_way(
    docker_registry: Registry, embedded_registry: Registry, repository: str, app: Path
) -> None:
    base = put_base(docker_registry, repository, [layer("etc/os", "x" * 100_000)])
    to = f"{embedded_registry.host}/{repository}"
    # Enough for manifest and config, not for the layers.
    cuts = [Trouble(cut_down=1500), *[Trouble(cut_down=0)] * 50]
    with TroubledWire(docker_registry.host, cuts) as wire:
        there = base.replace(docker_registry.host, wire.host)
        push(app, to, "--from", there, "--retry-times", "1").failed(5, wire.host)
    assert Api(embedded_registry.host, repository).manifest("latest").status == 404
    assert below(push(app, to, "--from", base).ok()) == ["uploaded"]


def test_a_blob_that_the_destination_lost(
    docker_registry: Registry, embedded_registry: Registry, repository: str, app: Path
) -> None:
    blob = layer("etc/os")
    base = put_base(embedded_registry, repository, [blob])
    size = {"Content_Length": str(len(blob))}
    there = answers(200, **size)
    lie = Rule(there, "HEAD", "blob", only=lambda asked: sha256(blob) in asked.target)
    with fault_server(docker_registry.host, lie) as faults:
        done = push(app, f"{faults.host}/{repository}", "--from", base).ok()
    assert "sending 1 blob again" in done.stderr
    assert Api(docker_registry.host, repository).blob(sha256(blob)).body == blob


def test_what_passes_through_counts(
    docker_registry: Registry, embedded_registry: Registry, repository: str, app: Path
) -> None:
    base = put_base(docker_registry, repository, [layer("etc/os"), b"".join([layer("x")])])
    to = f"{embedded_registry.host}/{repository}"
    push(app, to, "--from", base, "--max-upload", "250B").failed(7, "would be sent")


def test_links_and_no_essentials(registry: Registry, repository: str, app: Path) -> None:
    base = put_base(registry, f"{repository}-base", [layer("etc/os")])
    to = f"{registry.host}/{repository}"
    push(app, to, "--from", base, "-S", "/usr/bin/app=main.js").ok()
    top = raw(to)["layers"][-1]["digest"]
    names = members(registry, repository, top)
    assert "usr/bin/app" in names
    assert not {"tmp", "usr", "usr/bin"} & set(names)


def test_the_base_may_come_from_the_environment_and_the_configuration(
    registry: Registry, repository: str, app: Path
) -> None:
    base = put_base(registry, f"{repository}-base", [layer("etc/os")])
    to = f"{registry.host}/{repository}"
    one = push(app, to, env={"REGPUSH_FROM": base}).ok().report["images"][0]["base"]["name"]
    (app / "regpush.toml").write_text(f'[apps.web]\ntarget = "."\nfrom = "{base}"\n')
    done = regpush("web", "--to", to, "--format", "json", cwd=app).ok().report
    assert done["images"][0]["base"]["name"] == one == base
