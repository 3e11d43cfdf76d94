"""Who is let in: htpasswd and token authentication of a real docker-registry."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

from regpush.digest import OCI_CONFIG, OCI_MANIFEST, Descriptor
from regpush.errors import AuthError, RegpushError, TransientError
from regpush.registry.client import Access
from regpush.settings import Settings
from tests.client.conftest import Connect
from tests.client.server import Answer, Request, Server
from tests.client.streams import Stream, content, descriptor_of, pieces
from tests.client.tokens import TokenRegistry, TokenServer
from tests.registry.servers import Login, Registry
from tests.registry.wire import StartProxy

ALICE = Login(username="alice", password="wonder: land")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.RSA)


@pytest.fixture
def tokens(authority: trustme.CA) -> Iterator[TokenServer]:
    with TokenServer(authority, ALICE) as server:
        yield server


@pytest.fixture
def token_registry(
    tokens: TokenServer, authority: trustme.CA, tmp_path: Path
) -> Iterator[TokenRegistry]:
    realm = f"http://{tokens.host}/token"
    with TokenRegistry(tmp_path / "registry", authority, realm, ALICE) as registry:
        yield registry


def test_basic_from_flags(
    connect: Connect, docker_registry_htpasswd: Registry, repository: str, wire: StartProxy
) -> None:
    registry = docker_registry_htpasswd
    proxy = wire(registry)
    connection = connect(username=registry.username, password=registry.password)
    repo = connection.repository(f"{proxy.host}/{repository}")
    data = content(2_000_000)
    repo.put_blob(descriptor_of(data), lambda: pieces(data))
    assert repo.has_blob(descriptor_of(data))
    # The challenge comes in answer to the empty POST; the body goes once, authenticated.
    lines = [(r.method, "authorization" in r.headers) for r in proxy.requests]
    assert lines == [("POST", False), ("POST", True), ("PUT", True), ("HEAD", True)]
    assert connection.client.bytes_uploaded == len(data)


def test_basic_from_a_file(
    connect: Connect, docker_registry_htpasswd: Registry, repository: str, tmp_path: Path
) -> None:
    registry = docker_registry_htpasswd
    pair = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {registry.host: {"auth": pair}}}))
    connection = connect(Settings(auth_files=(str(config),)))
    assert connection.repository(f"{registry.host}/{repository}").list_tags() == ()


@pytest.mark.parametrize(
    ("options", "who"),
    [
        ({}, "wants a user name"),
        ({"username": "alice", "password": "wr0ngsecret"}, "user 'alice' was refused"),
        ({"username": "mallory", "password": "wr0ngsecret"}, "user 'mallory' was refused"),
    ],
)
def test_basic_refused(
    connect: Connect,
    docker_registry_htpasswd: Registry,
    repository: str,
    options: dict[str, str],
    who: str,
) -> None:
    name = f"{docker_registry_htpasswd.host}/{repository}"
    connection = connect(**options)
    with pytest.raises(AuthError, match=who) as caught:
        connection.repository(name).get_manifest("latest")
    assert name in str(caught.value)
    assert "docker login" in str(caught.value)
    assert "wr0ngsecret" not in str(caught.value)
    assert connection.client.requests <= 2  # no guessing


def test_bearer_push(
    connect: Connect, token_registry: TokenRegistry, tokens: TokenServer, repository: str
) -> None:
    connection = connect(username=ALICE.username, password=ALICE.password)
    repo = connection.repository(f"{token_registry.host}/{repository}")
    assert repo.get_manifest("latest") is None
    data = content(1_500_000)
    repo.put_blob(descriptor_of(data), lambda: pieces(data))
    repo.stream_blob("x", lambda: Stream(content(1_500_000, seed=1)))
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {**descriptor_of(data).to_json(), "mediaType": OCI_CONFIG},
            "layers": [],
        }
    ).encode()
    repo.put_manifest(manifest, OCI_MANIFEST, "latest")
    assert repo.list_tags() == ("latest",)
    # One token for all, asked for once, for both actions from the first.
    scopes = [query["scope"] for query in tokens.asked]
    assert scopes == [[f"repository:{repository}:pull,push"]]
    assert tokens.asked[0]["service"] == ["registry.tests"]


def test_bearer_mount_asks_for_the_source_after_the_target(
    connect: Connect, token_registry: TokenRegistry, tokens: TokenServer, repository: str
) -> None:
    connection = connect(username=ALICE.username, password=ALICE.password)
    data = content(1000)
    source = connection.repository(f"{token_registry.host}/{repository}/source")
    source.put_blob(descriptor_of(data), lambda: pieces(data))
    target = connection.repository(f"{token_registry.host}/{repository}/target")
    assert target.mount_blob(descriptor_of(data), f"{repository}/source")
    assert target.has_blob(descriptor_of(data))
    assert [
        f"repository:{repository}/target:pull,push",
        f"repository:{repository}/source:pull",
    ] in [query["scope"] for query in tokens.asked]


def test_bearer_anonymous_pull_but_no_push(
    connect: Connect, token_registry: TokenRegistry, tokens: TokenServer, repository: str
) -> None:
    name = f"{token_registry.host}/{repository}"
    connection = connect()
    assert connection.repository(name, Access.PULL).get_manifest("latest") is None
    with pytest.raises(AuthError, match=f"anonymous .*repository:{repository}:pull,push"):
        connection.repository(name).put_blob(descriptor_of(b"x"), lambda: pieces(b"x"))
    assert connection.client.bytes_uploaded == 0


def test_bearer_with_the_wrong_password(
    connect: Connect, token_registry: TokenRegistry, repository: str
) -> None:
    connection = connect(username="alice", password="wr0ngsecret")
    with pytest.raises(AuthError, match="incorrect username or password") as caught:
        connection.repository(f"{token_registry.host}/{repository}").list_tags()
    assert "wr0ngsecret" not in str(caught.value)


@pytest.mark.parametrize("oauth", [True, False], ids=["POST", "GET"])
def test_identity_token(
    connect: Connect,
    token_registry: TokenRegistry,
    tokens: TokenServer,
    repository: str,
    tmp_path: Path,
    oauth: bool,
) -> None:
    tokens.oauth = oauth
    config = tmp_path / "config.json"
    entry = {"identitytoken": tokens.identity_token}
    config.write_text(json.dumps({"auths": {token_registry.host: entry}}))
    connection = connect(Settings(auth_files=(str(config),)))
    repo = connection.repository(f"{token_registry.host}/{repository}")
    repo.put_blob(descriptor_of(b"x"), lambda: pieces(b"x"))
    assert connection.client.bytes_uploaded == 1
    assert tokens.asked[0]["grant_type"] == ["refresh_token"]
    assert tokens.asked[0]["scope"] == [f"repository:{repository}:pull,push"]
    assert tokens.seen() == (["POST /token"] if oauth else ["POST /token", "GET /token"])


def test_a_token_that_expired_early_is_fetched_again(
    connect: Connect, token_registry: TokenRegistry, tokens: TokenServer, repository: str
) -> None:
    tokens.lifetime_s = -60.0  # though the replies say 300 s
    connection = connect(username=ALICE.username, password=ALICE.password)
    repo = connection.repository(f"{token_registry.host}/{repository}")
    with pytest.raises(AuthError):
        repo.has_blob(descriptor_of(b"x"))
    assert len(tokens.asked) == 1  # the one token was refused: no loop
    with pytest.raises(AuthError):
        repo.has_blob(descriptor_of(b"x"))
    assert len(tokens.asked) == 2
    tokens.lifetime_s = 300.0
    assert not repo.has_blob(descriptor_of(b"x"))
    assert len(tokens.asked) == 3


def test_a_token_that_expires_during_an_upload(
    connect: Connect, token_registry: TokenRegistry, tokens: TokenServer, repository: str
) -> None:
    """The PUT after a long PATCH meets an expired token, and is sent again with a new one."""
    tokens.lifetime_s = 1.0
    connection = connect(username=ALICE.username, password=ALICE.password)
    repo = connection.repository(f"{token_registry.host}/{repository}")
    slow = threading.Event()

    class Slow(Stream):
        def __iter__(self) -> Iterator[bytes]:
            yield from super().__iter__()
            slow.wait(2.2)
            tokens.lifetime_s = 300.0

    descriptor = repo.stream_blob("x", lambda: Slow(content(100_000)))
    assert repo.has_blob(descriptor)
    assert len(tokens.asked) == 2


def test_many_workers_share_one_token(
    connect: Connect, token_registry: TokenRegistry, tokens: TokenServer, repository: str
) -> None:
    connection = connect(username=ALICE.username, password=ALICE.password)
    repo = connection.repository(f"{token_registry.host}/{repository}")
    blobs = [content(1000, seed) for seed in range(16)]
    with ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda b: repo.put_blob(descriptor_of(b), lambda: pieces(b)), blobs))
    assert len(tokens.asked) == 1


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (Answer(503), None),
        (Answer(429, (("Retry-After", "0"),)), None),
        (Answer(200, body=b"<html>welcome</html>"), "a reply without a token"),
        (Answer(200, body=b'{"token":""}'), "a reply without a token"),
        (Answer(403, body=b"go away"), "go away"),
    ],
)
def test_token_server_faults(
    connect: Connect,
    token_registry: TokenRegistry,
    tokens: TokenServer,
    repository: str,
    failure: Answer,
    error: str | None,
) -> None:
    tokens.failures = [failure]
    connection = connect(username=ALICE.username, password=ALICE.password)
    repo = connection.repository(f"{token_registry.host}/{repository}")
    if error is None:
        assert repo.list_tags() == ()
    else:
        with pytest.raises(AuthError, match=error):
            repo.list_tags()


def test_a_token_server_that_moved(
    connect: Connect, token_registry: TokenRegistry, tokens: TokenServer, repository: str
) -> None:
    location = f"/elsewhere?scope=repository:{repository}:pull,push"
    tokens.failures = [Answer(307, (("Location", location),))]
    connection = connect(username=ALICE.username, password=ALICE.password)
    assert connection.repository(f"{token_registry.host}/{repository}").list_tags() == ()
    assert tokens.seen() == ["GET /token", "GET /elsewhere"]


def test_a_token_server_that_stays_down(
    connect: Connect, token_registry: TokenRegistry, tokens: TokenServer, repository: str
) -> None:
    tokens.failures = [Answer(503)] * 9
    connection = connect(username=ALICE.username, password=ALICE.password, retry_times=1)
    with pytest.raises(TransientError, match=r"token server .* 503"):
        connection.repository(f"{token_registry.host}/{repository}").list_tags()


def test_the_ping_carries_the_challenge_where_a_401_has_none(connect: Connect) -> None:
    def answer(request: Request) -> Answer:
        if request.headers.get("authorization"):
            return Answer(200, body=b'{"tags":["v1"]}')
        if request.path == "/v2/":
            return Answer(401, (("WWW-Authenticate", 'Basic realm="x"'),))
        return Answer(401)

    with Server(answer) as server:
        connection = connect(username="u", password="p")
        assert connection.repository(f"{server.host}/a").list_tags() == ("v1",)
        assert server.seen() == ["GET /v2/a/tags/list", "GET /v2/", "GET /v2/a/tags/list"]


def test_a_401_that_nothing_explains(connect: Connect) -> None:
    def answer(request: Request) -> Answer:
        return Answer(200 if request.path == "/v2/" else 401)

    with Server(answer) as server:
        connection = connect(username="u", password="p")
        with pytest.raises(AuthError):
            connection.repository(f"{server.host}/a").list_tags()
        assert all("authorization" not in r.headers for r in server.requests)


SECRETS = ("pa55word-secret", "t0ken-secret", "upload-state-secret")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500])
def test_secrets_that_a_server_quotes_are_not_in_messages(connect: Connect, status: int) -> None:
    """A proxy that prints the request in its error page, tokens and all."""

    def answer(request: Request) -> Answer:
        given = request.headers.get("authorization", "")
        if request.path == "/token":
            return Answer(200, body=b'{"token":"t0ken-secret"}')
        if not given:
            realm = f'Bearer realm="http://{server.host}/token",service="s"'
            return Answer(401, (("WWW-Authenticate", realm),))
        if request.method == "POST":
            return Answer(202, (("Location", "/up?_state=upload-state-secret"),))
        return Answer(status, body=f"you sent {given}".encode())

    with Server(answer) as server:
        connection = connect(username="u", password="pa55word-secret", retry_times=0)
        repo = connection.repository(f"{server.host}/a")
        for act in (
            lambda: repo.put_blob(descriptor_of(b"x"), lambda: pieces(b"x")),
            lambda: repo.get_blob(descriptor_of(b"x")),
        ):
            with pytest.raises(RegpushError) as caught:
                act()
            error: BaseException | None = caught.value
            while error is not None:
                assert not any(secret in str(error) for secret in SECRETS)
                error = error.__cause__
            assert "\n" not in str(caught.value)
        assert not any(secret in str(connection.events) for secret in SECRETS)


def test_config_blob_is_not_sent_before_the_registry_knows_us(
    connect: Connect, docker_registry_htpasswd: Registry, repository: str
) -> None:
    connection = connect()
    repo = connection.repository(f"{docker_registry_htpasswd.host}/{repository}")
    data = b'{"private": true}'
    with pytest.raises(AuthError):
        repo.put_blob(Descriptor.of(data, OCI_CONFIG), lambda: iter([data]))
    assert connection.client.bytes_uploaded == 0
