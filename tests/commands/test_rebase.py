"""`regpush rebase`: the same layers on another base, on real registries and without sources."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from regpush.commands.rebase import rebased
from regpush.digest import OCI_LAYER_GZIP, Descriptor, Digest
from regpush.image.image import Base, Image, Layer, build
from regpush.options import ImageOptions
from regpush.platform import Platform
from tests import images
from tests.flow.test_from import app, config, layer, put_base, raw
from tests.program import Outcome, push, regpush
from tests.programs import builds
from tests.registry.api import INDEX_TYPE, Api, sha256
from tests.registry.faults import FOREVER, Rule, answers, changed, error, fault_server
from tests.registry.servers import Registry

__all__ = ["app"]


def rebase(reference: str, base: str, *flags: str, **more: Any) -> Outcome:
    return regpush("rebase", reference, "--from", base, "--format", "json", *flags, **more)


OLD = {"Env": ["PATH=/bin", "OLD=1", "A=base"], "Cmd": ["sh"], "Labels": {"of": "old"}}
NEW = {"Env": ["PATH=/sbin", "NEW=1", "A=new"], "Cmd": ["bash"], "User": "7"}


def test_a_rebased_image_is_what_a_push_would_have_made(
    docker_registry: Registry,
    embedded_registry: Registry,
    repository: str,
    app: Path,
    tmp_path: Path,
) -> None:
    """To the byte, though the sources are gone; and the way back is as exact."""
    bases = f"{repository}-base"
    old = put_base(docker_registry, bases, [layer("etc/os", "old"), layer("x")], config=OLD)
    new = put_base(docker_registry, bases, [layer("etc/os", "new")], "2", config=NEW)
    to = f"{embedded_registry.host}/{repository}"
    flags = ("-e", "A=mine", "-l", "l=1", "--expose", "80")
    first = push(app, f"{to}:1", "--from", old, *flags).ok().report
    wanted = push(app, f"{to}:wanted", "--from", new, *flags).ok().report
    shutil.rmtree(app)
    done = rebase(f"{to}:1", new, "-t", "2").ok()
    assert done.report["digest"] == wanted["digest"]
    assert done.report["destinations"][0]["moved"] == ["2"]
    assert set(done.actions) == {"reused"}
    got = config(f"{to}:2")["config"]
    assert got["Env"] == ["PATH=/sbin", "NEW=1", "A=mine"]
    assert (got["Cmd"], got["User"], got["Labels"]) == (["bash"], "7", {"l": "1"})
    rootfs = images.unpack(f"{to}:2", tmp_path / "out")
    assert (rootfs / "etc/os").read_text() == "new"
    assert (rootfs / "app/main.js").exists()
    assert not (rootfs / "x").exists()
    back = rebase(f"{to}:2", old).ok().report
    assert back["digest"] == first["digest"]
    assert back["destinations"][0]["tags"] == ["2"]
    again = rebase(f"{to}:2", old).ok().report
    assert not again["changed"]
    assert again["bytes"]["uploaded"] == 0


def test_a_tag_that_exists_is_skipped_before_a_base_is_read(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    base = put_base(docker_registry, f"{repository}-base", [layer("etc/os", "old")], config=OLD)
    to = f"{docker_registry.host}/{repository}:1"
    push(app, to, "--from", base).ok()
    asked = ("rebase", to, "-t", "2", "--from", base, "--format", "json")
    first = regpush(*asked).ok().report
    skipped = ("rebase", to, "-t", "2", "--from", "127.0.0.1:1/gone", "--if-exists", "skip")
    done = regpush(*skipped, "--format", "json").ok()
    assert "2 already exists; not moved" in done.stderr
    assert not done.report["changed"]
    assert done.report["digest"] == first["digest"]
    assert done.report["destinations"][0]["tags"] == ["2"]


def test_the_base_that_the_image_names_is_taken_at_its_newest(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    """The job of every night: nothing changes until the base does."""
    bases, to = f"{repository}-base", f"{docker_registry.host}/{repository}:1"
    base = put_base(docker_registry, bases, [layer("etc/os", "old")], config=OLD)
    push(app, to, "--from", base).ok()
    nightly = ("rebase", to, "--format", "json")
    assert not regpush(*nightly).ok().report["changed"]
    put_base(docker_registry, bases, [layer("etc/os", "new")], config=NEW)
    done = regpush(*nightly).ok().report
    assert done["changed"]
    assert done["digest"] == push(app, f"{to}-wanted", "--from", base).ok().report["digest"]
    assert not regpush(*nightly).ok().report["changed"]


def test_what_names_no_base_that_could_be_newer(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    to = f"{docker_registry.host}/{repository}"
    push(app, f"{to}:alone").ok()
    regpush("rebase", f"{to}:alone").failed(2, "names no base in its annotations", "--from")
    base = put_base(docker_registry, f"{repository}-base", [layer("etc/os", "old")], config=OLD)
    digest = raw_digest(base)
    push(app, f"{to}:fixed", "--from", f"{base.rpartition(':')[0]}@{digest}").ok()
    regpush("rebase", f"{to}:fixed").failed(2, digest, "by digest only", "--from")


def raw_digest(reference: str) -> str:
    return regpush("inspect", reference, "--format", "json").ok().report["digest"]


def test_the_new_base_is_brought_and_nothing_else(
    docker_registry: Registry, embedded_registry: Registry, repository: str, app: Path
) -> None:
    blob = layer("etc/os", "new")
    old = put_base(docker_registry, f"{repository}-base", [layer("etc/os", "old")])
    new = put_base(embedded_registry, f"{repository}-base", [blob], "2")
    to = f"{docker_registry.host}/{repository}"
    before = push(app, to, "--from", old).ok().report["digest"]
    planned = rebase(to, new, "--dry-run").ok().report
    assert [one["action"] for one in planned["images"][0]["base"]["layers"]] == ["upload"]
    assert sha256(Api(docker_registry.host, repository).manifest("latest").body) == before
    outcome = rebase(to, new).ok()
    done = outcome.report
    assert (
        planned["digest"]
        == done["digest"]
        == sha256(Api(docker_registry.host, repository).manifest("latest").body)
    )
    assert [one["action"] for one in done["images"][0]["base"]["layers"]] == ["uploaded"]
    assert "1 layer of the base: 1 uploaded" in outcome.stderr
    assert Api(docker_registry.host, repository).blob(sha256(blob)).body == blob


def test_an_image_of_another_tool(
    docker_registry: Registry, repository: str, tmp_path: Path
) -> None:
    """Its own configuration is what it has beyond the old base's."""
    bases, to = f"{repository}-base", f"{docker_registry.host}/{repository}:1"
    under = [layer("etc/os", "old"), layer("x")]
    steps = [{"created_by": "a"}, {"created_by": "b"}, {"created_by": "CMD", "empty_layer": True}]
    old = put_base(docker_registry, bases, under, config=OLD, history=steps)
    new = put_base(docker_registry, bases, [layer("etc/os", "new")], "2", config=NEW)
    own = {
        "Env": ["PATH=/bin", "OLD=1", "A=mine"],
        "Cmd": ["run"],
        "Labels": {"of": "old", "l": "1"},
        "WorkingDir": "/w",
    }
    history = [*steps, {"created_by": "ENV", "empty_layer": True}, {"created_by": "COPY"}]
    put_base(
        docker_registry, repository, [*under, layer("srv/x", "app")], config=own, history=history
    )
    rebase(to, new).failed(2, to, "--old-base")
    rebase(to, old, "--old-base", new).failed(2, to, "lowest layers are not those of")
    rebase(to, new, "--old-base", old).ok()
    got = config(to)
    assert got["config"] == {
        "Env": ["PATH=/sbin", "NEW=1", "A=mine"],
        "Cmd": ["run"],
        "Labels": {"l": "1"},
        "User": "7",
        "WorkingDir": "/w",
    }
    assert [one.get("created_by") for one in got["history"]] == ["unknown", "ENV", "COPY"]
    rootfs = images.unpack(to, tmp_path / "out")
    assert (rootfs / "srv/x").read_text() == "app"
    assert not (rootfs / "x").exists()
    # Now it says for itself what it stands on.
    rebase(to, old).ok()
    assert config(to)["config"]["Env"] == ["PATH=/bin", "OLD=1", "A=mine"]


def test_annotations_of_another_tool_lead_to_the_old_base(
    docker_registry: Registry, repository: str
) -> None:
    bases, to = f"{repository}-base", f"{docker_registry.host}/{repository}:1"
    old = put_base(docker_registry, bases, [layer("etc/os", "old")], config=OLD)
    new = put_base(docker_registry, bases, [layer("etc/os", "new")], "2", config=NEW)
    put_base(docker_registry, repository, [layer("etc/os", "old"), layer("app")], config=OLD)
    at = Api(docker_registry.host, repository)
    manifest = json.loads(at.manifest("1").body)
    digest = sha256(Api(docker_registry.host, bases).manifest("1").body)

    def says(digest: str) -> None:
        base = "org.opencontainers.image.base"
        said = {f"{base}.name": old, f"{base}.digest": digest}
        text = json.dumps(manifest | {"annotations": said}).encode()
        assert at.put_manifest("1", text).status == 201

    says("sha256:" + "0" * 64)
    rebase(to, new).failed(4, old, "the registry no longer has", "--old-base")
    says(digest)
    rebase(to, new).ok()
    assert config(to)["config"] == NEW


def test_an_index_is_rebased_child_by_child(
    registry: Registry, repository: str, app: Path, tmp_path: Path
) -> None:
    both = ("--platform", "linux/amd64,linux/arm64")
    base, to = f"{registry.host}/{repository}-base", f"{registry.host}/{repository}"
    dist = builds(tmp_path / "dist", "amd64", "arm64")
    push(dist, f"{base}:1", *both, "--root-dir", "/opt").ok()
    push(dist, f"{base}:2", *both, "--root-dir", "/opt/new").ok()
    push(app, f"{to}:1", *both, "--from", f"{base}:1").ok()
    wanted = push(app, f"{to}:wanted", *both, "--from", f"{base}:2").ok().report
    at = Api(registry.host, repository)
    # An attestation, as buildx adds one: it is about what is no more.
    index = json.loads(at.manifest("1").body)
    child = at.manifest(index["manifests"][0]["digest"]).body
    copy = child.replace(b'"schemaVersion":2', b'"schemaVersion": 2')
    assert at.put_manifest(sha256(copy), copy).status == 201
    attestation = {
        "mediaType": index["manifests"][0]["mediaType"],
        "digest": sha256(copy),
        "size": len(copy),
        "platform": {"os": "unknown", "architecture": "unknown"},
    }
    index["manifests"].append(attestation)
    assert at.put_manifest("1", json.dumps(index).encode(), INDEX_TYPE).status == 201
    done = rebase(f"{to}:1", f"{base}:2").ok().report
    assert [one["digest"] for one in done["images"]] == [one["digest"] for one in wanted["images"]]
    assert [one["digest"] for one in raw(f"{to}:1")["manifests"]] == [
        one["digest"] for one in wanted["images"]
    ]
    arm = push(app, f"{to}:arm", "--platform", "linux/arm64", "--from", f"{base}:1").ok()
    assert arm.report["images"][0]["base"]
    rebase(f"{to}:arm", f"{base}:2", "-t", "1").failed(6, "several platforms", "--replace-index")


def test_a_digest_needs_a_tag(registry: Registry, repository: str, app: Path) -> None:
    base = put_base(registry, f"{repository}-base", [layer("etc/os", "old")])
    new = put_base(registry, f"{repository}-base", [layer("etc/os", "new")], "2")
    to = f"{registry.host}/{repository}"
    digest = push(app, to, "--from", base).ok().report["digest"]
    rebase(f"{to}@{digest}", new).failed(2, "has no tag to keep")
    done = rebase(f"{to}@{digest}", new, "--by-digest").ok().report
    assert done["destinations"][0]["tags"] == []
    assert raw(f"{to}@{done['digest']}")
    assert rebase(f"{to}@{digest}", new, "-t", "x").ok().report["digest"] == done["digest"]
    rebase(to, new, "--if-current", done["digest"]).failed(6, digest)


@pytest.mark.parametrize(
    ("act", "code", "words"),
    [
        (changed(lambda answer: setattr(answer, "body", answer.body[::-1])), 8, "another digest"),
        (error(404, "BLOB_UNKNOWN"), 8, "is missing in the registry"),
        (answers(503), 5, "503"),
    ],
    ids=["wrong", "gone", "503"],
)
def test_no_tag_moves_where_the_new_base_fails(
    docker_registry: Registry,
    embedded_registry: Registry,
    repository: str,
    app: Path,
    act: Any,
    code: int,
    words: str,
) -> None:
    blob = layer("etc/os", "new")
    old = put_base(docker_registry, f"{repository}-base", [layer("etc/os", "old")])
    put_base(embedded_registry, repository, [blob], "2")
    to = f"{docker_registry.host}/{repository}"
    before = push(app, to, "--from", old).ok().report["digest"]
    rule = Rule(act, "GET", "blob", FOREVER, only=lambda asked: sha256(blob) in asked.target)
    with fault_server(embedded_registry.host, rule) as faults:
        there = f"{faults.host}/{repository}:2"
        rebase(to, there, "--retry-times", "0").failed(code, faults.host, words)
    assert sha256(Api(docker_registry.host, repository).manifest("latest").body) == before
    rebase(to, f"{faults.host}/{repository}:2", "--retry-times", "0").failed(5, faults.host)
    rebase(f"{to}-nope", old).failed(4, "no such image")
    rebase(to, f"{docker_registry.host}/nope").failed(4, "--from", "no such image")


def test_layers_of_the_base_that_were_lost_are_sent(
    docker_registry: Registry, embedded_registry: Registry, repository: str, app: Path
) -> None:
    blob = layer("etc/os", "new")
    old = put_base(docker_registry, f"{repository}-base", [layer("etc/os", "old")])
    new = put_base(embedded_registry, repository, [blob], "2")
    push(app, f"{docker_registry.host}/{repository}", "--from", old).ok()
    there = answers(200, Content_Length=str(len(blob)))
    lie = Rule(there, "HEAD", "blob", only=lambda asked: sha256(blob) in asked.target)
    with fault_server(docker_registry.host, lie) as faults:
        done = rebase(f"{faults.host}/{repository}", new).ok()
    assert "sending 1 blob again" in done.stderr
    assert Api(docker_registry.host, repository).blob(sha256(blob)).body == blob


def _made(name: str, count: int, options: ImageOptions, base: Base | None = None) -> Image:
    layers = [
        Layer(
            descriptor=Descriptor.of(f"{name}{number}".encode(), OCI_LAYER_GZIP),
            diff_id=Digest.of(f"tar {name}{number}".encode()),
            items=(f"/{name}{number}",),
        )
        for number in range(count)
    ]
    return build(layers, options, Platform("linux", "amd64"), recipe_version=1, base=base)


@pytest.mark.parametrize("options", [
    ImageOptions(),
    ImageOptions(env=(("A", "1"),), labels=(("l", "x"),), cmd=("c",)),
    ImageOptions(entrypoint=("/e",), expose=("80",), volumes=("/v",), user="u"),
    ImageOptions(env=(("PATH", "/a"),), workdir="/w", stop_signal="SIGINT"),
])  # fmt: skip
def test_rebasing_is_building_on_the_other(options: ImageOptions) -> None:
    """Pure, by our own image's word and by comparison with the old base alike."""
    below = ImageOptions(env=(("PATH", "/b"), ("B", "1")), cmd=("sh",), expose=("22",))
    old = Base(name="r.test/old:1", image=_made("old", 2, below))
    other = ImageOptions(env=(("PATH", "/c"), ("C", "1")), labels=(("n", "1"),), user="0")
    new = Base(name="r.test/new:1", image=_made("new", 3, other))
    image, wanted = _made("app", 2, options, old), _made("app", 2, options, new)
    assert rebased(image, new, None) == wanted
    assert rebased(wanted, old, None) == image
    compared = rebased(image, new, old)
    assert json.loads(compared.config)["config"] == json.loads(wanted.config)["config"]
    assert json.loads(compared.config)["history"] == json.loads(wanted.config)["history"]
    assert compared.layers == wanted.layers
