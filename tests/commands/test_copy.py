"""`regpush copy`: from one real registry to another, to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.flow.test_from import app, raw_bytes
from tests.program import Outcome, push, regpush
from tests.programs import builds
from tests.registry.api import INDEX_TYPE, Api, descriptor, image_manifest, sha256
from tests.registry.faults import FOREVER, Rule, answers, error, fault_server
from tests.registry.servers import Registry

__all__ = ["app"]

CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
UNKNOWN = "application/vnd.example.thing.v1+json"


def copy(source: str, to: str, *flags: str, **more: Any) -> Outcome:
    return regpush("copy", source, to, "--format", "json", *flags, **more)


def blobs(outcome: Outcome) -> set[str]:
    return {blob["action"] for blob in outcome.report["blobs"]}


def test_an_image_goes_to_another_registry_as_it_is(
    docker_registry: Registry,
    embedded_registry: Registry,
    repository: str,
    app: Path,
    tmp_path: Path,
) -> None:
    source, to = f"{docker_registry.host}/{repository}:v1", f"{embedded_registry.host}/{repository}"
    pushed = push(app, source).ok().report
    done = copy(source, to).ok()
    assert done.report["ref"] == f"{to}@{pushed['digest']}"
    assert done.report["source"] == f"{docker_registry.host}/{repository}@{pushed['digest']}"
    assert done.report["destinations"][0]["moved"] == ["v1"]
    assert blobs(done) == {"uploaded"}
    assert raw_bytes(f"{to}:v1") == raw_bytes(source)
    rootfs = images.unpack(f"{to}:v1", tmp_path / "out")
    images.assert_same_tree(images.tree(rootfs / "app"), images.as_store(images.tree(app)))
    again = copy(source, to).ok().report
    assert not again["changed"]
    assert again["requests"] == 2
    checked = copy(source, to, "--check").ok()
    assert blobs(checked) == {"reused"}
    assert not checked.report["changed"]


def test_within_a_registry_blobs_are_mounted(
    registry: Registry, repository: str, app: Path
) -> None:
    source, to = f"{registry.host}/{repository}", f"{registry.host}/{repository}-copy"
    digest = push(app, source).ok().report["digest"]
    done = copy(f"{source}@{digest}", to, "-t", "one", "-t", "two").ok()
    assert blobs(done) == {"mounted"}
    assert done.report["destinations"][0]["tags"] == ["one", "two"]
    assert raw_bytes(f"{to}:one") == raw_bytes(f"{to}:two") == raw_bytes(f"{source}:latest")


def test_an_index_goes_with_all_its_images(
    docker_registry: Registry, embedded_registry: Registry, repository: str, tmp_path: Path
) -> None:
    source, to = f"{docker_registry.host}/{repository}", f"{embedded_registry.host}/{repository}"
    dist = builds(tmp_path / "dist", "amd64", "arm64")
    pushed = push(dist, source, "--platform", "linux/amd64,linux/arm64").ok().report
    done = copy(source, to).ok().report
    assert done["digest"] == pushed["digest"]
    assert done["manifests"][-1] == pushed["digest"]
    assert set(done["manifests"][:-1]) == {one["digest"] for one in pushed["images"]}
    assert raw_bytes(to) == raw_bytes(source)
    for one in pushed["images"]:
        assert raw_bytes(f"{to}@{one['digest']}") == raw_bytes(f"{source}@{one['digest']}")
    # Of several, one: it may not take the place of all under the same tag unless told so.
    arm = pushed["images"][1]["digest"]
    alone = ("--platform", "linux/arm64", "-t", "latest")
    copy(source, to, *alone).failed(6, "several platforms", "--replace-index")
    assert copy(source, to, *alone, "--replace-index").ok().report["digest"] == arm
    copy(source, to, "--platform", "linux/s390x").failed(2, "linux/amd64", "linux/arm64")


def test_what_is_unknown_comes_along(
    embedded_registry: Registry, repository: str, wire: Any
) -> None:
    """An artifact of a made-up type below an index, and a child that is a blob."""
    at = Api(embedded_registry.host, repository)
    at.put_image("image")
    for data in (b"{}", b"thing", b"loose"):
        at.put_blob(data)
    artifact = image_manifest(b"{}", b"thing", artifactType=UNKNOWN)
    assert at.put_manifest(sha256(artifact), artifact).status == 201
    child = at.manifest("image").body
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [
            descriptor(child, "application/vnd.oci.image.manifest.v1+json"),
            descriptor(artifact, "application/vnd.oci.image.manifest.v1+json"),
        ],
    }
    inner = json.dumps(index).encode()
    assert at.put_manifest("inner", inner, INDEX_TYPE).status == 201
    outer = json.dumps(index | {"manifests": [descriptor(inner, INDEX_TYPE)]}).encode()
    assert at.put_manifest("v1", outer, INDEX_TYPE).status == 201
    to = f"{embedded_registry.host}/{repository}-copy"
    done = copy(f"{at.host}/{repository}:v1", to).ok().report
    assert done["digest"] == sha256(outer)
    assert done["manifests"][-2:] == [sha256(inner), sha256(outer)]
    assert len(done["manifests"]) == 4
    copied = Api(embedded_registry.host, f"{repository}-copy")
    assert copied.manifest(sha256(artifact)).body == artifact
    assert copied.blob(sha256(b"thing")).body == b"thing"


@pytest.mark.parametrize(
    ("media_type", "document", "words"),
    [
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            {"schemaVersion": 1, "name": "x", "fsLayers": []},
            ["schema 1", "docker pull"],
        ),
        ("text/plain", {"schemaVersion": 3}, ["neither an image nor an index"]),
        (
            "application/vnd.oci.image.manifest.v1+json",
            {
                "schemaVersion": 2,
                "config": descriptor(CONFIG, "application/vnd.oci.image.config.v1+json"),
                "layers": [
                    descriptor(b"w", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
                ],
            },
            ["foreign layer"],
        ),
        (
            "application/vnd.oci.image.manifest.v1+json",
            {
                "schemaVersion": 2,
                "config": descriptor(CONFIG, "application/vnd.oci.image.config.v1+json"),
                "layers": [
                    descriptor(b"w", "application/vnd.oci.image.layer.nondistributable.v1.tar")
                ],
            },
            ["foreign layer"],
        ),
    ],
    ids=["schema-1", "neither", "foreign", "nondistributable"],
)
def test_what_cannot_be_copied(
    docker_registry: Registry,
    repository: str,
    media_type: str,
    document: dict[str, Any],
    words: list[str],
) -> None:
    body = json.dumps(document).encode()
    rule = Rule(answers(200, body, Content_Type=media_type), "GET", "tag", FOREVER)
    with fault_server(docker_registry.host, rule) as faults:
        source = f"{faults.host}/{repository}:v1"
        copy(source, f"{docker_registry.host}/{repository}").failed(2, faults.host, *words)


def test_conditions_on_tags(registry: Registry, repository: str, app: Path) -> None:
    source, to = f"{registry.host}/{repository}", f"{registry.host}/{repository}-copy:v1"
    first = push(app, source).ok().report["digest"]
    copy(source, to).ok()
    (app / "main.js").write_text("console.log(2)\n")
    second = push(app, source).ok().report["digest"]
    copy(source, to, "--if-exists", "fail").failed(6, "exists")
    copy(source, to, "--if-exists", "same").failed(6, first, second)
    copy(source, to, "--if-current", second).failed(6, first)
    assert copy(source, to, "--if-exists", "skip").ok().report["digest"] == first
    assert copy(source, to, "--if-current", first).ok().report["digest"] == second


@pytest.mark.parametrize(
    ("source", "to", "code", "words"),
    [
        ("{at}/no/such", "{at}/x", 4, "no such image"),
        ("{at}/x@sha256:" + "0" * 64, "{at}/x", 2, "has no tag to keep"),
        ("{at}/x@sha256:" + "0" * 64, "{at}/x:v1", 4, "no such image"),
        ("{at}/x", "{at}/x@sha256:" + "0" * 64, 2, "cannot push to a digest"),
        ("127.0.0.1:1/x", "{at}/x", 5, "127.0.0.1:1"),
    ],
)
def test_nothing_to_copy(registry: Registry, source: str, to: str, code: int, words: str) -> None:
    at = registry.host
    flags = ("--retry-times", "0")
    copy(source.format(at=at), to.format(at=at), *flags).failed(code, words)


def test_credentials_of_both_sides(
    docker_registry_htpasswd: Registry, embedded_registry: Registry, repository: str, app: Path
) -> None:
    there = docker_registry_htpasswd
    source, to = f"{there.host}/{repository}", f"{embedded_registry.host}/{repository}"
    login = ("--username", there.username, "--password-stdin")
    push(app, source, *login, stdin=f"{there.password}\n").ok()
    copy(source, to).failed(3, there.host)
    # What is given by flags is for the destination, and must not reach another registry.
    copy(source, to, *login, stdin=f"{there.password}\n").failed(3, there.host)
    stored = {"auths": {there.host: {"username": there.username, "password": there.password}}}
    copy(source, to, env={"REGPUSH_AUTH": json.dumps(stored)}).ok()
    copy(to, f"{source}-back").failed(3, there.host)
    copy(to, f"{source}-back", *login, stdin=f"{there.password}\n").ok()


def test_what_the_destination_has_lost_is_sent_again(
    docker_registry: Registry, embedded_registry: Registry, repository: str, app: Path
) -> None:
    source = f"{embedded_registry.host}/{repository}"
    layers = push(app, source).ok().report["images"][0]["layers"]
    lost = layers[0]
    size = {"Content_Length": str(lost["size"])}
    lie = Rule(
        answers(200, **size), "HEAD", "blob", 1, only=lambda asked: lost["digest"] in asked.target
    )
    with fault_server(docker_registry.host, lie) as faults:
        done = copy(source, f"{faults.host}/{repository}").ok()
    assert "sending again what it lacks" in done.stderr
    actions = {blob["digest"]: blob["action"] for blob in done.report["blobs"]}
    assert actions[lost["digest"]] == "uploaded"
    assert raw_bytes(f"{docker_registry.host}/{repository}") == raw_bytes(source)


def test_no_tag_without_all_that_it_names(
    docker_registry: Registry, embedded_registry: Registry, repository: str, app: Path
) -> None:
    source, to = f"{embedded_registry.host}/{repository}", f"{docker_registry.host}/{repository}"
    push(app, source).ok()
    gone = Rule(error(404, "BLOB_UNKNOWN"), "GET", "blob", FOREVER)
    with fault_server(embedded_registry.host, gone) as faults:
        copy(f"{faults.host}/{repository}", to).failed(8, faults.host, "is missing in the registry")
    assert Api(docker_registry.host, repository).manifest("latest").status == 404


@pytest.mark.parametrize("lists", [True, False], ids=["lists", "tags"])
def test_what_refers_to_an_image_comes_along(
    docker_registry: Registry,
    embedded_registry: Registry,
    repository: str,
    tmp_path: Path,
    lists: bool,
) -> None:
    """From a registry with lists of referrers to one without, and the other way round."""
    here, there = embedded_registry.host, docker_registry.host
    if not lists:
        here, there = there, here
    source, to = f"{here}/{repository}", f"{there}/{repository}"
    dist = builds(tmp_path / "dist", "amd64", "arm64")
    both = ("--platform", "linux/amd64,linux/arm64", "--sbom", "spdx")
    pushed = push(dist, source, *both).ok().report
    copy(source, f"{to}-alone").ok()
    alone = regpush("sbom", f"{to}-alone", "--platform", "linux/arm64")
    assert alone.code != 0
    done = copy(source, to, "--referrers").ok().report
    assert done["digest"] == pushed["digest"]
    for one in pushed["images"]:
        bill = regpush("sbom", f"{to}@{one['digest']}").ok().stdout
        assert bill == regpush("sbom", f"{source}@{one['digest']}").ok().stdout
        assert json.loads(bill)["spdxVersion"]
    again = copy(source, to, "--referrers").ok().report
    assert again["bytes"]["uploaded"] == 0
    # A copy of the copy, whatever way the lists are kept.
    copy(to, f"{source}-back", "--referrers").ok()
    regpush("sbom", f"{source}-back", "--platform", "linux/amd64").ok()


def test_old_signatures_of_cosign_are_named_or_taken(
    docker_registry: Registry, repository: str, tmp_path: Path
) -> None:
    """Before version 3, cosign kept signatures at tags, which refer to nothing."""
    api = Api(docker_registry.host, repository)
    digest = sha256(api.put_image("v1"))
    tag = f"sha256-{digest.partition(':')[2]}.sig"
    signature = api.put_image(tag, b"signature")
    source, to = f"{docker_registry.host}/{repository}:v1", f"{docker_registry.host}/{repository}"
    warned = regpush("copy", source, f"{to}-2", "--referrers").ok()
    assert f"({tag}), which are not copied; --cosign-tags copies them" in warned.stderr
    assert Api(docker_registry.host, f"{repository}-2").manifest(tag).status == 404
    assert "cosign" not in regpush("copy", source, f"{to}-3").ok().stderr
    taken = regpush("copy", source, f"{to}-2", "--cosign-tags").ok()
    assert "warning" not in taken.stderr
    assert Api(docker_registry.host, f"{repository}-2").manifest(tag).body == signature
    # Signatures that somebody else made there are not written over.
    Api(docker_registry.host, f"{repository}-3").put_image(tag, b"another")
    again = regpush("copy", source, f"{to}-3", "--cosign-tags").ok()
    assert "holds other signatures and is not overwritten" in again.stderr
