"""Basic and Bearer against real registries that want them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from regpush.digest import OCI_LAYER
from regpush.errors import AuthError, RegpushError, TransientError
from regpush.reference import Reference
from regpush.registry.auth.authorizer import Authorizer
from regpush.registry.repository import Access
from tests.registry.servers import Registry
from tests.registry_client.front import Answer, Asked, front, pass_on
from tests.registry_client.opening import Stream, layer, opened, put, send
from tests.registry_client.tokens import (
    IDENTITY_TOKEN,
    USERS,
    Refusal,
    TokenServer,
    token_registry,
)


def write_config(path: Path, host: str, entry: dict[str, str]) -> str:
    path.write_text(json.dumps({"auths": {host: entry}}))
    return str(path)


def basic(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


# Basic, by docker-registry's htpasswd.


def test_basic_from_flags(docker_registry_htpasswd: Registry, repository: str) -> None:
    at_registry = docker_registry_htpasswd
    login = {"username": at_registry.username, "password": at_registry.password}
    with opened(at_registry.host, repository, **login) as at:
        descriptor = put(at.repository, b"content")
        # One request met the challenge; everything after it was authorised at once.
        assert at.client.requests == 3
        assert at.repository.has_blob(descriptor)


def test_basic_from_a_file(
    docker_registry_htpasswd: Registry, repository: str, tmp_path: Path
) -> None:
    at_registry = docker_registry_htpasswd
    entry = basic(at_registry.username, at_registry.password)
    file = write_config(tmp_path / "config.json", at_registry.host, entry)
    with opened(at_registry.host, repository, auth_files=[file]) as at:
        assert at.repository.has_blob(put(at.repository, b"content"))


def test_no_credentials(docker_registry_htpasswd: Registry, repository: str) -> None:
    with opened(docker_registry_htpasswd.host, repository) as at:
        with pytest.raises(AuthError) as caught:
            at.repository.get_manifest("latest")
        assert f"'pull,push' on repository '{repository}'" in str(caught.value)
        assert "--username" in str(caught.value)
        with pytest.raises(AuthError):
            put(at.repository, b"content")


def test_wrong_credentials(
    docker_registry_htpasswd: Registry, repository: str, tmp_path: Path
) -> None:
    host = docker_registry_htpasswd.host
    file = write_config(tmp_path / "config.json", host, basic("alice", "wrong-password"))
    with opened(host, repository, auth_files=[file]) as at:
        with pytest.raises(AuthError, match=r"credentials of .* from .*config.json") as caught:
            put(at.repository, b"content")
        assert "wrong-password" not in str(caught.value)
        assert at.client.requests == 2
        assert at.client.bytes_uploaded == 0
        assert not at.repository.has_blob(layer(b"content"))


def test_flags_are_for_the_destination_alone(
    docker_registry_htpasswd: Registry, repository: str
) -> None:
    seen: list[Asked] = []

    def other(asked: Asked) -> Answer:
        seen.append(asked)
        return Answer(401, {"WWW-Authenticate": 'Basic realm="give me"'})

    login = {
        "username": docker_registry_htpasswd.username,
        "password": docker_registry_htpasswd.password,
    }
    with (
        front(other) as elsewhere,
        opened(docker_registry_htpasswd.host, repository, **login) as at,
    ):
        put(at.repository, b"content")
        reference = Reference(registry=elsewhere.host, repository="base/image")
        with pytest.raises(AuthError):
            at.client.repository(reference, Access.PULL).get_manifest("latest")
    assert seen
    assert not any("authorization" in asked.headers for asked in seen)


# Bearer, by docker-registry's own `auth.token`.


@pytest.fixture(scope="module")
def token_pair(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Registry, TokenServer]]:
    with token_registry(tmp_path_factory.mktemp("token-registry")) as pair:
        yield pair


@pytest.fixture
def tokens(token_pair: tuple[Registry, TokenServer]) -> TokenServer:
    server = token_pair[1]
    server.requests.clear()
    server.overrides.clear()
    server.lifetime_s = 300
    server.stated_s = None
    server.grant = lambda user, name, actions: actions if user != "anonymous" else ["pull"]
    return server


@pytest.fixture
def bearer(token_pair: tuple[Registry, TokenServer]) -> Registry:
    return token_pair[0]


ALICE = {"username": "alice", "password": USERS["alice"]}


def test_bearer(bearer: Registry, tokens: TokenServer, repository: str) -> None:
    with opened(bearer.host, repository, **ALICE) as at:
        assert at.repository.get_manifest("latest") is None
        descriptor = put(at.repository, b"content")
        at.repository.stream_blob(OCI_LAYER, lambda: Stream([b"st", b"ream"]))
        assert at.repository.get_blob(descriptor) == b"content"
        # The first request asks for the scope of the whole push; nothing asks again.
        assert tokens.scopes() == [[f"repository:{repository}:pull,push"]]
        assert at.client.requests == len(tokens.requests) + 2 + 2 + 3 + 1
    target = tokens.requests[0].target
    assert target.startswith("/token?kind=robot&service=the+registry+of+the+tests&scope=")


def test_bearer_to_read_alone(bearer: Registry, tokens: TokenServer, repository: str) -> None:
    with opened(bearer.host, repository, access=Access.PULL) as at:
        assert at.repository.list_tags() == ()
    assert tokens.scopes() == [[f"repository:{repository}:pull"]]
    assert "authorization" not in tokens.requests[0].headers


def test_workers_share_a_token(bearer: Registry, tokens: TokenServer, repository: str) -> None:
    with opened(bearer.host, repository, **ALICE) as at, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: put(at.repository, b"%d" % n), range(16)))
    assert len(tokens.requests) == 1


def test_bearer_with_an_identity_token(
    bearer: Registry, tokens: TokenServer, repository: str, tmp_path: Path
) -> None:
    entry = {"identitytoken": IDENTITY_TOKEN}
    file = write_config(tmp_path / "config.json", bearer.host, entry)
    with opened(bearer.host, repository, auth_files=[file]) as at:
        put(at.repository, b"content")
    (asked,) = tokens.requests
    assert asked.method == "POST"
    assert "grant_type=refresh_token" in asked.body.decode()
    assert IDENTITY_TOKEN not in asked.target


def test_a_mount_asks_for_both_repositories(
    bearer: Registry, tokens: TokenServer, repository: str
) -> None:
    with opened(bearer.host, repository, **ALICE) as at:
        descriptor = put(at.repository, b"shared")
        other = at.other(f"{repository}-other")
        assert other.mount_blob(descriptor, repository)
    target = f"repository:{repository}-other:pull,push"
    # One token serves the mount and the HEAD that verifies it.
    assert tokens.scopes()[1:] == [[target, f"repository:{repository}:pull"]]


def test_a_mount_that_is_not_allowed_is_no_failure(
    bearer: Registry, tokens: TokenServer, repository: str
) -> None:
    with opened(bearer.host, repository, **ALICE) as at:
        descriptor = put(at.repository, b"shared")
        other = at.other(f"{repository}-other")
        tokens.grant = lambda user, name, actions: actions if name.endswith("-other") else []
        assert not other.mount_blob(descriptor, repository)
        put(other, b"shared")


def test_a_mount_that_the_token_server_refuses_is_asked_for_once(
    bearer: Registry, tokens: TokenServer, repository: str
) -> None:
    def grant(user: str, name: str, actions: list[str]) -> list[str]:
        if not name.endswith("-other"):
            raise Refusal
        return actions

    with opened(bearer.host, repository, **ALICE) as at:
        descriptor, second = put(at.repository, b"shared"), put(at.repository, b"second")
        other = at.other(f"{repository}-other")
        tokens.requests.clear()
        tokens.grant = grant
        for one in (descriptor, second):
            assert not other.mount_blob(one, repository)
        put(other, b"shared")
    target, source = f"repository:{repository}-other:pull,push", f"repository:{repository}:pull"
    # With the source, then without it; after that the registry refuses the mounts themselves.
    assert tokens.scopes()[:2] == [[target, source], [target]]
    assert [target, source] not in tokens.scopes()[1:]


def test_anonymous_push_names_the_missing_scope(
    bearer: Registry, tokens: TokenServer, repository: str
) -> None:
    with opened(bearer.host, repository) as at:
        with pytest.raises(AuthError) as caught:
            put(at.repository, b"content")
        assert f"'pull,push' on repository '{repository}'" in str(caught.value)
        assert len(tokens.requests) == 2


def test_a_password_that_the_token_server_refuses(
    bearer: Registry, tokens: TokenServer, repository: str
) -> None:
    wrong = {"username": "alice", "password": "wr0ng-secret"}
    with opened(bearer.host, repository, **wrong) as at:
        with pytest.raises(AuthError, match="incorrect username or password") as caught:
            put(at.repository, b"content")
        assert "wr0ng" not in str(caught.value)
        assert len(tokens.requests) == 1


def test_a_token_that_has_expired_is_renewed(
    bearer: Registry, tokens: TokenServer, repository: str
) -> None:
    # docker-registry forgives 60 seconds: this one is long over when it comes.
    tokens.lifetime_s = -100
    with opened(bearer.host, repository, **ALICE) as at:
        with pytest.raises(AuthError):
            put(at.repository, b"content")
        assert len(tokens.requests) == 2
        tokens.lifetime_s = 300
        put(at.repository, b"content")
        assert len(tokens.requests) == 3


def test_tokens_of_a_second(
    bearer: Registry, tokens: TokenServer, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is met too late; after that they are renewed in time."""
    now_s = 1000.0
    aging = partial(Authorizer, clock=lambda: now_s)
    monkeypatch.setattr("regpush.registry.api.Authorizer", aging)
    tokens.stated_s = 1
    first_seen_s: dict[str, float] = {}
    statuses: list[int] = []
    then = pass_on(bearer.host)

    def behaviour(asked: Asked) -> Answer:
        token = asked.headers.get("authorization")
        if token and now_s >= first_seen_s.setdefault(token, now_s) + 1:
            # The registry's own answer to a token that is over.
            del asked.headers["authorization"]
        answer = then(asked)
        statuses.append(answer.status)
        return answer

    refused = []
    with front(behaviour) as before, opened(before.host, repository, **ALICE) as at:
        for form, content in (("put", b"one"), ("stream", b"two"), ("put", b"three")):
            assert at.repository.has_blob(send(at.repository, form, [content]))
            refused.append(statuses.count(401))
            now_s += 1.1
    # The first request has no token; then one token is met too late; then none.
    assert refused == [1, 2, 2]
    assert len(tokens.requests) == 3


def test_a_token_that_was_had_elsewhere(
    bearer: Registry, tokens: TokenServer, repository: str
) -> None:
    token = tokens.token("alice", [f"repository:{repository}:pull,push"])
    with opened(bearer.host, repository, registry_token=token) as at:
        put(at.repository, b"content")
        assert tokens.requests == []
    with opened(bearer.host, f"{repository}-other", registry_token=token) as at:
        with pytest.raises(AuthError, match="the command line") as caught:
            put(at.repository, b"content")
        assert token not in str(caught.value)
        assert at.client.requests == 2


@pytest.mark.parametrize("status", [404, 405])
def test_an_identity_token_where_nobody_takes_posts(
    bearer: Registry, tokens: TokenServer, repository: str, tmp_path: Path, status: int
) -> None:
    file = write_config(tmp_path / "config.json", bearer.host, {"identitytoken": IDENTITY_TOKEN})
    value = tokens.token("bob", [f"repository:{repository}:pull,push"])
    tokens.overrides += [Answer(status), Answer(body=json.dumps({"access_token": value}).encode())]
    with opened(bearer.host, repository, auth_files=[file]) as at:
        put(at.repository, b"content")
    first, second = tokens.requests
    assert (first.method, second.method) == ("POST", "GET")
    sent = base64.b64decode(second.headers["authorization"].removeprefix("Basic ")).decode()
    assert sent == f"<token>:{IDENTITY_TOKEN}"


@pytest.mark.parametrize("first", ["Basic", "Bearer"])
@pytest.mark.parametrize("apart", [True, False])
def test_several_challenges(
    bearer: Registry, tokens: TokenServer, repository: str, first: str, apart: bool
) -> None:
    """Gitea and others name Basic beside Bearer, in one header or in two."""
    then = pass_on(bearer.host)

    def behaviour(asked: Asked) -> Answer:
        answer = then(asked)
        if answer.status == 401:
            name = next(n for n in answer.headers if n.lower() == "www-authenticate")
            both = [answer.headers.pop(name), 'Basic realm="the tests"']
            both = both if first == "Bearer" else both[::-1]
            if apart:
                answer.headers |= {"Www-Authenticate": both[0], "WWW-AUTHENTICATE": both[1]}
            else:
                answer.headers["WWW-Authenticate"] = ", ".join(both)
        return answer

    with front(behaviour) as before, opened(before.host, repository, **ALICE) as at:
        put(at.repository, b"content")
    assert len(tokens.requests) == 1


@pytest.mark.parametrize("form", ["put", "stream"])
def test_a_token_that_expires_once_an_upload_is_open(
    bearer: Registry, tokens: TokenServer, repository: str, form: str
) -> None:
    then = pass_on(bearer.host)
    expired: list[str] = []

    def behaviour(asked: Asked) -> Answer:
        if asked.body and not expired:
            # The registry's own answer to a token that is none.
            expired.append(asked.headers.pop("authorization"))
        return then(asked)

    with front(behaviour) as before, opened(before.host, repository, **ALICE) as at:
        assert at.repository.has_blob(send(at.repository, form, [b"content"]))
        # One without a token, one with: the session that it opened goes on.
        assert before.methods().count("POST") == 2
    assert expired
    assert len(tokens.requests) == 2


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([Answer(503), Answer(429, {"Retry-After": "0"})], None),
        ([Answer(503)] * 3, TransientError),
        ([Answer(501)], TransientError),
        ([Answer(200, body=b"<html>login</html>")], AuthError),
        ([Answer(200, body=b'{"token": ""}')], AuthError),
        ([Answer(200, body=b'{"token": "x\\r\\nInjected: y"}')], AuthError),
        ([Answer(302, {"Location": "/elsewhere"})], None),
        ([Answer(302, {"Location": "/loop"})] * 11, RegpushError),
        ([Answer(200, body=b'{"token": "not-one"}')] * 2, AuthError),
    ],
)
def test_token_servers_that_fail(
    bearer: Registry,
    tokens: TokenServer,
    repository: str,
    answers: list[Answer],
    error: type[RegpushError] | None,
) -> None:
    tokens.overrides += answers
    with opened(bearer.host, repository, **ALICE) as at:
        if error is None:
            put(at.repository, b"content")
            return
        with pytest.raises(error) as caught:
            put(at.repository, b"content")
        assert USERS["alice"] not in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("padding", [0, 250, 270, 285])
def test_a_token_server_that_throws_the_password_back(
    bearer: Registry, tokens: TokenServer, repository: str, padding: int
) -> None:
    """In every form, and also where the message is cut in the middle of it."""
    password = USERS["alice"]
    pair = base64.b64encode(f"alice:{password}".encode()).decode()
    for shown in (password, quote(password), quote_plus(password), pair):
        said = json.dumps({"details": "x" * padding + " " + shown + " is wrong"}).encode()
        tokens.overrides[:] = [Answer(401, body=said)]
        with opened(bearer.host, repository, **ALICE) as at:
            with pytest.raises(AuthError, match=r"\*\*\*|x{20}") as caught:
                put(at.repository, b"content")
            assert shown[:6] not in str(caught.value)


def test_a_password_is_not_followed_to_another_origin(
    bearer: Registry, tokens: TokenServer, repository: str
) -> None:
    with front(lambda asked: Answer(200, body=b'{"token": "x"}')) as elsewhere:
        tokens.overrides += [Answer(302, {"Location": f"{elsewhere.url}/token"})] * 2
        with opened(bearer.host, repository, **ALICE) as at, pytest.raises(AuthError):
            put(at.repository, b"content")
        assert elsewhere.asked
        assert not any("authorization" in asked.headers for asked in elsewhere.asked)
