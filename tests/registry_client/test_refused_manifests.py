"""A manifest that a registry refuses: blobs that are gone, tags that are kept, no pushes."""

from __future__ import annotations

import json

import pytest

from regpush.digest import OCI_MANIFEST, Digest
from regpush.errors import RefusedError, TagConflictError
from regpush.registry.api import MissingBlobsError
from tests.flow.test_push_directory import app
from tests.program import regpush
from tests.registry.api import Api
from tests.registry.faults import FOREVER, Answer, Asked, Rule, Upstream, error, fault_server
from tests.registry.servers import Registry
from tests.registry_client.opening import opened, push_image, put

__all__ = ["app"]


def says_invalid(asked: Asked, upstream: Upstream) -> Answer:
    """zot's words for a manifest whose blobs are gone."""
    answer = upstream.forward(asked)
    if answer.status == 400:
        body = {"errors": [{"code": "MANIFEST_INVALID", "message": "manifest invalid"}]}
        answer.body = json.dumps(body).encode()
        answer.headers.pop("Content-Length", None)
    return answer


def test_zot_is_asked_which_blobs_are_gone(
    registry: Registry, repository: str, app: object
) -> None:
    to = f"{registry.host}/{repository}"
    regpush(app, "--to", f"{to}:one", "--no-cache").ok()
    api = Api(registry.host, repository)
    layers = json.loads(api.manifest("one").body)["layers"]
    rule = Rule(says_invalid, "PUT", times=FOREVER)
    with fault_server(registry.host, rule) as server:
        lost = layers[0]["digest"]
        assert api.send("DELETE", f"{api.base}/blobs/{lost}").status == 202
        asked = Rule(
            lambda asked, upstream: Answer(200, {"Content-Length": str(layers[0]["size"])}),
            "HEAD",
            "blob",
            times=1,
            only=lambda asked: asked.target.endswith(lost),
        )
        server.rules.insert(0, asked)
        # Another label: the manifest is new, its layers are reused, and one is gone.
        done = regpush(
            app,
            "--to",
            f"{server.host}/{repository}:two",
            "--no-cache",
            "--label",
            "a=b",
            "--check",
        ).ok()
        assert "again" in done.stderr
    assert api.blob(lost, "HEAD").status == 200


def test_a_manifest_that_is_refused_for_itself_stays_refused(
    docker_registry: Registry, repository: str
) -> None:
    rule = Rule(error(400, "MANIFEST_INVALID"), "PUT", "manifest", times=FOREVER)
    with (
        fault_server(docker_registry.host, rule) as server,
        opened(server.host, repository, retry_times=0) as at,
    ):
        data = push_image(at.repository, b"content")
        with pytest.raises(RefusedError, match="media types") as caught:
            at.repository.put_manifest(data, OCI_MANIFEST, str(Digest.of(data)))
        assert not isinstance(caught.value, MissingBlobsError)


WORDS = {
    "ECR": (400, "TAG_INVALID", "The image tag 'v1' already exists in the 'app' repository and "
            "cannot be overwritten because the repository is immutable."),
    "Harbor": (412, "PRECONDITION", "configured as immutable"),
    "Quay": (409, "UNKNOWN", "tag is immutable and cannot be overwritten"),
    "GitLab": (403, "DENIED", "protected tag"),
    "ACR": (405, "UNSUPPORTED", "The operation is disallowed on this registry, repository or "
            "image."),
    "Alibaba": (403, "DENIED", "The requested tag already exists and cannot be overwritten."),
    "a code of its own": (400, "TAG_IMMUTABLE", "no"),
}  # fmt: skip


@pytest.mark.parametrize("vendor", WORDS)
def test_a_tag_that_is_kept_by_its_words(
    docker_registry: Registry, repository: str, vendor: str
) -> None:
    with opened(docker_registry.host, repository) as at:
        data = push_image(at.repository, b"content")
        at.repository.put_manifest(data, OCI_MANIFEST, "v1")
    rule = Rule(error(*WORDS[vendor]), "PUT", "tag", times=FOREVER)
    with (
        fault_server(docker_registry.host, rule) as server,
        opened(server.host, repository, retry_times=0) as at,
    ):
        changed = data.replace(b"{", b"{ ", 1)
        with pytest.raises(TagConflictError, match="may not be moved"):
            at.repository.put_manifest(changed, OCI_MANIFEST, "v1")
        # What the tag names already is as good as moved.
        at.repository.put_manifest(data, OCI_MANIFEST, "v1")


def test_a_tag_that_is_kept_is_told_from_rights_that_are_missing(
    docker_registry: Registry, repository: str
) -> None:
    """zot's access control says DENIED to both; what it took before tells them apart."""
    with opened(docker_registry.host, repository) as at:
        data = push_image(at.repository, b"content")
        at.repository.put_manifest(data, OCI_MANIFEST, "v1")
    changed = data.replace(b"{", b"{ ", 1)
    rule = Rule(error(403, "DENIED"), "PUT", "tag", times=FOREVER)
    with fault_server(docker_registry.host, rule) as server:
        with opened(server.host, repository, retry_times=0) as at:
            with pytest.raises(RefusedError, match=r"may not be moved .* or these credentials"):
                at.repository.put_manifest(changed, OCI_MANIFEST, "v1")
            with pytest.raises(RefusedError) as caught:
                at.repository.put_manifest(changed, OCI_MANIFEST, "new")
            assert "may not be moved" not in str(caught.value)
        with opened(server.host, repository, retry_times=0) as at:
            at.repository.put_manifest(changed, OCI_MANIFEST, str(Digest.of(changed)))
            with pytest.raises(TagConflictError, match="may not be moved"):
                at.repository.put_manifest(changed, OCI_MANIFEST, "v1")
            with pytest.raises(RefusedError, match=r"may not be moved .* or these credentials"):
                at.repository.put_manifest(changed, OCI_MANIFEST, "new")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (405, "UNSUPPORTED", "The operation is unsupported."),
        (403, "DENIED", "The system is in read only mode. Any modification is prohibited."),
    ],
)
def test_a_registry_that_takes_no_pushes(
    docker_registry: Registry, repository: str, status: int, code: str, words: str
) -> None:
    writes = [
        Rule(error(status, code, words), method, times=FOREVER)
        for method in ("POST", "PUT", "PATCH", "DELETE")
    ]
    with (
        fault_server(docker_registry.host, *writes) as server,
        opened(server.host, repository) as at,
        pytest.raises(RefusedError, match="takes no pushes: it is a mirror, or read-only"),
    ):
        put(at.repository, b"content")
