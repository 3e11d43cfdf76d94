"""What the embedded registry and CNCF distribution answer alike (distribution-spec v1.1).

The expected values are the specification's and those seen of distribution; running every
row against Debian's docker-registry too keeps them honest.
"""

from __future__ import annotations

import json

import pytest

from tests.registry.api import (
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    Api,
    descriptor,
    image_manifest,
    sha256,
)
from tests.registry.servers import Registry

DATA = bytes(range(256)) * 700


@pytest.fixture
def api(registry: Registry, repository: str) -> Api:
    return Api(registry.host, repository)


@pytest.fixture
def other(registry: Registry, repository: str) -> Api:
    return Api(registry.host, f"{repository}/other")


def test_base(api):
    assert api.send("GET", "/v2/").status == 200


def whole_put(api):
    return api.finish(api.start(), sha256(DATA), DATA)


def chunked_put(api):
    return api.finish(api.start(), sha256(DATA), iter([DATA[:1000], DATA[1000:]]))


def streamed_patch(api):
    patched = api.send("PATCH", api.start(), iter([DATA[:1000], DATA[1000:]]))
    assert patched.status == 202
    assert patched.headers["Range"] == f"0-{len(DATA) - 1}"
    return api.finish(api.location(patched), sha256(DATA))


def patches_in_order(api):
    location = api.start()
    for start, end in [(0, 1000), (1000, 100_000)]:
        part = DATA[start:end]
        patched = api.send("PATCH", location, part, {"Content-Range": f"{start}-{end - 1}"})
        assert patched.status == 202
        assert patched.headers["Range"] == f"0-{end - 1}"
        location = api.location(patched)
    return api.finish(location, sha256(DATA), DATA[100_000:])


@pytest.mark.parametrize("upload", [whole_put, chunked_put, streamed_patch, patches_in_order])
def test_every_way_to_upload_gives_the_same_blob(api, upload):
    digest = sha256(DATA)
    assert api.blob(digest, "HEAD").status == 404
    created = upload(api)
    assert created.status == 201
    assert created.headers["Docker-Content-Digest"] == digest
    assert api.location(created) == f"{api.base}/blobs/{digest}"
    for method, body in [("HEAD", b""), ("GET", DATA)]:
        read = api.blob(digest, method)
        assert read.status == 200
        assert read.headers["Content-Length"] == str(len(DATA))
        assert read.headers["Docker-Content-Digest"] == digest
        assert read.body == body


def test_empty_blob(api):
    digest = api.put_blob(b"")
    read = api.blob(digest)
    assert (read.status, read.body) == (200, b"")


def test_a_range_of_a_blob(api):
    read = api.blob(api.put_blob(DATA), Range="bytes=100-299")
    assert read.status == 206
    assert read.body == DATA[100:300]
    assert read.headers["Content-Range"] == f"bytes 100-299/{len(DATA)}"


def test_unknown_blob(api):
    api.put_blob(b"makes the repository")
    answer = api.blob(sha256(b"nobody has this"))
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize(
    "digest",
    [sha256(b"something else"), "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", ""],
    ids=["another", "short", "algorithm", "empty"],
)
def test_wrong_digest(api, digest):
    refused = api.finish(api.start(), digest, DATA)
    assert (refused.status, refused.code) == (400, "DIGEST_INVALID")
    assert api.blob(sha256(DATA), "HEAD").status == 404


def test_upload_status_and_cancel(api):
    location = api.start()
    status = api.send("GET", location)
    assert (status.status, status.headers["Range"]) == (204, "0-0")
    patched = api.send("PATCH", location, iter([DATA]))
    location = api.location(patched)
    status = api.send("GET", location)
    assert (status.status, status.headers["Range"]) == (204, f"0-{len(DATA) - 1}")
    location = api.location(status)
    assert api.send("DELETE", location).status == 204
    assert api.send("GET", location).status == 404


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
def test_ended_upload(api, method):
    location = api.start()
    assert api.send("DELETE", location).status == 204
    separator = "&" if "?" in location else "?"
    path = f"{location}{separator}digest={sha256(DATA)}"
    answer = api.send(method, path, DATA if method in ("PATCH", "PUT") else None)
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_upload_of_another_repository(api, other):
    location = api.start().replace(api.base, other.base)
    assert api.send("GET", location).status == 404


def test_mount(api, other):
    digest = api.put_blob(DATA)
    assert other.blob(digest, "HEAD").status == 404  # a repository has what was pushed to it
    source = api.base.removeprefix("/v2/")
    mounted = other.send("POST", f"{other.base}/blobs/uploads/?mount={digest}&from={source}")
    assert mounted.status == 201
    assert other.location(mounted) == f"{other.base}/blobs/{digest}"
    assert other.blob(digest).body == DATA


def test_mount_of_what_is_not_there_opens_an_upload(api, other):
    source = other.base.removeprefix("/v2/")
    digest = sha256(DATA)
    opened = api.send("POST", f"{api.base}/blobs/uploads/?mount={digest}&from={source}")
    assert opened.status == 202
    assert api.finish(api.location(opened), digest, DATA).status == 201


def test_manifest_by_tag_and_digest(api):
    content = api.put_image("v1")
    for target in ("v1", sha256(content)):
        for method, body in [("HEAD", b""), ("GET", content)]:
            read = api.manifest(target, method)
            assert read.status == 200
            assert read.body == body
            assert read.headers["Content-Type"] == MANIFEST_TYPE
            assert read.headers["Content-Length"] == str(len(content))
            assert read.headers["Docker-Content-Digest"] == sha256(content)


def test_manifest_pushed_by_digest_has_no_tag(api):
    content = api.put_image("v1")
    changed = content.replace(b'"schemaVersion"', b' "schemaVersion"')
    created = api.put_manifest(sha256(changed), changed)
    assert created.status == 201
    assert created.headers["Docker-Content-Digest"] == sha256(changed)
    assert api.location(created) == f"{api.base}/manifests/{sha256(changed)}"
    assert api.manifest("v1").body == content
    assert json.loads(api.send("GET", f"{api.base}/tags/list").body)["tags"] == ["v1"]


def test_a_tag_moves(api):
    api.put_image("v1")
    second = api.put_image("v1", b"2")
    assert api.manifest("v1").body == second


def test_index_of_a_child_that_is_there(api):
    child = api.put_image("child")
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE}
    index["manifests"] = [
        descriptor(child, MANIFEST_TYPE) | {"platform": {"os": "linux", "architecture": "amd64"}}
    ]
    content = json.dumps(index).encode()
    assert api.put_manifest("both", content, INDEX_TYPE).status == 201
    assert api.manifest("both").headers["Content-Type"] == INDEX_TYPE


@pytest.mark.parametrize("target", ["v9", sha256(b"no such manifest")])
def test_unknown_manifest(api, target):
    api.put_image("v1")
    answer = api.manifest(target)
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")


CONFIG, LAYER, ABSENT = b'{"architecture":"amd64"}', b"layer", b"not pushed"
REFUSED = {
    "layer missing": (
        image_manifest(CONFIG, ABSENT), MANIFEST_TYPE, "MANIFEST_BLOB_UNKNOWN",
    ),
    "config missing": (
        image_manifest(ABSENT, LAYER), MANIFEST_TYPE, "MANIFEST_BLOB_UNKNOWN",
    ),
    "child missing": (
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": INDEX_TYPE,
                "manifests": [
                    descriptor(ABSENT, MANIFEST_TYPE)
                    | {"platform": {"os": "linux", "architecture": "amd64"}}
                ],
            }
        ).encode(),
        INDEX_TYPE,
        "MANIFEST_BLOB_UNKNOWN",
    ),
    "no JSON": (b"<html>", MANIFEST_TYPE, "MANIFEST_INVALID"),
    "type differs": (
        image_manifest(CONFIG, LAYER, mediaType=INDEX_TYPE),
        MANIFEST_TYPE,
        "MANIFEST_INVALID",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "media_type", "code"), REFUSED.values(), ids=REFUSED)
def test_refused_manifest(api, content, media_type, code):
    api.put_blob(CONFIG)
    api.put_blob(LAYER)
    refused = api.put_manifest("v1", content, media_type)
    assert (refused.status, refused.code) == (400, code)
    assert api.manifest("v1").status == 404


def test_manifest_under_another_digest(api):
    api.put_blob(CONFIG)
    api.put_blob(LAYER)
    content = image_manifest(CONFIG, LAYER)
    refused = api.put_manifest(sha256(b"another"), content)
    assert (refused.status, refused.code) == (400, "DIGEST_INVALID")


def test_a_wrong_size_in_the_manifest_is_not_noticed(api):
    api.put_blob(CONFIG)
    api.put_blob(LAYER)
    layer = descriptor(LAYER, LAYER_TYPE) | {"size": 12345}
    content = image_manifest(CONFIG, LAYER, layers=[layer])
    assert api.put_manifest("v1", content).status == 201


def test_distribution_2_8_lists_no_referrers(docker_registry, repository):
    """The embedded registry does: test_referrers."""
    api = Api(docker_registry.host, repository)
    first = api.put_image("v1")
    content = image_manifest(
        b'{"architecture":"amd64","os":"linux"}',
        b"l",
        subject=descriptor(first, MANIFEST_TYPE),
    )
    pushed = api.put_manifest("about-v1", content)
    assert pushed.status == 201
    assert "OCI-Subject" not in pushed.headers
    assert api.send("GET", f"{api.base}/referrers/{sha256(first)}").status == 404


def test_deleting(api):
    content = api.put_image("v1")
    digest = sha256(content)
    assert api.put_manifest("v2", content).status == 201
    layer = json.loads(content)["layers"][0]["digest"]
    assert api.send("DELETE", f"{api.base}/manifests/{digest}").status == 202
    for target in ("v1", "v2", digest):
        assert api.manifest(target).status == 404
    assert api.send("DELETE", f"{api.base}/manifests/{digest}").status == 404
    assert api.send("DELETE", f"{api.base}/blobs/{layer}").status == 202
    assert api.blob(layer).status == 404
    assert api.send("DELETE", f"{api.base}/blobs/{layer}").status == 404
    # What was deleted can be pushed again.
    assert api.put_image("v1") == content
    assert api.manifest("v1").body == content


def test_deleting_leaves_what_other_repositories_have(api, other):
    content = api.put_image("v1")
    assert other.put_image("v1") == content
    config = json.loads(content)["config"]["digest"]
    for gone in (f"manifests/{sha256(content)}", f"blobs/{config}"):
        assert api.send("DELETE", f"{api.base}/{gone}").status == 202
    assert other.manifest("v1").body == content
    assert sha256(other.blob(config).body) == config


def test_tags(api):
    unknown = api.send("GET", f"{api.base}/tags/list")
    assert (unknown.status, unknown.code) == (404, "NAME_UNKNOWN")
    for tag in ("b", "a.1", "B", "_"):
        api.put_image(tag)
    listed = json.loads(api.send("GET", f"{api.base}/tags/list").body)
    assert listed["name"] == api.base.removeprefix("/v2/")
    assert sorted(listed["tags"]) == ["B", "_", "a.1", "b"]  # distribution 2.8 sorts nothing


def test_catalog(api):
    api.put_image("v1")
    name = api.base.removeprefix("/v2/")
    listed = json.loads(api.send("GET", f"/v2/_catalog?n=1&last={name[:-1]}").body)
    assert listed == {"repositories": [name]}


def test_an_artifact(api):
    """Artifacts bring configs of their own types."""
    api.put_blob(b"{}")
    api.put_blob(LAYER)
    value = json.loads(image_manifest(b"{}", LAYER, artifactType="text/x"))
    value["config"]["mediaType"] = "application/vnd.oci.empty.v1+json"
    assert api.put_manifest("artifact", json.dumps(value).encode()).status == 201
