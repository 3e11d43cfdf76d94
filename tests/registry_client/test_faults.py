"""Faults between here and a registry, and what must then be true: docs/internals, registries, 6."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from regpush.concurrency import Cancellation
from regpush.digest import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor, Digest
from regpush.errors import (
    AuthError,
    CancelledError,
    RefusedError,
    RegpushError,
    TransientError,
    UsageError,
    VerificationError,
)
from regpush.events import ignore
from regpush.http.attempts import LESSONS, STEP
from regpush.http.retry import Policy, RetryableError
from regpush.registry.referrers import list_referrers
from regpush.registry.tag_list import TagList
from tests.patience import HANG_S, wait_until
from tests.registry import faults as fault
from tests.registry.servers import Registry, run_docker_registry
from tests.registry.wire import AfterCut, StartProxy
from tests.registry_client.front import Answer, Asked, Behaviour, front, pass_on
from tests.registry_client.opening import (
    Stream,
    layer,
    open_sessions,
    opened,
    put,
    send,
)
from tests.registry_client.raw import raw, reply, reset, says

MIB = 1 << 20
PASSWORD = "pass:word-that-nobody-may-see"


# No connection at all.


def test_a_registry_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = f"127.0.0.1:{taken.getsockname()[1]}"
    with opened(host, retry_times=1) as at:
        with pytest.raises(TransientError) as caught:
            put(at.repository, b"content")
        assert str(caught.value) == (
            f"{at.repository.name}: cannot reach http://{host}: connection refused; "
            "is the registry running?"
        )
        assert at.client.requests == 2
        assert "retrying in" in at.messages


def test_a_name_that_does_not_resolve() -> None:
    with (
        opened("registry.invalid", retry_times=0) as at,
        pytest.raises(TransientError, match=r"https://registry.invalid:443: .*does not resolve"),
    ):
        at.repository.get_manifest("latest")


# TLS.


def test_tls_with_its_authority(docker_registry_tls: Registry, repository: str) -> None:
    ca_file = str(docker_registry_tls.ca_file)
    with opened(docker_registry_tls.host, repository, ca_file=ca_file) as at:
        data = [b"x" * MIB] * 3
        descriptor = at.repository.stream_blob(OCI_LAYER, lambda: Stream(data))
        assert at.repository.has_blob(descriptor)
        put(at.repository, b"content")


def test_tls_on_loopback_is_noticed(docker_registry_tls: Registry, repository: str) -> None:
    with opened(docker_registry_tls.host, repository) as at:
        with pytest.raises(RefusedError, match=r"not trusted.*--ca-file"):
            put(at.repository, b"content")
        # By http once, and by https once: a certificate does not get better by trying.
        assert at.client.requests == 2


def test_tls_with_the_wrong_authority(
    docker_registry_tls: Registry, repository: str, tmp_path: Path
) -> None:
    import trustme

    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    with opened(docker_registry_tls.host, repository, ca_file=str(tmp_path / "other.pem")) as at:
        with pytest.raises(RefusedError, match="not trusted"):
            put(at.repository, b"content")
        assert at.client.requests == 1


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_is_none(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with (
        opened("127.0.0.1:1", ca_file=str(path)) as at,
        pytest.raises(UsageError, match=f"CA file '{path}'"),
    ):
        at.repository.get_manifest("latest")


def test_https_is_never_given_up_for_http(docker_registry: Registry, tmp_path: Path) -> None:
    import trustme

    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    with (
        opened(docker_registry.host, ca_file=str(tmp_path / "ca.pem")) as at,
        pytest.raises(
            RefusedError, match=rf"^https://{docker_registry.host}: .* not speak TLS.*--plain-http"
        ),
    ):
        at.repository.get_manifest("latest")


def test_plain_http_where_tls_is_spoken_is_an_error_that_says_so(
    docker_registry_tls: Registry,
) -> None:
    with (
        opened(docker_registry_tls.host, plain_http=True) as at,
        pytest.raises(RefusedError, match=rf"{at.repository.name.registry} speaks https; drop"),
    ):
        at.repository.get_manifest("latest")


# Busy registries, and lost replies.


def failing(times: int, status: int, when: Callable[[Asked], bool], then: Behaviour) -> Behaviour:
    left = [times]

    def behaviour(asked: Asked) -> Answer:
        if left[0] and when(asked):
            left[0] -= 1
            return Answer(status, {"Retry-After": "0"})
        return then(asked)

    return behaviour


@pytest.mark.parametrize(
    ("method", "status"),
    [
        *(("POST", status) for status in (408, 429, 499, 500, 502, 503, 504, 522)),
        *((method, status) for method in ("HEAD", "PUT", "PATCH") for status in (429, 500)),
    ],
)
def test_a_busy_registry_is_asked_again(
    docker_registry: Registry, repository: str, method: str, status: int
) -> None:
    behaviour = failing(1, status, lambda a: a.method == method, pass_on(docker_registry.host))
    with front(behaviour) as before, opened(before.host, repository) as at:
        descriptor = put(at.repository, b"content")
        streamed = at.repository.stream_blob(OCI_LAYER, lambda: Stream([b"str", b"eam"]))
        assert at.repository.has_blob(descriptor)
        assert at.repository.has_blob(streamed)
        assert str(status) in at.messages
    assert open_sessions(docker_registry, repository) == []


def test_a_registry_that_stays_busy() -> None:
    page = Answer(503, {"Content-Type": "text/html"}, b"<h1>Down for\nmaintenance</h1>")
    with front(lambda asked: page) as before, opened(before.host) as at:
        with pytest.raises(TransientError, match=r"answered 503: Down for maintenance$"):
            put(at.repository, b"content")
        assert at.client.requests == 3


def test_retry_after_is_honoured(docker_registry: Registry, repository: str) -> None:
    then = pass_on(docker_registry.host)
    times: list[float] = []

    def behaviour(asked: Asked) -> Answer:
        times.append(time.monotonic())
        return Answer(429, {"Retry-After": "1"}) if len(times) == 1 else then(asked)

    with front(behaviour) as before, opened(before.host, repository) as at:
        put(at.repository, b"content")
        assert "(retrying in 1.0 s)" in at.messages
    assert times[1] - times[0] >= 1


def test_a_wait_beyond_all_patience_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(Cancellation, "wait", lambda _, seconds: waits.append(seconds))
    behaviour = failing(9, 429, lambda _: True, lambda _: Answer())

    def forever(asked: Asked) -> Answer:
        answer = behaviour(asked)
        answer.headers["Retry-After"] = "3600"
        return answer

    with front(forever) as before, opened(before.host) as at:
        with pytest.raises(TransientError, match="429"):
            at.repository.get_manifest("latest")
        assert len(before.asked) == 1
    assert waits == []


def test_a_lost_reply_to_the_last_put(docker_registry: Registry, repository: str) -> None:
    then = pass_on(docker_registry.host)

    def behaviour(asked: Asked) -> Answer:
        answer = then(asked)
        return Answer(502) if asked.method == "PUT" else answer

    with front(behaviour) as before, opened(before.host, repository) as at:
        put(at.repository, b"content")
        at.repository.stream_blob(OCI_LAYER, lambda: Stream([b"stream"]))
        assert before.methods().count("PUT") == 2
        assert at.client.bytes_uploaded == len(b"contentstream")


@pytest.mark.parametrize("stored", [True, False])
def test_success_that_is_none_is_checked(
    docker_registry: Registry, repository: str, stored: bool
) -> None:
    then = pass_on(docker_registry.host)

    def behaviour(asked: Asked) -> Answer:
        if asked.method == "PUT":
            if stored:
                then(asked)
            return Answer(200, body=b"<html>fine</html>")
        return then(asked)

    with front(behaviour) as before, opened(before.host, repository) as at:
        if stored:
            put(at.repository, b"content")
        else:
            with pytest.raises(VerificationError, match="does not have the blob"):
                put(at.repository, b"content")
            assert before.methods().count("PUT") == 2


@pytest.mark.parametrize("form", ["put", "stream"])
def test_a_connection_that_breaks_inside_a_body(
    registry: Registry, repository: str, wire: StartProxy, form: str
) -> None:
    chunks = [bytes([n]) * MIB for n in range(6)]
    proxy = wire(registry, cut_after_up=2 * MIB)
    with opened(proxy.host, repository) as at:
        descriptor = send(at.repository, form, chunks)
        assert at.repository.has_blob(descriptor)
        assert at.client.bytes_uploaded > 6 * MIB
        assert "retrying in" in at.messages


@pytest.mark.parametrize("form", ["put", "stream"])
def test_a_registry_that_dies_inside_a_body(
    registry: Registry, repository: str, wire: StartProxy, form: str
) -> None:
    chunks = [bytes([n]) * MIB for n in range(6)]
    proxy = wire(registry, cut_after_up=2 * MIB, after_cut=AfterCut.STOP)
    with (
        opened(proxy.host, repository) as at,
        pytest.raises(TransientError, match="is the registry running"),
    ):
        send(at.repository, form, chunks)


def test_a_registry_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    with run_docker_registry(tmp_path / "one") as registry:

        def kill(index: int) -> None:
            if index == 2:
                registry.stop()

        with opened(registry.host) as at, pytest.raises(TransientError):
            at.repository.stream_blob(OCI_LAYER, lambda: Stream([b"x" * MIB] * 4, kill))


def test_an_idle_connection_that_the_server_closed(
    docker_registry: Registry, repository: str, wire: StartProxy
) -> None:
    proxy = wire(docker_registry, cut_after_up=10**9)
    with opened(proxy.host, repository, retry_times=0) as at:
        put(at.repository, b"one")
        proxy._abort_all()
        wait_until(lambda: not proxy._open, "the connections to end")
        put(at.repository, b"two")


# Refusals.


def error(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, body=body)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            error(403, "DENIED", "storage quota exceeded"),
            RefusedError,
            "403: storage quota exceeded",
        ),
        (error(403, "UNAUTHORIZED", "who are you?"), AuthError, "who are you?"),
        (error(404, "NAME_UNKNOWN", "no such project"), RefusedError, "wants it created first"),
        (error(405, "UNSUPPORTED", "read-only mirror"), RefusedError, "read-only mirror"),
        (Answer(501), TransientError, "answered 501"),
        (Answer(302, {"Location": "https://elsewhere.example/"}), RefusedError, "redirect"),
        (error(403, "DENIED", "\x1b[2J\x07 you\u202e"), RefusedError, r"\\x1b\[2J\\x07 you\\u202e"),
        (Answer(202), RefusedError, "opened an upload without a Location"),
        (
            Answer(202, {"Location": "https://user:secret-word@x.example/"}),
            RefusedError,
            "user name",
        ),
    ],
)
def test_refusals_are_not_tried_again(answer: Answer, kind: type[RegpushError], words: str) -> None:
    with front(lambda asked: answer) as before, opened(before.host) as at:
        with pytest.raises(kind, match=words) as caught:
            put(at.repository, b"content")
        assert type(caught.value) is kind
        assert str(caught.value).isprintable()
        assert "secret-word" not in str(caught.value)
        assert before.methods() == ["POST"]


def test_a_registry_that_answers_401_and_nothing_else() -> None:
    with front(lambda asked: Answer(401)) as before, opened(before.host) as at:
        with pytest.raises(AuthError):
            put(at.repository, b"content")
        assert [str(asked) for asked in before.asked][-1] == "GET /v2/"
        assert len(before.asked) == 2


def test_the_challenge_of_the_root_is_taken(docker_registry: Registry, repository: str) -> None:
    then = pass_on(docker_registry.host)

    def behaviour(asked: Asked) -> Answer:
        if "authorization" not in asked.headers:
            challenge = {"WWW-Authenticate": 'Basic realm="x"'} if asked.target == "/v2/" else {}
            return Answer(401, challenge)
        return then(asked)

    login = {"username": "u", "password": PASSWORD}
    with front(behaviour) as before, opened(before.host, repository, **login) as at:
        put(at.repository, b"content")
        assert before.methods() == ["POST", "GET", "POST", "PUT"]


def test_a_manifest_whose_blob_is_missing(registry: Registry, repository: str) -> None:
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": layer(b"nowhere").to_json()
        | {"mediaType": "application/vnd.oci.image.config.v1+json"},
        "layers": [layer(b"no layer").to_json()],
    }
    with (
        opened(registry.host, repository) as at,
        pytest.raises(TransientError, match="pushing the manifest latest failed"),
    ):
        at.repository.put_manifest(json.dumps(manifest).encode(), OCI_MANIFEST, "latest")


# Replies that come while a body is being sent.


def early(
    answer: bytes, take: int, end: Callable[[socket.socket], object]
) -> Callable[[socket.socket, str], None]:
    def script(connection: socket.socket, head: str) -> None:
        left = take
        while left > 0:
            left -= len(connection.recv(min(left, 65536)))
        connection.sendall(answer)
        end(connection)

    return script


def linger(connection: socket.socket) -> None:
    """Neither read nor close, until the client does: who goes on sending is stuck."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    poll.poll(HANG_S * 1000)


@pytest.mark.parametrize("form", ["put", "stream"])
@pytest.mark.parametrize("end", [linger, lambda c: c.close(), reset])
@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        ("401 No", AuthError, "wants credentials"),
        ("403 No", RefusedError, "the words of the registry"),
    ],
)
def test_early_replies_are_heard(
    form: str,
    end: Callable[[socket.socket], object],
    status: str,
    kind: type[RegpushError],
    words: str,
) -> None:
    opening = says(reply("202 Accepted", "Location: /v2/team/app/blobs/uploads/1"))
    answer = reply(status, 'WWW-Authenticate: Basic realm="x"', body="the words of the registry")
    chunks = [b"x" * MIB] * 64
    with (
        raw(opening, early(answer, 100_000, end), says(reply("404 Not Found"))) as server,
        opened(server.host, retry_times=0) as at,
    ):
        with pytest.raises(kind, match=words):
            send(at.repository, form, chunks)
        assert at.client.bytes_uploaded < 32 * MIB


def test_a_provisional_reply_is_no_reply(docker_registry: Registry) -> None:
    def script(connection: socket.socket, head: str) -> None:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = 3 * MIB
        while left:
            left -= len(connection.recv(65536))
        connection.sendall(reply("201 Created"))

    opening = says(reply("202 Accepted", "Location: /v2/team/app/blobs/uploads/1"))
    with raw(opening, script) as server, opened(server.host, retry_times=0) as at:
        at.repository.put_blob(layer(b"x" * 3 * MIB), lambda: iter([b"x" * MIB] * 3))
        assert len(server.heads) == 2


# Redirects.


def test_a_blob_is_read_from_elsewhere_without_credentials() -> None:
    storage_asked: list[Asked] = []

    def storage(asked: Asked) -> Answer:
        storage_asked.append(asked)
        return Answer(200, {"Set-Cookie": "a=b"}, b"content")

    with front(storage) as elsewhere:

        def registry(asked: Asked) -> Answer:
            if "authorization" not in asked.headers:
                return Answer(401, {"WWW-Authenticate": 'Basic realm="x"', "Set-Cookie": "c=d"})
            if asked.target.endswith("hop"):
                return Answer(307, {"Location": f"{elsewhere.url}/bucket?sig=%2B&x"})
            return Answer(302, {"Location": "/hop"})

        login = {"username": "u", "password": PASSWORD}
        with front(registry) as before, opened(before.host, **login) as at:
            assert at.repository.get_blob(layer(b"content")) == b"content"
            assert at.repository.has_blob(layer(b"content"))
            assert all("cookie" not in asked.headers for asked in before.asked)
    assert [str(asked) for asked in storage_asked] == [
        "GET /bucket?sig=%2B&x",
        "HEAD /bucket?sig=%2B&x",
    ]
    for asked in storage_asked:
        assert not {"authorization", "cookie"} & asked.headers.keys()
        assert asked.headers["host"] == elsewhere.host


def test_storage_that_allows_get_alone() -> None:
    def registry(asked: Asked) -> Answer:
        if asked.method == "HEAD":
            return Answer(403)
        assert asked.headers["range"] == "bytes=0-0"
        return Answer(206, {"Content-Range": "bytes 0-0/7"}, b"c")

    with front(registry) as before, opened(before.host) as at:
        assert at.repository.has_blob(layer(b"content"))
        assert not at.repository.has_blob(layer(b"contents"))


@pytest.mark.parametrize(("status", "expected"), [(404, False), (405, False), (401, False)])
def test_registries_that_do_not_tell_what_they_have(status: int, expected: bool) -> None:
    with front(lambda asked: Answer(status)) as before, opened(before.host) as at:
        assert at.repository.has_blob(layer(b"content")) is expected


def test_redirects_end() -> None:
    with front(lambda a: Answer(307, {"Location": a.target})) as before, opened(before.host) as at:
        with pytest.raises(RefusedError, match="more than 10 redirects"):
            at.repository.get_manifest("latest")
        assert len(before.asked) == 11


def test_uploads_go_elsewhere_without_credentials(
    docker_registry: Registry, repository: str
) -> None:
    then = pass_on(docker_registry.host)
    with front(then) as storage:

        def registry(asked: Asked) -> Answer:
            if "authorization" not in asked.headers:
                return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
            answer = then(asked)
            if location := answer.headers.get("Location"):
                path = location.partition("://")[2].partition("/")[2]
                answer.headers["Location"] = f"{storage.url}/{path}"
            return answer

        login = {"username": "u", "password": PASSWORD}
        with front(registry) as before, opened(before.host, repository, **login) as at:
            assert at.repository.has_blob(put(at.repository, b"content"))
            at.repository.stream_blob(OCI_LAYER, lambda: Stream([b"stream"]))
        assert storage.methods() == ["PUT", "PATCH", "PUT"]
        assert all("authorization" not in asked.headers for asked in storage.asked)


# Lies.


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            Answer(200, {"Docker-Content-Digest": str(Digest.of(b"other"))}, b"{}"),
            "does not have the digest sha256",
        ),
        (Answer(200, {"Docker-Content-Digest": "nonsense"}, b"{}"), "not a digest"),
        (Answer(200, {}, b"x" * (4 * MIB + 1)), "larger than 4194304"),
    ],
)
def test_manifests_that_are_not_what_they_are_said_to_be(answer: Answer, words: str) -> None:
    with (
        front(lambda asked: answer) as before,
        opened(before.host) as at,
        pytest.raises(VerificationError, match=words),
    ):
        at.repository.get_manifest("latest")


def test_a_digest_is_computed_where_no_header_tells_it() -> None:
    with front(lambda asked: Answer(200, {}, b"{}")) as before, opened(before.host) as at:
        assert at.repository.head_manifest("latest") == Digest.of(b"{}")
        assert before.methods() == ["HEAD", "GET"]


def test_a_manifest_stored_as_another() -> None:
    answer = Answer(201, {"Docker-Content-Digest": str(Digest.of(b"other"))})
    with (
        front(lambda asked: answer) as before,
        opened(before.host) as at,
        pytest.raises(VerificationError, match="not what was sent"),
    ):
        at.repository.put_manifest(b"{}", OCI_MANIFEST, "latest")


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ([Answer(body=b'{"tags":["b","a"]}')], ("b", "a")),
        ([Answer(body=b'{"tags":null}')], ()),
        ([Answer(body=b"<html>")], ()),
        ([Answer(401)], ()),
        ([error(403, "DENIED", "no lists")], ()),
        ([Answer(body=b'{"tags":["../x","ok",1,"a b",""]}')], ("ok",)),
        (
            [
                Answer(
                    200, {"Link": '</v2/team/app/tags/list?last=a>; rel="next"'}, b'{"tags":["a"]}'
                ),
                Answer(body=b'{"tags":["b"]}'),
            ],
            ("a", "b"),
        ),
        (
            [Answer(200, {"Link": '<https://elsewhere.example/>; rel="next"'}, b'{"tags":["a"]}')],
            ("a",),
        ),
        ([Answer(200, {"Link": '<https://a@b/>; rel="next"'}, b'{"tags":["a"]}')], ()),
        ([Answer(200, {"Link": '</again>; rel="next"'}, b'{"tags":["a"]}')] * 20, ("a",) * 10),
    ],
)
def test_lists_of_tags(pages: list[Answer], expected: tuple[str, ...]) -> None:
    left = list(pages)
    with (
        front(lambda asked: left.pop(0) if left else Answer(404)) as before,
        opened(before.host) as at,
    ):
        assert at.repository.list_tags() == expected


def pages_of(tags: Sequence[str], size: int, each: str = "") -> Callable[[Asked], Answer]:
    """A registry that gives no more than `size` tags a page, as many do."""

    def answer(asked: Asked) -> Answer:
        start = int(asked.target.partition("start=")[2] or 0)
        following = f"/v2/team/app/tags/list?start={start + size}"
        link = {"Link": f'<{each or following}>; rel="next"'} if start + size < len(tags) else {}
        return Answer(200, link, json.dumps({"tags": tags[start : start + size]}).encode())

    return answer


@pytest.mark.parametrize(
    ("count", "size", "asked", "listed"),
    [
        (1000, 1000, 1, 1000),
        (1000, 50, 20, 1000),
        (1001, 50, 20, 1000),
        (1020, 1020, 1, 1000),  # a registry that does not know `n`
        (999, 999, 1, 999),
        (5, 2, 3, 5),
        (0, 10, 1, 0),
        (1010, 10, 100, 1000),
        (1001, 2, 100, 200),
    ],
)
def test_all_tags_or_a_word_that_there_are_more(
    count: int, size: int, asked: int, listed: int
) -> None:
    tags = [f"v{number}" for number in range(count)]
    with front(pages_of(tags, size)) as before, opened(before.host) as at:
        found = at.repository.all_tags()
        assert found.names == tuple(tags[:listed])
        assert found.complete == (listed == count)
        warned = f"the repository has more tags; only the first {listed:,} were read"
        assert (warned in at.messages) == (listed < count)
        assert len(before.asked) == asked


def test_a_list_of_tags_that_leads_to_itself_ends() -> None:
    circle = pages_of(["a", "b"], 1, each="/v2/team/app/tags/list")
    with front(circle) as before, opened(before.host) as at:
        assert at.repository.all_tags() == TagList(names=("a",), complete=False)
        assert len(before.asked) == 100


def test_referrers_without_an_end_is_cut_off_with_a_word() -> None:
    subject = Digest.of(b"an image")

    def answer(asked: Asked) -> Answer:
        number = int(asked.target.partition("page=")[2] or 0)
        entry = {
            **Descriptor.of(b"%d" % number, OCI_MANIFEST).to_json(),
            "artifactType": "application/spdx+json",
        }
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        link = f'</v2/team/app/referrers/{subject}?page={number + 1}>; rel="next"'
        return Answer(200, {"Link": link, "Content-Type": OCI_INDEX}, json.dumps(body).encode())

    with front(answer) as endless, opened(endless.host) as at:
        assert len(list_referrers(at.repository, subject)) == 100
    assert "ended after 100 pages of the list; there are more" in at.messages


# Secrets.


def test_a_registry_that_echoes_everything_gives_no_secret_away(tmp_path: Path) -> None:
    """Whatever a debugging proxy throws back at us, none of it comes out."""
    from base64 import b64encode

    encoded = b64encode(f"u:{PASSWORD}".encode()).decode()

    def echo(asked: Asked) -> Answer:
        if "authorization" not in asked.headers:
            return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
        words = f"{asked.headers['authorization']} {PASSWORD}"
        return error(403, "DENIED", words)

    login = {"username": "u", "password": PASSWORD}
    with front(echo) as before, opened(before.host, **login) as at:
        with pytest.raises(RefusedError) as caught:
            put(at.repository, b"content")
        assert "***" in str(caught.value)
        for secret in (PASSWORD, encoded):
            assert secret not in str(caught.value) + at.messages


def test_a_log_shows_no_query(
    docker_registry: Registry, repository: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with opened(docker_registry.host, repository) as at:
        put(at.repository, b"content")
    assert "PUT" in caplog.text
    assert "_state" not in caplog.text
    assert "?" not in caplog.text


# Cancellation.


@pytest.mark.usefixtures("patient_farewell")
@pytest.mark.parametrize("registry_has_login", [False, True])
def test_cancelling_a_stream_gives_its_session_up(
    docker_registry: Registry,
    docker_registry_htpasswd: Registry,
    repository: str,
    registry_has_login: bool,
) -> None:
    registry = docker_registry_htpasswd if registry_has_login else docker_registry
    login = (
        {"username": registry.username, "password": registry.password} if registry_has_login else {}
    )
    deleted: list[int] = []

    def note(asked: fault.Asked, upstream: fault.Upstream) -> fault.Answer:
        answer = upstream.forward(asked)
        deleted.append(answer.status)
        return answer

    rule = fault.Rule(note, "DELETE", "upload", times=fault.FOREVER)
    with (
        fault.fault_server(registry.host, rule) as server,
        opened(server.host, repository, **login) as at,
    ):
        steps: list[int] = []

        def step(index: int) -> None:
            steps.append(index)
            if index == 8:
                at.cancel.cancel()

        with pytest.raises(CancelledError):
            at.repository.stream_blob(OCI_LAYER, lambda: Stream([b"x" * MIB] * 64, step))
        assert steps == list(range(9))
    assert deleted == [204]


@pytest.mark.parametrize("stuck", ["reply", "body", "wait"])
def test_cancelling_interrupts_every_wait(stuck: str) -> None:
    released = threading.Event()

    def hang(connection: socket.socket, head: str) -> None:
        released.wait(2 * HANG_S)

    opening = says(reply("202 Accepted", "Location: /v2/team/app/blobs/uploads/1"))
    scripts = {
        "reply": [hang],
        "body": [opening, hang],
        "wait": [says(reply("429 Slow", "Retry-After: 170"))],
    }
    with raw(*scripts[stuck]) as server, opened(server.host) as at:
        timer = threading.Timer(0.3, at.cancel.cancel)
        timer.start()
        started = time.monotonic()
        with pytest.raises(CancelledError):
            at.repository.stream_blob(OCI_LAYER, lambda: Stream([b"x" * MIB] * 64))
        # Without a cancellation each of these lasts longer, or ends in another error.
        assert time.monotonic() - started < HANG_S
        timer.join()
        released.set()


# The policy by itself.


@pytest.fixture
def policy() -> Policy:
    class Impatient(Cancellation):
        def wait(self, seconds: float) -> None:
            """Not at all."""

    return Policy(3, notify=ignore, cancel=Impatient())


def failure(**how: object) -> RetryableError:
    return RetryableError(TransientError("x"), **how)  # type: ignore[arg-type]  # its own keywords


@pytest.mark.parametrize(
    ("failures", "outcome"),
    [
        ([], "done"),
        ([failure()] * 3, "done"),
        ([failure()] * 4, TransientError),
        ([failure()] * 3 + [failure(once=True)], "done"),
        ([failure(once=True)] + [failure()] * 4, TransientError),
        ([failure(once=True)], "done"),
        ([failure(once=True)] * 2, TransientError),
        ([failure(), RetryableError(VerificationError("y"), once=True)], "done"),
        ([failure(after_s=170)], "done"),
        ([failure(after_s=181)], TransientError),
        ([failure(after_s=100)] * 2, TransientError),
        ([RefusedError("z")], RefusedError),
        # What only taught how to ask does not count, but has an end of its own.
        ([failure(learned=True)] * LESSONS + [failure()] * 3, "done"),
        ([failure(learned=True)] * (LESSONS + 1), TransientError),
        ([failure(learned=True, after_s=9999)], "done"),
    ],
)
def test_the_policy(
    policy: Policy, failures: list[Exception], outcome: str | type[RegpushError]
) -> None:
    left = list(failures)

    def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    if isinstance(outcome, str):
        assert policy.run(work) == outcome
        return
    with pytest.raises(outcome):
        policy.run(work)
    assert not left


@pytest.mark.parametrize(
    ("steps", "failures"),
    [
        ([0, 0, 0, 0], 4),
        ([STEP, STEP, STEP, STEP], 4),
        ([STEP, 2 * STEP, 3 * STEP, 4 * STEP, 5 * STEP, 5 * STEP, 5 * STEP, 5 * STEP], 8),
        ([STEP - 1, STEP - 1, STEP - 1, STEP - 1], 4),
        ([STEP, 2 * STEP - 1, 2 * STEP - 1, 2 * STEP - 1], 4),
    ],
)
def test_progress_begins_the_count_anew(policy: Policy, steps: list[int], failures: int) -> None:
    """After the last step comes no more progress: three more attempts, and the end."""
    attempts = 0

    def work() -> None:
        nonlocal attempts
        attempts += 1
        raise failure(after_s=50)

    with pytest.raises(TransientError):
        policy.run(work, progress=lambda: steps[min(attempts, len(steps)) - 1])
    assert attempts == failures
