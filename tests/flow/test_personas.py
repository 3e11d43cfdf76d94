"""Pushes to the registries of others, as docs/internals/registries.md section 4 describes them."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from regpush.concurrency import Cancellation
from regpush.digest import OCI_LAYER
from regpush.errors import TransientError
from regpush.flow import assemble
from tests.registry.faults import FOREVER, Asked, FaultServer, Rule, answers, fault_server, resets
from tests.registry.outcomes import judge, make_app, push, small_spool
from tests.registry.personas import (
    MIB,
    PERSONAS,
    Persona,
    artifactory,
    cloudflare,
    ecr,
    ghcr,
    harbor,
    nginx,
    no_digest_checks,
)
from tests.registry.servers import Registry
from tests.registry_client.opening import Stream, layer, opened

# Whose manners do not depend on how large a blob is; test_a_push has them.
ANY_SIZE = ("docker_hub", "harbor", "nexus", "no_digest_checks")

BLOB = random.Random(4).randbytes(17 * MIB + 5)
PIECES = [BLOB[at : at + MIB] for at in range(0, len(BLOB), MIB)]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_app(tmp_path_factory.mktemp("personas") / "app")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "Spool", small_spool)
    monkeypatch.setattr(Cancellation, "wait", lambda self, s: time.sleep(min(s, 0.01)))


@pytest.mark.parametrize("persona", PERSONAS, ids=[persona.name for persona in PERSONAS])
def test_a_push(docker_registry: Registry, repository: str, app: Path, persona: Persona) -> None:
    with fault_server(docker_registry.host, *persona.rules()) as server:
        outcome = push(app, server.host, repository)
        assert outcome.error is None, outcome.messages
        judge(outcome, docker_registry.host, repository)
        again = push(app, server.host, repository)
        assert again.result
        assert not again.result.changed
        assert all("cookie" not in asked.headers for asked in server.asked)


def sent(server: FaultServer, method: str) -> list[Asked]:
    return [a for a in server.asked if a.method == method and a.kind == "upload"]


@pytest.mark.parametrize("form", ["put", "stream"])
@pytest.mark.parametrize(
    "persona", [p for p in PERSONAS if p.name not in ANY_SIZE], ids=lambda p: p.name
)
def test_a_large_blob(
    embedded_registry: Registry, repository: str, persona: Persona, form: str
) -> None:
    """Ranges are checked by the registry behind; then every byte by us."""
    with (
        fault_server(embedded_registry.host, *persona.rules()) as server,
        opened(server.host, repository, retry_times=4) as at,
    ):
        if form == "put":
            at.repository.put_blob(layer(BLOB), lambda: iter(PIECES))
        else:
            assert at.repository.stream_blob(OCI_LAYER, lambda: Stream(PIECES)) == layer(BLOB)
        # What a host has taught is kept: nothing is refused for its form any more.
        before = at.client.requests
        at.repository.put_blob(layer(BLOB[1:]), lambda: iter([BLOB[1:]]))
        assert at.client.requests - before <= 22
    with opened(embedded_registry.host, repository) as at:
        assert at.repository.has_blob(layer(BLOB))
        for blob in (BLOB, BLOB[1:]):
            assert at.repository.has_blob(layer(blob))


@pytest.mark.parametrize(
    ("rules", "sizes"),
    [
        (ghcr, [4 * MIB] * 4 + [MIB + 5]),
        (cloudflare, [6 * MIB] * 2 + [5 * MIB + 5]),
        (nginx, [MIB] * 17 + [5]),
    ],
    ids=["ghcr", "cloudflare", "nginx"],
)
def test_chunks_are_equal_but_the_last_which_is_in_the_put(
    embedded_registry: Registry, repository: str, rules: object, sizes: list[int]
) -> None:
    with (
        fault_server(embedded_registry.host, *rules()) as server,  # type: ignore[operator]  # a persona
        opened(server.host, repository) as at,
    ):
        at.repository.put_blob(layer(BLOB), lambda: iter(PIECES))
        put = sent(server, "PUT")[-1]
        session = put.target.partition("?")[0]
        chunks = [a for a in sent(server, "PATCH") if a.target.partition("?")[0] == session]
        assert [len(a.body) for a in [*chunks, put]] == sizes
        start = 0
        for asked in [*chunks, put]:
            end = start + len(asked.body) - 1
            assert asked.headers["content-range"] == f"{start}-{end}"
            assert asked.headers["content-length"] == str(len(asked.body))
            start = end + 1


def test_ecr_is_not_believed_where_an_upload_stands(
    embedded_registry: Registry, repository: str
) -> None:
    """Its Range does not move: nothing is sent twice for that, and nothing is resumed by it."""
    with (
        fault_server(embedded_registry.host, *ecr()) as server,
        opened(server.host, repository) as at,
    ):
        at.repository.stream_blob(OCI_LAYER, lambda: Stream(PIECES))
        assert at.client.bytes_uploaded == len(BLOB)
        assert server.count("GET", "upload") == 0


def test_ecr_hangs_up_where_there_is_no_repository(
    embedded_registry: Registry, repository: str
) -> None:
    hang_up = Rule(resets, "POST", "open", times=FOREVER)
    with (
        fault_server(embedded_registry.host, hang_up) as server,
        opened(server.host, repository) as at,
        pytest.raises(TransientError, match="wants it created first"),
    ):
        at.repository.put_blob(layer(b"x"), lambda: iter([b"x"]))


def test_harbor_sends_to_storage_without_what_is_the_registrys_alone(
    embedded_registry: Registry, repository: str, app: Path
) -> None:
    push(app, embedded_registry.host, repository)
    with fault_server(embedded_registry.host) as storage:

        def elsewhere(asked: Asked, upstream: object) -> object:
            return answers(307, Location=f"{storage.url}{asked.target}")(asked, upstream)  # type: ignore[arg-type]  # not looked at

        challenge = {"WWW_Authenticate": 'Basic realm="harbor"'}
        rules = [
            Rule(
                answers(401, **challenge),
                times=FOREVER,
                only=lambda asked: "authorization" not in asked.headers,
            ),
            Rule(elsewhere, "HEAD", "blob", times=FOREVER),  # type: ignore[arg-type]  # an act
            *harbor(),
        ]
        with fault_server(embedded_registry.host, *rules) as server:
            login = {"username": "u", "password": "the registry's alone"}
            outcome = push(app, server.host, repository, check=True, **login)
            assert outcome.result, outcome.error
            assert {layer.action.value for layer in outcome.result.layers} == {"reused"}
            assert server.count("HEAD", "blob") >= 3
        assert storage.count("HEAD", "blob") >= 3
        for asked in storage.asked:
            assert not {"authorization", "cookie"} & asked.headers.keys()


def test_artifactory_is_sent_no_whole_blob_twice(
    embedded_registry: Registry, repository: str
) -> None:
    with (
        fault_server(embedded_registry.host, *artifactory()) as server,
        opened(server.host, repository, retry_times=0) as at,
    ):
        for content in (b"one", b"two"):
            at.repository.put_blob(layer(content), lambda content=content: iter([content]))
        assert [bool(asked.body) for asked in sent(server, "PUT")] == [True, False, False]


def test_what_no_registry_checked_is_missed_by_the_manifest(
    registry: Registry, repository: str, app: Path
) -> None:
    with fault_server(registry.host, *no_digest_checks()) as server:
        outcome = push(app, server.host, repository)
        judge(outcome, registry.host, repository)
        assert outcome.result
        assert "again" in outcome.warnings
