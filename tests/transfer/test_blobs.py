"""Blobs from one real registry to another: mounted, passed through, verified on the way."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace

from regpush.digest import Descriptor
from regpush.errors import (
    AuthError,
    CancelledError,
    RegpushError,
    TransientError,
    VerificationError,
)
from regpush.events import Action
from regpush.reference import Reference
from regpush.registry.repository import Access
from regpush.transfer.blobs import Passage, bring
from tests.registry.faults import (
    FOREVER,
    Answer,
    Asked,
    Rule,
    Trouble,
    TroubledWire,
    Upstream,
    answers,
    changed,
    error,
    fault_server,
)
from tests.registry.servers import Registry
from tests.registry.wire import StartProxy
from tests.registry_client.opening import Opened, layer, opened, put

MIB = 1 << 20
DATA = os.urandom(5 * MIB + 17)


@pytest.fixture
def blob(docker_registry: Registry, repository: str) -> Descriptor:
    with opened(docker_registry.host, repository) as at:
        return put(at.repository, DATA)


@contextmanager
def passage(target: str, source: str, repository: str) -> Iterator[tuple[Opened, Passage]]:
    """From `repository` at `source` to `copies/repository` at `target`."""
    with opened(target, f"copies/{repository}") as at:
        place = Reference(registry=source, repository=repository)
        yield (
            at,
            Passage(
                source=at.client.repository(place, Access.PULL),
                target=at.repository,
                slots=threading.Semaphore(4),
                cancel=at.cancel,
                progress=lambda descriptor, passed: None,
            ),
        )


def test_a_large_blob_passes_through(
    docker_registry: Registry, embedded_registry: Registry, repository: str
) -> None:
    data = os.urandom(MIB) * 40  # more than any reply that is kept has
    with opened(docker_registry.host, repository) as at:
        descriptor = put(at.repository, data)
    seen: list[int] = []
    with passage(embedded_registry.host, docker_registry.host, repository) as (at, way):
        way = replace(way, progress=lambda _, passed: seen.append(passed))
        assert bring(descriptor, way) is Action.UPLOADED
        assert bring(descriptor, way) is Action.REUSED
        assert b"".join(at.repository.read_blob(descriptor)) == data
    # How often depends on the clock: what the kernel still queues counts later.
    assert seen[-1] == len(data)
    assert seen == sorted(seen)
    assert len(seen) > 10


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1])
def test_sizes(
    docker_registry: Registry, embedded_registry: Registry, repository: str, size: int
) -> None:
    data = DATA[:size]
    with opened(docker_registry.host, repository) as at:
        descriptor = put(at.repository, data)
    with passage(embedded_registry.host, docker_registry.host, repository) as (at, way):
        assert bring(descriptor, way) is Action.UPLOADED
        assert at.repository.get_blob(descriptor) == data


def test_within_a_registry_nothing_is_sent(
    docker_registry: Registry, repository: str, blob: Descriptor, wire: StartProxy
) -> None:
    proxy = wire(docker_registry)
    with passage(proxy.host, proxy.host, repository) as (at, way):
        assert bring(blob, way) is Action.MOUNTED
        assert at.client.bytes_uploaded == 0
    assert [one.method for one in proxy.stats().requests] == ["HEAD", "POST", "HEAD"]


def test_a_refused_mount_becomes_a_transfer(
    docker_registry: Registry, repository: str, blob: Descriptor
) -> None:
    refusal = Rule(error(403, "DENIED"), "POST", only=lambda asked: "mount=" in asked.target)
    with (
        fault_server(docker_registry.host, refusal) as faults,
        passage(faults.host, faults.host, repository) as (at, way),
    ):
        assert bring(blob, way) is Action.UPLOADED
        assert at.repository.has_blob(blob)


def test_what_broke_goes_on_where_it_was(
    docker_registry: Registry, embedded_registry: Registry, repository: str, blob: Descriptor
) -> None:
    cuts = [Trouble(cut_down=size) for size in (900, 3 * MIB)]
    with (
        fault_server(docker_registry.host) as faults,
        TroubledWire(faults.host, cuts) as troubled,
        passage(embedded_registry.host, troubled.host, repository) as (at, way),
    ):
        assert bring(blob, way) is Action.UPLOADED
        assert b"".join(at.repository.read_blob(blob)) == DATA
    starts = [asked.headers.get("range", "") for asked in faults.asked if asked.kind == "blob"]
    positions = [int(start[6:-1]) for start in starts if start]
    assert len(positions) >= 1  # a reset takes along what was under way: positions vary
    assert positions == sorted(positions)
    assert positions[-1] > 0


def _whole(asked: Asked, upstream: Upstream) -> Answer:
    """A server that knows no ranges."""
    headers = {name: value for name, value in asked.headers.items() if name != "range"}
    return upstream.forward(dataclasses.replace(asked, headers=headers))


def _elsewhere(answer: Answer) -> None:
    """A range, but not the one that was asked for."""
    if answer.status == 206:
        answer.headers["Content-Range"] = f"bytes 3-{len(DATA) - 1}/{len(DATA)}"


@pytest.mark.parametrize(
    "act", [_whole, changed(_elsewhere), answers(416)], ids=["none", "another", "416"]
)
def test_ranges_are_no_condition(
    docker_registry: Registry, embedded_registry: Registry, repository: str, blob: Descriptor, act
) -> None:
    ranged = Rule(act, "GET", "blob", FOREVER, only=lambda asked: "range" in asked.headers)
    with (
        fault_server(docker_registry.host, ranged) as faults,
        TroubledWire(faults.host, [Trouble(cut_down=2 * MIB + 5)]) as troubled,
        passage(embedded_registry.host, troubled.host, repository) as (at, way),
    ):
        assert bring(blob, way) is Action.UPLOADED
        assert b"".join(at.repository.read_blob(blob)) == DATA


def _flip(answer: Answer) -> None:
    answer.body = answer.body[:100] + bytes([answer.body[100] ^ 1]) + answer.body[101:]


def _shorten(answer: Answer) -> None:
    answer.body = answer.body[:-1]
    answer.headers["Content-Length"] = str(len(answer.body))


def _lengthen(answer: Answer) -> None:
    answer.body += b"x"
    answer.headers["Content-Length"] = str(len(answer.body))


@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (changed(_flip), VerificationError, "another digest"),
        (changed(_shorten), VerificationError, f"{len(DATA) - 1} bytes instead of {len(DATA)}"),
        (changed(_lengthen), VerificationError, f"{len(DATA) + 1} bytes instead of {len(DATA)}"),
        (error(404, "BLOB_UNKNOWN"), VerificationError, "is missing in the registry"),
        (answers(500), TransientError, "500"),
    ],
    ids=["wrong", "short", "long", "gone", "500"],
)
def test_wrong_bytes_never_arrive(
    docker_registry: Registry,
    embedded_registry: Registry,
    repository: str,
    blob: Descriptor,
    act,
    kind: type[RegpushError],
    words: str,
) -> None:
    with (
        fault_server(embedded_registry.host, Rule(act, "GET", "blob", FOREVER)) as faults,
        passage(docker_registry.host, faults.host, repository) as (at, way),
    ):
        with opened(embedded_registry.host, repository) as source:
            put(source.repository, DATA)
        with pytest.raises(kind, match=words) as caught:
            bring(blob, way)
        assert faults.host in str(caught.value)
        assert not at.repository.has_blob(blob)


def test_a_source_that_dies(
    docker_registry: Registry, embedded_registry: Registry, repository: str, blob: Descriptor
) -> None:
    cuts = [Trouble(cut_down=2 * MIB), *[Trouble(cut_down=0)] * 9]
    with (
        TroubledWire(docker_registry.host, cuts) as troubled,
        passage(embedded_registry.host, troubled.host, repository) as (at, way),
    ):
        with pytest.raises(TransientError, match=troubled.host):
            bring(blob, way)
        assert not at.repository.has_blob(blob)


def test_a_source_that_wants_a_login(
    docker_registry_htpasswd: Registry, embedded_registry: Registry, repository: str
) -> None:
    host = docker_registry_htpasswd.host
    with (
        passage(embedded_registry.host, host, repository) as (_, way),
        pytest.raises(AuthError, match=host),
    ):
        bring(layer(b"secret"), way)


def test_a_cancelled_transfer_ends(
    docker_registry: Registry, embedded_registry: Registry, repository: str, blob: Descriptor
) -> None:
    with passage(embedded_registry.host, docker_registry.host, repository) as (at, way):
        stopping = replace(way, progress=lambda _, __: at.cancel.cancel())
        with pytest.raises(CancelledError):
            bring(blob, stopping)
    with opened(embedded_registry.host, f"copies/{repository}") as at:
        assert not at.repository.has_blob(blob)
