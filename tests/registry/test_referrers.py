"""The embedded registry's list of referrers: distribution-spec, Listing Referrers."""

import json

import pytest

from tests.registry.api import INDEX_TYPE, MANIFEST_TYPE, Api, descriptor, image_manifest, sha256

EMPTY = b"{}"
SBOM = "application/spdx+json"
NOBODY = sha256(b"no manifest")


@pytest.fixture
def api(embedded_registry, repository):
    made = Api(embedded_registry.host, repository)
    made.put_blob(EMPTY)
    made.put_blob(b"l")
    return made


def attach(api, subject, **fields):
    """Push a manifest whose subject is `subject`; its digest."""
    content = image_manifest(EMPTY, b"l", subject=descriptor(subject, MANIFEST_TYPE), **fields)
    digest = sha256(content)
    answer = api.put_manifest(digest, content)
    assert answer.status == 201
    assert answer.headers["OCI-Subject"] == sha256(subject)
    return digest


def referrers(api, digest, query=""):
    answer = api.send("GET", f"{api.base}/referrers/{digest}{query}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == INDEX_TYPE
    index = json.loads(answer.body)
    assert (index["schemaVersion"], index["mediaType"]) == (2, INDEX_TYPE)
    return answer, index["manifests"]


def test_nobody_refers_to_what_is_not_there(api):
    assert referrers(api, NOBODY)[1] == []
    assert api.send("GET", f"{api.base}/referrers/latest").status == 400


def test_referrers_are_described(api):
    image = api.put_image("latest")
    plain = attach(api, image)
    sbom = attach(api, image, artifactType=SBOM, annotations={"made": "today"})
    _, found = referrers(api, sha256(image))
    by_digest = {one["digest"]: one for one in found}
    assert by_digest.keys() == {plain, sbom}
    assert by_digest[sbom]["artifactType"] == SBOM
    assert by_digest[sbom]["annotations"] == {"made": "today"}
    assert by_digest[sbom]["mediaType"] == MANIFEST_TYPE
    assert by_digest[sbom]["size"] == len(api.manifest(sbom).body)
    # Without a type of its own, the config's says what it is.
    assert by_digest[plain]["artifactType"] == "application/vnd.oci.image.config.v1+json"


def test_one_type_alone(api):
    image = api.put_image("latest")
    sbom = attach(api, image, artifactType=SBOM)
    attach(api, image, artifactType="application/other")
    answer, found = referrers(api, sha256(image), f"?artifactType={SBOM.replace('+', '%2B')}")
    assert [one["digest"] for one in found] == [sbom]
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"


def test_a_subject_may_come_later(api):
    image = image_manifest(EMPTY, b"l")
    digest = attach(api, image)
    assert [one["digest"] for one in referrers(api, sha256(image))[1]] == [digest]


def test_one_that_was_deleted_refers_to_nothing(api):
    image = api.put_image("latest")
    digest = attach(api, image)
    assert api.send("DELETE", f"{api.base}/manifests/{digest}").status == 202
    assert referrers(api, sha256(image))[1] == []


def test_other_repositories_have_their_own(api, embedded_registry):
    image = api.put_image("latest")
    attach(api, image)
    other = Api(embedded_registry.host, "another/one")
    assert referrers(other, sha256(image))[1] == []


def test_without_a_subject_nothing_is_said(api):
    content = image_manifest(EMPTY, b"l")
    assert "OCI-Subject" not in api.put_manifest("latest", content).headers
