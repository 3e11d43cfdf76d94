"""Faults that take a story to tell: mounts, lost blobs, tags, other pushers, slow servers."""

from __future__ import annotations

import hashlib
import itertools
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from regpush.concurrency import Cancellation
from regpush.digest import OCI_LAYER
from regpush.errors import (
    SourceError,
    TagConflictError,
    TransientError,
    VerificationError,
)
from regpush.events import Action
from regpush.flow import assemble
from regpush.options import IfExists
from tests.registry.api import Api
from tests.registry.faults import (
    FOREVER,
    Act,
    Answer,
    Asked,
    Rule,
    Trouble,
    TroubledWire,
    Upstream,
    answers,
    breaks,
    error,
    fault_server,
    resets,
    with_header,
)
from tests.registry.outcomes import judge, make_app, push, small_spool, tagged, verify_image
from tests.registry.servers import Registry
from tests.registry_client.opening import Stream, layer, opened, put
from tests.registry_client.raw import raw, reply, says

MIB = 1 << 20


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path / "app")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "Spool", small_spool)

    def wait(self: Cancellation, seconds: float) -> None:
        self.check()
        time.sleep(min(seconds, 0.01))

    monkeypatch.setattr(Cancellation, "wait", wait)


# Names and connections.


def test_a_name_that_resolves_at_the_third_attempt(
    docker_registry: Registry, repository: str, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = socket.getaddrinfo, itertools.count()

    def resolve(*arguments: object, **more: object) -> object:
        if next(left) < 3:  # once for the connections begun ahead
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return real(*arguments, **more)  # type: ignore[arg-type]  # what was given

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    outcome = push(app, docker_registry.host, repository, retry_times=3)
    judge(outcome, docker_registry.host, repository)
    assert outcome.result
    assert "does not resolve" in outcome.messages


# Mounts.


@pytest.mark.parametrize(
    "act",
    [*(answers(status) for status in (400, 401, 403, 404, 405, 500)), resets, answers(201)],
    ids=["400", "401", "403", "404", "405", "500", "reset", "said-but-not-done"],
)
def test_a_mount_that_fails_is_an_upload(
    docker_registry: Registry, repository: str, app: Path, act: Act
) -> None:
    push(app, docker_registry.host, f"{repository}-from")
    mounts = Rule(act, "POST", "open", times=FOREVER, only=lambda asked: "mount=" in asked.target)
    with fault_server(docker_registry.host, mounts) as server:
        source = f"{server.host}/{repository}-from:latest"
        outcome = push(app, server.host, repository, reuse_from=(source,))
    assert outcome.result, outcome.error
    assert {layer.action for layer in outcome.result.layers} == {Action.UPLOADED}
    judge(outcome, docker_registry.host, repository)


def test_a_host_without_mounts_is_not_asked_twice(
    docker_registry: Registry, repository: str
) -> None:
    mounts = Rule(
        answers(405), "POST", "open", times=FOREVER, only=lambda asked: "mount=" in asked.target
    )
    with (
        fault_server(docker_registry.host, mounts) as server,
        opened(server.host, repository) as at,
    ):
        for content in (b"one", b"two"):
            assert not at.repository.mount_blob(layer(content), "some/where")
        assert server.count("POST") == 1


# Blobs that a registry loses.


def test_a_blob_that_was_there_when_it_was_asked_for_is_sent_again(
    registry: Registry, repository: str, app: Path
) -> None:
    first = push(app, registry.host, repository).result
    assert first
    api = Api(registry.host, repository)
    lost = first.layers[0]
    before = api.blob(str(lost.digest), "HEAD").headers["Content-Length"]
    assert api.send("DELETE", f"{api.base}/blobs/{lost.digest}").status == 202

    def still_there(asked: Asked, upstream: Upstream) -> Answer:
        return Answer(200, {"Content-Length": before})

    (app / "main.py").write_text("changed\n")
    stale = Rule(
        still_there, "HEAD", "blob", times=FOREVER, only=lambda a: str(lost.digest) in a.target
    )
    with fault_server(registry.host, stale) as server:
        outcome = push(app, server.host, repository)
    judge(outcome, registry.host, repository)
    assert outcome.result, outcome.error
    by_digest = {layer.digest: layer for layer in outcome.result.layers}
    assert by_digest[lost.digest].action is Action.UPLOADED
    assert by_digest[lost.digest].why == "the registry had lost the blob"
    others = [one for one in outcome.result.layers if one.why == "the registry had lost the blob"]
    assert len(others) == 1
    assert "sending 1 blob again" in outcome.warnings


def test_an_unchanged_image_whose_blobs_are_gone_is_healed_at_the_tag(
    registry: Registry, repository: str, app: Path
) -> None:
    first = push(app, registry.host, repository).result
    assert first
    api = Api(registry.host, repository)
    for one in first.layers:
        assert api.send("DELETE", f"{api.base}/blobs/{one.digest}").status == 202
    outcome = push(app, registry.host, repository, tags=("other",))
    assert outcome.result, outcome.error
    assert verify_image(registry.host, repository, "other") == str(first.digest)


# Tags.


@pytest.mark.parametrize("status", [400, 403, 409, 412])
def test_an_immutable_tag(
    docker_registry: Registry, repository: str, app: Path, status: int
) -> None:
    before = push(app, docker_registry.host, repository).result
    assert before

    def refuse(asked: Asked, upstream: Upstream) -> Answer | None:
        return error(status, "TAG_INVALID", "the tag is immutable")(asked, upstream)

    with fault_server(docker_registry.host, Rule(refuse, "PUT", "tag", times=FOREVER)) as server:
        (app / "main.py").write_text("changed\n")
        other = push(app, server.host, repository)
        assert isinstance(other.error, TagConflictError)
        assert "the tag is immutable" in str(other.error)
        judge(other, docker_registry.host, repository, before=str(before.digest))


def test_an_immutable_tag_that_another_push_made_just_so(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    """Both of two runs push the same commit: the second finds the tag taken, by itself."""
    ready = push(app, docker_registry.host, f"{repository}-ready").result
    assert ready

    def taken(asked: Asked, upstream: Upstream) -> Answer | None:
        upstream.forward(asked)  # the other run
        return error(400, "TAG_INVALID", "tag is immutable")(asked, upstream)

    with fault_server(docker_registry.host, Rule(taken, "PUT", "tag")) as server:
        outcome = push(app, server.host, repository)
    assert outcome.result, outcome.error
    assert outcome.result.digest == ready.digest
    judge(outcome, docker_registry.host, repository)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("rule", list(IfExists))
def test_if_exists(
    docker_registry: Registry, repository: str, app: Path, rule: IfExists, changed: bool
) -> None:
    before = push(app, docker_registry.host, repository).result
    assert before
    if changed:
        (app / "main.py").write_text("changed\n")
    with fault_server(docker_registry.host) as server:
        outcome = push(app, server.host, repository, if_exists=rule)
    judge(outcome, docker_registry.host, repository, before=str(before.digest))
    fails = rule is IfExists.FAIL or (rule is IfExists.SAME and changed)
    assert isinstance(outcome.error, TagConflictError) == fails
    if rule is IfExists.FAIL:
        assert {asked.method for asked in server.asked} <= {"GET", "HEAD"}
    if rule is IfExists.SKIP:
        assert outcome.result
        assert outcome.result.digest == before.digest
        assert not outcome.result.changed
        assert {asked.method for asked in server.asked} <= {"GET", "HEAD"}
    if rule is IfExists.REPLACE:
        assert outcome.result
        assert outcome.result.moved == (("latest",) if changed else ())
    assert server.count("PUT", "tag") == (1 if rule is IfExists.REPLACE and changed else 0)


def test_if_current_refuses_to_roll_a_tag_back(
    registry: Registry, repository: str, app: Path
) -> None:
    first = push(app, registry.host, repository).result
    (app / "main.py").write_text("two\n")
    second = push(app, registry.host, repository, if_current=str(first and first.digest)).result
    assert first
    assert second
    assert second.moved == ("latest",)
    (app / "main.py").write_text("a late build of one\n")
    late = push(app, registry.host, repository, if_current=str(first.digest))
    assert isinstance(late.error, TagConflictError)
    assert "--if-current" in str(late.error)
    judge(late, registry.host, repository, before=str(second.digest))
    # The same image again is no conflict, whatever was expected.
    (app / "main.py").write_text("two\n")
    again = push(app, registry.host, repository, if_current=str(first.digest))
    assert again.result, again.error


def test_if_current_notices_who_came_in_between(
    docker_registry: Registry, repository: str, app: Path, tmp_path: Path
) -> None:
    first = push(app, docker_registry.host, repository).result
    assert first
    rival = make_app(tmp_path / "rival" / "app", seed=7)

    def come_between(asked: Asked, upstream: Upstream) -> Answer:
        push(rival, docker_registry.host, repository)
        return upstream.forward(asked)

    (app / "main.py").write_text("two\n")
    with fault_server(docker_registry.host, Rule(come_between, "PUT", "manifest")) as server:
        outcome = push(app, server.host, repository, if_current=str(first.digest))
    assert isinstance(outcome.error, TagConflictError)
    assert "somebody moved it" in str(outcome.error)
    verify_image(docker_registry.host, repository)
    assert tagged(docker_registry.host, repository) != str(first.digest)


def test_a_tag_that_is_moved_on_at_once_is_a_warning(
    registry: Registry, repository: str, app: Path, tmp_path: Path
) -> None:
    rival = make_app(tmp_path / "rival" / "app", seed=7)

    def move_on(asked: Asked, upstream: Upstream) -> Answer:
        answer = upstream.forward(asked)
        push(rival, registry.host, repository)
        return answer

    with fault_server(registry.host, Rule(move_on, "PUT", "tag")) as server:
        outcome = push(app, server.host, repository)
    assert outcome.result, outcome.error
    assert "another push moved it" in outcome.warnings
    verify_image(registry.host, repository, str(outcome.result.digest))
    assert verify_image(registry.host, repository) != str(outcome.result.digest)


def test_one_of_several_tags_that_is_refused_leaves_the_earlier_ones_named(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    denied = Rule(
        answers(403), "PUT", "tag", times=FOREVER, only=lambda a: a.target.endswith("/three")
    )
    with fault_server(docker_registry.host, denied) as server:
        outcome = push(app, server.host, repository, tags=("one", "two", "three", "four"))
    assert "tags moved before that: one, two" in str(outcome.error)
    for tag in ("one", "two"):
        verify_image(docker_registry.host, repository, tag)
    assert [tagged(docker_registry.host, repository, tag) for tag in ("three", "four")] == [
        None,
        None,
    ]


# Others who push the same.


def test_two_pushes_of_the_same_image_at_once(
    registry: Registry, repository: str, app: Path
) -> None:
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: push(app, registry.host, repository), range(4)))
    assert [outcome.error for outcome in outcomes] == [None] * 4
    for outcome in outcomes:
        judge(outcome, registry.host, repository)


# What is resumed, and what is not.


@pytest.mark.parametrize("form", ["put", "stream"])
def test_a_broken_upload_goes_on_where_it_was(
    embedded_registry: Registry, repository: str, form: str
) -> None:
    data = b"".join(bytes([n]) * MIB for n in range(12))
    pieces = [data[at : at + MIB] for at in range(0, len(data), MIB)]
    broken = Rule(breaks(0.75), "PUT" if form == "put" else "PATCH", "upload")
    with (
        fault_server(embedded_registry.host, broken) as server,
        opened(server.host, repository) as at,
    ):
        if form == "put":
            at.repository.put_blob(layer(data), lambda: iter(pieces))
        else:
            at.repository.stream_blob(OCI_LAYER, lambda: Stream(pieces))
        assert at.repository.get_blob(layer(data)) == data
        _, *rest = (a for a in server.asked if a.method in ("PUT", "PATCH"))
        assert sum(len(asked.body) for asked in rest) == len(data) // 4
        assert rest[0].headers["content-range"].startswith(f"{len(data) * 3 // 4}-")
        assert server.count("POST", "open") == 1


def test_progress_gives_all_attempts_anew(embedded_registry: Registry, repository: str) -> None:
    """Six breaks and two retries: each time 4 MiB more are safe, so none is the last."""
    data = b"".join(bytes([n]) * MIB for n in range(64))
    broken = Rule(breaks(0.25), "", "upload", times=6, only=lambda asked: len(asked.body) > 5 * MIB)
    with (
        fault_server(embedded_registry.host, broken) as server,
        opened(server.host, repository, retry_times=2) as at,
    ):
        at.repository.put_blob(layer(data), lambda: iter([data]))
        assert at.repository.has_blob(layer(data))
        assert broken.times == 0
        assert at.client.bytes_uploaded < 4 * len(data)


def test_a_status_that_is_a_lie_is_caught_by_the_digest(
    embedded_registry: Registry, repository: str
) -> None:
    """The second half is put where a quarter is missing; the registry takes it, then counts."""
    data = bytes(range(256)) * 4 * 1024
    rules = [
        Rule(breaks(0.25), "PUT", "upload"),
        Rule(with_header("Range", f"0-{len(data) // 2 - 1}"), "GET", "upload", times=FOREVER),
        Rule(_without_range, "PUT", "upload"),
    ]
    with (
        fault_server(embedded_registry.host, *rules) as server,
        opened(server.host, repository) as at,
    ):
        at.repository.put_blob(layer(data), lambda: iter([data]))
        assert at.repository.get_blob(layer(data)) == data
        # The host's word is not taken again.
        server.rules.append(Rule(breaks(0.5), "PUT", "upload"))
        asked = server.count("GET", "upload")
        put(at.repository, data[::-1])
        assert server.count("GET", "upload") == asked


def _without_range(asked: Asked, upstream: Upstream) -> Answer:
    headers = {k: v for k, v in asked.headers.items() if k != "content-range"}
    return upstream.forward(Asked(asked.method, asked.target, headers, asked.body))


def test_chunks_out_of_order_are_sent_again_from_the_first(
    docker_registry: Registry, repository: str
) -> None:
    """distribution 2.8 ignores Content-Range: a chunk that came twice shows at the end only."""
    data = bytes(range(256)) * 8 * 1024

    def twice(asked: Asked, upstream: Upstream) -> Answer:
        first = upstream.forward(asked)
        location = first.headers["Location"].partition("://")[2]
        target = "/" + location.partition("/")[2]
        return upstream.forward(Asked(asked.method, target, asked.headers, asked.body))

    rules = [
        Rule(answers(413), "PUT", "upload"),
        Rule(twice, "PATCH", "upload"),
    ]
    with (
        fault_server(docker_registry.host, *rules) as server,
        opened(server.host, repository) as at,
    ):
        at.repository.put_blob(layer(data), lambda: iter([data]))
        assert at.repository.get_blob(layer(data)) == data


# Sources that change.


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(b"short"),
        lambda file: file.write_bytes(file.read_bytes() + b"more"),
        lambda file: file.write_bytes(file.read_bytes()),
        lambda file: file.unlink(),
    ],
    ids=["shrinks", "grows", "is-written-anew", "vanishes"],
)
def test_a_file_that_changes_between_two_attempts(
    docker_registry: Registry, repository: str, app: Path, spoil: Callable[[Path], object]
) -> None:
    """Sent once, broken, and to be read again: then it is not what was listed."""

    def break_and_spoil(asked: Asked, upstream: Upstream) -> None:
        spoil(app / "node_modules" / "big" / "x")
        breaks(0.5)(asked, upstream)

    with fault_server(docker_registry.host, Rule(break_and_spoil, "PATCH", "upload")) as server:
        outcome = push(app, server.host, repository)
        assert isinstance(outcome.error, SourceError), outcome.error
        assert "node_modules/big/x" in str(outcome.error)
        assert server.count("PUT", "manifest") == 0
        # Every session was ended, by what it was for or by giving it up.
        last = [a for a in server.asked if a.kind == "upload" and a.method in ("PUT", "DELETE")]
        assert server.count("POST", "open") == len({a.target.partition("?")[0] for a in last})
    judge(outcome, docker_registry.host, repository)


# Servers that stall and drip.


@pytest.mark.parametrize(
    "trouble",
    [Trouble(stall_up=40_000), Trouble(stall_down=10), Trouble(stall_up=0), Trouble(drip_down=40)],
    ids=["stops-reading", "stops-answering", "never-reads", "drips"],
)
def test_a_server_without_progress_is_left(
    docker_registry: Registry, repository: str, app: Path, trouble: Trouble
) -> None:
    """A server that a busy machine makes slow is left too: more attempts make up for it."""
    with TroubledWire(docker_registry.host, [trouble] * 4) as wire:
        outcome = push(app, wire.host, repository, stall_s=0.5, retry_times=50, plain_http=True)
    judge(outcome, docker_registry.host, repository)
    assert outcome.result, outcome.error
    assert "retrying in" in outcome.messages


def test_a_server_that_only_ever_drips_ends_in_an_error(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    with TroubledWire(docker_registry.host, [Trouble(drip_down=40)] * 1000) as wire:
        outcome = push(app, wire.host, repository, stall_s=2.0, retry_times=0)
    judge(outcome, docker_registry.host, repository)
    assert isinstance(outcome.error, TransientError)
    assert "slower than 1024 bytes a second" in str(outcome.error)


def test_a_reader_that_drips_ends_in_an_error(repository: str) -> None:
    """It takes a few bytes now and then: enough to keep a naive time-out from ever coming."""

    def sip(connection: socket.socket, head: str) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(1200):
            connection.recv(512)
            time.sleep(0.05)

    opening = says(reply("202 Accepted", "Location: /v2/team/app/blobs/uploads/1"))
    with (
        raw(opening, sip) as server,
        opened(server.host, retry_times=0, stall_s=2) as at,
        pytest.raises(TransientError, match="made no progress"),
    ):
        at.repository.put_blob(layer(b"x" * 64 * MIB), lambda: iter([b"x" * MIB] * 64))


def _flood(start: bytes, piece: bytes) -> Callable[[socket.socket, str], None]:
    """64 MiB a second, without end."""

    def script(connection: socket.socket, head: str) -> None:
        connection.sendall(start)
        block = piece * (MIB // len(piece))
        while True:
            connection.sendall(block)
            time.sleep(1 / 64)

    return script


CHUNK = b"200\r\n" + b"x" * 0x200 + b"\r\n"


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"200\r\n" + b"x" * 512 + b"\r\n",
        ),
        (b"HTTP/1.1 500 No\r\nContent-Length: 99999999999\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["body", "chunks", "error", "headers", "provisional"],
)
def test_memory_stays_bounded_under_a_flood(start: bytes, piece: bytes) -> None:
    # After the flood the client asks whether TLS is spoken there, for the time of a stall.
    how = {"retry_times": 0, "plain_http": True, "stall_s": 2.0}
    with raw(_flood(start, piece)) as server, opened(server.host, **how) as at:
        tracemalloc.start()
        try:
            with pytest.raises((VerificationError, TransientError)):
                at.repository.get_manifest("latest")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 24 * MIB


def test_a_flood_while_a_body_is_sent(repository: str) -> None:
    opening = says(reply("202 Accepted", "Location: /v2/team/app/blobs/uploads/1"))
    flood = _flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n")
    with (
        raw(opening, flood) as server,
        opened(server.host, retry_times=0) as at,
        pytest.raises(TransientError, match="the reply, or its head, is larger than"),
    ):
        at.repository.put_blob(layer(b"x" * 64 * MIB), lambda: iter([b"x" * MIB] * 64))


# One pause for all workers.


def test_a_busy_registry_is_asked_by_fewer(docker_registry: Registry, repository: str) -> None:
    """After a 429 no request comes before its time; eight good answers later, two at once may."""
    arrived: list[float] = []
    inside, most, lock = 0, 0, threading.Lock()

    def busy_at_first(asked: Asked, upstream: Upstream) -> Answer:
        nonlocal inside, most
        with lock:
            arrived.append(time.monotonic())
            number, inside = len(arrived), inside + 1
            most = max(most, inside)
        answer = Answer(429, {"Retry-After": "1"}) if number == 1 else upstream.forward(asked)
        with lock:
            inside -= 1
        return answer

    with (
        fault_server(docker_registry.host, Rule(busy_at_first, times=FOREVER)) as server,
        opened(server.host, repository, retry_times=4) as at,
        ThreadPoolExecutor(6) as pool,
    ):
        put(at.repository, b"first")
        blobs = [hashlib.sha256(bytes([n])).digest() for n in range(6)]
        list(pool.map(lambda data: put(at.repository, data), blobs))
    assert arrived[1] - arrived[0] >= 1
    assert most <= 2
