"""Attaching artifacts to images, and finding them: registries with lists and without."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import oras.provider
import pytest

from regpush.concurrency import Cancellation
from regpush.digest import OCI_MANIFEST, Descriptor, Digest
from regpush.errors import RefusedError, TagConflictError, TransientError, VerificationError
from regpush.registry.referrers import Attachment, Referrer, attach, fetch, list_referrers
from regpush.registry.repository import Access
from tests.program import environment
from tests.registry.api import INDEX_TYPE, Api, sha256
from tests.registry.faults import (
    FOREVER,
    Answer,
    Asked,
    Rule,
    Upstream,
    answers,
    error,
    fault_server,
    resets,
)
from tests.registry.parts import find_part
from tests.registry.personas import always, ecr_referrers, gitlab_referrers
from tests.registry.servers import Registry
from tests.registry_client.opening import Opened, opened, push_image
from tests.registry_client.tokens import USERS, token_registry

SPDX = "application/spdx+json"
SBOM = Attachment(media_type=SPDX, data=b'{"spdxVersion":"SPDX-2.3"}', title="sbom.spdx.json")
EMPTY = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
OTHER = Attachment(
    media_type="application/vnd.in-toto+json",
    data=b"{}",
    title="provenance.json",
    annotations=(("in-toto.io/predicate-type", "https://slsa.dev/provenance/v1"),),
)


def image(registry: Registry, repository: str) -> Descriptor:
    """A small image in the registry."""
    return Descriptor.of(Api(registry.host, repository).put_image("latest"), OCI_MANIFEST)


def attached(at: Opened, subject: Descriptor, *artifacts: Attachment) -> tuple[Referrer, ...]:
    return attach(at.repository, subject, artifacts, cancel=at.cancel)


def tag_of(subject: Descriptor) -> str:
    return f"sha256-{subject.digest.hex}"


def kept(registry: Registry, repository: str, subject: Descriptor) -> list[dict]:
    """The list at the fallback tag, as others see it."""
    answer = Api(registry.host, repository).manifest(tag_of(subject))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == INDEX_TYPE
    return json.loads(answer.body)["manifests"]


def test_what_is_attached_is_listed_and_fetched(registry: Registry, repository: str) -> None:
    subject = image(registry, repository)
    with opened(registry.host, repository) as at:
        assert list_referrers(at.repository, subject.digest) == ()
        made = attached(at, subject, SBOM, OTHER)
        found = list_referrers(at.repository, subject.digest)
        assert sorted(found, key=str) == sorted(made, key=str)
        assert [one.artifact_type for one in made] == [SBOM.media_type, OTHER.media_type]
        (sbom,) = list_referrers(at.repository, subject.digest, SPDX)
        assert fetch(at.repository, sbom) == SBOM
        (other,) = list_referrers(at.repository, subject.digest, OTHER.media_type)
        assert fetch(at.repository, other) == OTHER
        assert list_referrers(at.repository, subject.digest, "application/none") == ()
        assert list_referrers(at.repository, Digest.of(b"no image")) == ()


def test_the_manifest_is_that_of_the_specification(registry: Registry, repository: str) -> None:
    subject = image(registry, repository)
    with opened(registry.host, repository) as at:
        (made,) = attached(at, subject, OTHER)
    answer = Api(registry.host, repository).manifest(str(made.descriptor.digest))
    assert sha256(answer.body) == str(made.descriptor.digest)
    assert json.loads(answer.body) == {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.in-toto+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": EMPTY,
            "size": 2,
        },
        "layers": [
            {
                "mediaType": "application/vnd.in-toto+json",
                "digest": EMPTY,
                "size": 2,
                "annotations": {"org.opencontainers.image.title": "provenance.json"},
            }
        ],
        "subject": {
            "mediaType": OCI_MANIFEST,
            "digest": str(subject.digest),
            "size": subject.size,
        },
        "annotations": {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"},
    }


def test_what_is_attached_is_not_sent_again(registry: Registry, repository: str) -> None:
    subject = image(registry, repository)
    with opened(registry.host, repository) as at:
        attached(at, subject, SBOM, OTHER)
    with fault_server(registry.host) as server, opened(server.host, repository) as at:
        assert attached(at, subject, SBOM, OTHER) == ()
        assert {asked.method for asked in server.asked} == {"GET"}
        assert at.client.requests <= 2


def test_a_registry_with_lists_gets_no_tag(embedded_registry: Registry, repository: str) -> None:
    subject = image(embedded_registry, repository)
    with opened(embedded_registry.host, repository) as at:
        attached(at, subject, SBOM)
        assert at.repository.list_tags() == ("latest",)


def test_the_list_at_a_tag_describes_each(docker_registry: Registry, repository: str) -> None:
    subject = image(docker_registry, repository)
    with opened(docker_registry.host, repository) as at:
        sbom, other = attached(at, subject, SBOM, OTHER)
    assert kept(docker_registry, repository, subject) == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(sbom.descriptor.digest),
            "size": sbom.descriptor.size,
            "artifactType": SPDX,
        },
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(other.descriptor.digest),
            "size": other.descriptor.size,
            "annotations": {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"},
            "artifactType": OTHER.media_type,
        },
    ]


def test_what_others_keep_at_the_tag_stays_as_it_is(
    docker_registry: Registry, repository: str
) -> None:
    subject = image(docker_registry, repository)
    api = Api(docker_registry.host, repository)
    theirs = {
        "mediaType": OCI_MANIFEST,
        "digest": str(subject.digest),  # docker-registry wants what an index lists to be there
        "size": subject.size,
        "platform": {"os": "unknown", "architecture": "unknown"},
        "artifactType": "application/theirs",
        "data": "AA==",
    }
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [theirs]}
    assert api.put_manifest(tag_of(subject), json.dumps(index).encode(), INDEX_TYPE).status == 201
    with opened(docker_registry.host, repository) as at:
        (made,) = attached(at, subject, SBOM)
    first, second = kept(docker_registry, repository, subject)
    assert first == theirs
    assert second["digest"] == str(made.descriptor.digest)


def test_an_image_at_the_tag_is_not_written_over(
    docker_registry: Registry, repository: str
) -> None:
    subject = image(docker_registry, repository)
    api = Api(docker_registry.host, repository)
    api.put_image(tag_of(subject), b"another")
    before = api.manifest(tag_of(subject)).body
    with opened(docker_registry.host, repository) as at:
        with pytest.raises(RefusedError, match="holds something else"):
            attached(at, subject, SBOM)
        assert list_referrers(at.repository, subject.digest) == ()
    assert api.manifest(tag_of(subject)).body == before


def test_gitlab_keeps_no_list(docker_registry: Registry, repository: str) -> None:
    subject = image(docker_registry, repository)
    with (
        fault_server(docker_registry.host, *gitlab_referrers()) as server,
        opened(server.host, repository) as at,
    ):
        with pytest.raises(RefusedError, match="for the image itself"):
            attached(at, subject, SBOM)
        assert list_referrers(at.repository, subject.digest) == ()
        assert {asked.method for asked in server.asked} == {"GET"}


def test_ecr_is_not_believed(docker_registry: Registry, repository: str) -> None:
    subject = image(docker_registry, repository)
    with (
        fault_server(docker_registry.host, *ecr_referrers()) as server,
        opened(server.host, repository) as at,
    ):
        made = attached(at, subject, SBOM)
        assert list_referrers(at.repository, subject.digest) == made
    assert len(kept(docker_registry, repository, subject)) == 1


def test_lists_that_do_not_take_in_what_is_sent(docker_registry: Registry, repository: str) -> None:
    """An empty list for everybody, and no OCI-Subject: the tag is kept, for those who look."""
    empty = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": None}).encode()
    stub = always(answers(200, empty, Content_Type=INDEX_TYPE), "GET", "referrers")
    subject = image(docker_registry, repository)
    with fault_server(docker_registry.host, stub) as server, opened(server.host, repository) as at:
        attached(at, subject, SBOM)
    assert len(kept(docker_registry, repository, subject)) == 1


@pytest.mark.parametrize("filters", [True, False], ids=["filtered", "unfiltered"])
def test_lists_have_pages(embedded_registry: Registry, repository: str, filters: bool) -> None:
    """The registry behind has no pages: here it serves one entry a page."""

    def paged(asked: Asked, upstream: Upstream) -> Answer:
        target, _, query = asked.target.partition("?")
        said = dict(part.split("=") for part in query.split("&")) if query else {}
        page = int(said.pop("page", 0))
        rest = "&".join(f"{k}={v}" for k, v in said.items()) if filters else ""
        whole = upstream.forward(Asked("GET", f"{target}?{rest}", asked.headers))
        if not filters:
            whole.headers.pop("Oci-Filters-Applied", None)
        index = json.loads(whole.body)
        everything = index["manifests"]
        index["manifests"] = everything[page : page + 1]
        whole.body = json.dumps(index).encode()
        whole.headers["Content-Length"] = str(len(whole.body))
        if page + 1 < len(everything):
            following = "&".join(part for part in (f"page={page + 1}", rest) if part)
            whole.headers["Link"] = f'<{target}?{following}>; rel="next"'
        return whole

    subject = image(embedded_registry, repository)
    more = [
        Attachment(media_type=SPDX, data=b'{"n":%d}' % number, title="x") for number in range(3)
    ]
    with opened(embedded_registry.host, repository) as at:
        made = attached(at, subject, *more, OTHER)
    with (
        fault_server(embedded_registry.host, always(paged, "GET", "referrers")) as server,
        opened(server.host, repository) as at,
    ):
        assert set(list_referrers(at.repository, subject.digest)) == set(made)
        assert server.count("GET") == 4
        assert set(list_referrers(at.repository, subject.digest, SPDX)) == set(made[:3])


def test_pushers_at_once_lose_nothing(docker_registry: Registry, repository: str) -> None:
    """Four clients, each of which adds one entry to the list at the same tag."""
    subject = image(docker_registry, repository)
    together = threading.Barrier(4)

    def push(number: int) -> Referrer:
        artifact = Attachment(media_type=SPDX, data=b"%d" % number, title="x")
        with opened(docker_registry.host, repository) as at:
            together.wait()
            (made,) = attached(at, subject, artifact)
            return made

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(push, range(4)))
    digests = {entry["digest"] for entry in kept(docker_registry, repository, subject)}
    assert digests == {str(one.descriptor.digest) for one in made}


def test_a_pusher_who_had_read_the_list_before(docker_registry: Registry, repository: str) -> None:
    """Its list, written after ours, lacks our entry: which is put back beside its own."""
    subject = image(docker_registry, repository)
    api = Api(docker_registry.host, repository)
    with opened(docker_registry.host, repository) as at:
        (theirs,) = attached(at, subject, OTHER)
    stale = api.manifest(tag_of(subject)).body

    def and_over(asked: Asked, upstream: Upstream) -> Answer:
        answer = upstream.forward(asked)
        assert api.put_manifest(tag_of(subject), stale, INDEX_TYPE).status == 201
        return answer

    late = Rule(and_over, "PUT", "tag", times=2)
    with fault_server(docker_registry.host, late) as server, opened(server.host, repository) as at:
        (ours,) = attached(at, subject, SBOM)
    digests = {entry["digest"] for entry in kept(docker_registry, repository, subject)}
    assert digests == {str(theirs.descriptor.digest), str(ours.descriptor.digest)}


def test_a_list_that_never_rests(
    docker_registry: Registry, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cancellation, "wait", lambda self, seconds: None)
    subject = image(docker_registry, repository)
    forgets = Rule(answers(201), "PUT", "tag", times=FOREVER)
    with (
        fault_server(docker_registry.host, forgets) as server,
        opened(server.host, repository) as at,
        pytest.raises(TransientError, match="keep overwriting"),
    ):
        attached(at, subject, SBOM)


def test_tags_that_may_not_be_moved(docker_registry: Registry, repository: str) -> None:
    """The list can be begun, and no further."""
    subject = image(docker_registry, repository)
    immutable = Rule(error(409, "DENIED", "tag is immutable"), "PUT", "tag", after=1)
    with (
        fault_server(docker_registry.host, immutable) as server,
        opened(server.host, repository) as at,
    ):
        attached(at, subject, SBOM)
        with pytest.raises(TagConflictError, match="holds the list of referrers"):
            attached(at, subject, OTHER)
    assert len(kept(docker_registry, repository, subject)) == 1


def test_a_blob_that_was_there_and_is_not(embedded_registry: Registry, repository: str) -> None:
    """The registry says that it has it, and misses it at the manifest."""
    subject = image(embedded_registry, repository)
    lies = Rule(
        answers(200, Content_Length="2"),
        "HEAD",
        "blob",
        times=1,
        only=lambda asked: EMPTY in asked.target,
    )
    with (
        fault_server(embedded_registry.host, lies) as server,
        opened(server.host, repository) as at,
    ):
        attached(at, subject, SBOM)
        (found,) = list_referrers(at.repository, subject.digest)
        assert fetch(at.repository, found) == SBOM


def test_a_document_that_is_not_what_it_is_said_to_be(
    embedded_registry: Registry, repository: str
) -> None:
    subject = image(embedded_registry, repository)
    with opened(embedded_registry.host, repository) as at:
        (made,) = attached(at, subject, SBOM)
    lie = Rule(answers(200, b"x" * len(SBOM.data)), "GET", "blob")
    with (
        fault_server(embedded_registry.host, lie) as server,
        opened(server.host, repository) as at,
        pytest.raises(VerificationError, match="another digest"),
    ):
        fetch(at.repository, made)


def test_a_registry_that_ends_meanwhile(embedded_registry: Registry, repository: str) -> None:
    subject = image(embedded_registry, repository)
    gone = Rule(resets, "PUT", "manifest", times=FOREVER)
    with (
        fault_server(embedded_registry.host, gone) as server,
        opened(server.host, repository, retry_times=1) as at,
        pytest.raises(TransientError, match="pushing the artifact sha256:"),
    ):
        attached(at, subject, SBOM)
    with opened(embedded_registry.host, repository) as at:
        assert list_referrers(at.repository, subject.digest) == ()


def test_other_clients_pull_it(registry: Registry, repository: str, tmp_path: Path) -> None:
    """oras by its own session, which finds the document's name in the manifest."""
    subject = image(registry, repository)
    with opened(registry.host, repository) as at:
        (made,) = attached(at, subject, SBOM)
    client = oras.provider.Registry(insecure=True)
    target = f"{registry.host}/{repository}@{made.descriptor.digest}"
    (file,) = client.pull(target=target, outdir=str(tmp_path))
    client.session.close()
    assert Path(file).name == SBOM.title
    assert Path(file).read_bytes() == SBOM.data


def test_other_clients_list_it_and_add_to_it(
    registry: Registry, repository: str, tmp_path: Path
) -> None:
    program = find_part("oras")
    if program is None:
        pytest.skip("the program 'oras' is not installed")  # Debian has no package of it
    subject = image(registry, repository)
    named = f"{registry.host}/{repository}@{subject.digest}"
    (tmp_path / "theirs").write_text("theirs")

    def run(*command: str) -> str:
        whole = [program, *command, "--plain-http"]
        return subprocess.run(
            whole, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    with opened(registry.host, repository) as at:
        (made,) = attached(at, subject, SBOM)
        listed = json.loads(run("discover", "--format", "json", named))
        # Called `manifests` before oras 1.3.
        theirs = listed.get("referrers") or listed["manifests"]
        assert [one["digest"] for one in theirs] == [str(made.descriptor.digest)]
        run("attach", "--artifact-type", "application/theirs", named, "theirs")
        attached(at, subject, OTHER)
        found = list_referrers(at.repository, subject.digest)
    types = {SBOM.media_type, OTHER.media_type, "application/theirs"}
    assert {one.artifact_type for one in found} == types


def test_a_registry_with_tokens(tmp_path: Path, repository: str) -> None:
    """Pushing and pulling, asked for in one scope, is all that it takes."""
    login = {"username": "alice", "password": USERS["alice"]}
    with token_registry(tmp_path) as (registry, tokens):
        with opened(registry.host, repository, **login) as at:
            manifest = push_image(at.repository, b"layer")
            at.repository.put_manifest(manifest, OCI_MANIFEST, "latest")
            subject = Descriptor.of(manifest, OCI_MANIFEST)
            made = attached(at, subject, SBOM)
        with opened(registry.host, repository, access=Access.PULL, **login) as at:
            assert list_referrers(at.repository, subject.digest) == made
    assert {tuple(scopes) for scopes in tokens.scopes()} == {
        (f"repository:{repository}:pull,push",),
        (f"repository:{repository}:pull",),
    }


def test_only_who_attaches_imports_oras(
    docker_registry: Registry, repository: str, tmp_path: Path
) -> None:
    """150 ms that no other push pays; nor do the libraries of SBOMs come with it."""
    (tmp_path / "main.py").write_text("print()")
    script = """
import sys
from regpush.cli.app import run
code = run(sys.argv[1:], {})
print(*{name.partition(".")[0] for name in sys.modules})
sys.exit(code)
"""
    command = [sys.executable, "-c", script, "push", str(tmp_path), "--no-cache"]
    heavy = {"oras", "requests", "jsonschema", "urllib3", "spdx_tools", "cyclonedx", "packageurl"}

    def imported(*flags: str) -> set[str]:
        done = subprocess.run(
            [*command, "--to", f"{docker_registry.host}/{repository}", *flags],
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return heavy & set(done.stdout.splitlines()[-1].split())

    assert imported() == set()
    assert {"oras", "cyclonedx"} <= imported("--sbom", "cyclonedx")
