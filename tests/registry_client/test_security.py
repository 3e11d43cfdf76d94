"""Who gets to see what: docs/internals/registries.md section 5, rule by rule, with two servers.

What a single Location or challenge may say stands in test_registry_protocol; realms and
tokens in test_registry_auth; what is packed in tests/sources.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from regpush.digest import OCI_LAYER
from regpush.errors import RegpushError
from regpush.events import Event, Warned
from regpush.http.address import Origin
from regpush.http.exchange import Reply
from regpush.registry.uploads.lessons import HostMemory
from regpush.registry.uploads.session import Session
from tests.registry.api import Api
from tests.registry.faults import (
    FOREVER,
    Answer,
    Asked,
    FaultServer,
    Rule,
    Upstream,
    answers,
    breaks,
    fault_server,
)
from tests.registry.outcomes import make_app, push
from tests.registry.servers import Registry
from tests.registry_client.opening import Opened, Stream, layer, opened, put

LOGIN = {"username": "u", "password": "for the registry alone"}
CHALLENGE = {"WWW_Authenticate": 'Basic realm="storage"', "Set_Cookie": "trap=1"}


@dataclass
class Two:
    """A registry that wants a login, and the storage it sends blobs to, of another origin."""

    registry: FaultServer
    storage: FaultServer
    at: Opened

    def check(self, asked: int) -> None:
        """The storage was asked so often, and told nothing that is the registry's."""
        assert len(self.storage.asked) >= asked
        for one in self.storage.asked:
            assert not {"authorization", "cookie", "proxy-authorization"} & one.headers.keys()
        assert any("authorization" in one.headers for one in self.registry.asked)
        assert all("cookie" not in one.headers for one in self.registry.asked)


def needs_login() -> Rule:
    return Rule(
        answers(401, **CHALLENGE),
        times=FOREVER,
        only=lambda asked: "authorization" not in asked.headers,
    )


@pytest.fixture
def two(embedded_registry: Registry, repository: str) -> Iterator[Callable[..., Two]]:
    with ExitStack() as stack:

        def start(rules: Callable[[FaultServer], list[Rule]], *storage_rules: Rule) -> Two:
            storage = stack.enter_context(fault_server(embedded_registry.host, *storage_rules))
            first = fault_server(embedded_registry.host, needs_login(), *rules(storage))
            registry = stack.enter_context(first)
            at = stack.enter_context(opened(registry.host, repository, **LOGIN))
            return Two(registry, storage, at)

        yield start


def reads_from(storage: FaultServer) -> list[Rule]:
    """Blobs and manifests are read elsewhere."""

    def act(asked: Asked, upstream: Upstream) -> Answer:
        return Answer(307, {"Location": f"{storage.url}{asked.target}"})

    reading = ("GET", "HEAD")
    return [
        Rule(act, method, kind, times=FOREVER)
        for method in reading
        for kind in ("blob", "tag", "manifest")
    ]


def uploads_to(storage: FaultServer) -> list[Rule]:
    """Uploads are opened here, and sent elsewhere."""

    def act(asked: Asked, upstream: Upstream) -> Answer:
        answer = upstream.forward(asked)
        answer.headers["Location"] = f"{storage.url}{answer.headers['Location']}"
        return answer

    return [Rule(act, "POST", "open", times=FOREVER)]


def test_what_is_read_elsewhere(two: Callable[..., Two], repository: str) -> None:
    at = two(reads_from)
    descriptor = put(at.at.repository, b"content")
    assert at.at.repository.has_blob(descriptor)
    assert at.at.repository.get_blob(descriptor) == b"content"
    assert at.at.repository.get_manifest("latest") is None
    at.check(asked=3)


def test_a_challenge_from_elsewhere_is_answered_by_nobody(two: Callable[..., Two]) -> None:
    """The storage wants credentials too: it gets none, and no password is tried on it."""
    at = two(reads_from, Rule(answers(401, **CHALLENGE), times=FOREVER))
    descriptor = put(at.at.repository, b"content")
    assert not at.at.repository.has_blob(descriptor)
    with pytest.raises(RegpushError) as caught:
        at.at.repository.get_blob(descriptor)
    assert LOGIN["password"] not in f"{caught.value}{at.at.messages}"
    at.check(asked=2)


def test_a_redirect_home_again_is_authorised_there_alone(
    two: Callable[..., Two], repository: str
) -> None:
    back: list[str] = []

    def home(asked: Asked, upstream: Upstream) -> Answer:
        return Answer(302, {"Location": f"{back[0]}/v2/{repository}/blobs/{digest}?again"})

    def out(storage: FaultServer) -> list[Rule]:
        away = Rule(
            lambda asked, upstream: Answer(302, {"Location": f"{storage.url}/hop"}),
            "GET",
            "blob",
            times=FOREVER,
            only=lambda asked: "?again" not in asked.target,
        )
        return [away]

    at = two(out, Rule(home, "GET", times=FOREVER))
    back.append(at.registry.url)
    descriptor = put(at.at.repository, b"content")
    digest = descriptor.digest
    assert at.at.repository.get_blob(descriptor) == b"content"
    at.check(asked=1)


@pytest.mark.parametrize("form", ["put", "stream"])
def test_what_is_sent_elsewhere_and_asked_for_there(two: Callable[..., Two], form: str) -> None:
    """The first connection breaks: the status is asked for, and the rest sent, without a word."""
    at = two(uploads_to, Rule(breaks(0.5), "PUT" if form == "put" else "PATCH", "upload"))
    data = b"x" * 300_000
    if form == "put":
        put(at.at.repository, data)
    else:
        at.at.repository.stream_blob(OCI_LAYER, lambda: Stream([data]))
    assert at.at.repository.has_blob(layer(data))
    assert at.storage.count("GET", "upload") == 1
    at.check(asked=3)


def test_an_upload_elsewhere_is_given_up_without_credentials(two: Callable[..., Two]) -> None:
    at = two(uploads_to, Rule(answers(403), "PUT", "upload", times=FOREVER))
    with pytest.raises(RegpushError):
        put(at.at.repository, b"content")
    assert at.storage.count("DELETE", "upload") == 1
    at.check(asked=2)


def test_a_challenge_to_an_upload_elsewhere(two: Callable[..., Two]) -> None:
    at = two(uploads_to, Rule(answers(401, **CHALLENGE), "PUT", times=FOREVER))
    with pytest.raises(RegpushError) as caught:
        put(at.at.repository, b"content")
    assert LOGIN["password"] not in str(caught.value)
    at.check(asked=1)


def test_the_urls_of_a_layer_are_never_followed(
    embedded_registry: Registry, repository: str, tmp_path: Path
) -> None:
    """An image whose layers say where else they may be had is one to reuse, and no more."""
    app = make_app(tmp_path / "app")
    first = push(app, embedded_registry.host, repository).result
    assert first
    api = Api(embedded_registry.host, repository)
    with fault_server(embedded_registry.host) as trap:
        manifest = json.loads(api.manifest("latest").body)
        for one in manifest["layers"]:
            one["urls"] = [f"{trap.url}/v2/{repository}/blobs/{one['digest']}"]
        media_type = manifest["mediaType"]
        assert api.put_manifest("latest", json.dumps(manifest).encode(), media_type).status == 201
        (app / "main.py").write_text("changed\n")
        again = push(app, embedded_registry.host, repository).result
        assert again
        assert [one.action.value for one in again.layers].count("reused") == len(again.layers) - 1
        assert trap.asked == []


class Silent:
    """An API of which a session asks only its name and origin."""

    name = "registry.example/app"
    origin = Origin("https", "registry.example", 443)


def test_an_upload_that_a_proxy_sends_to_plain_http_stays_on_https() -> None:
    """Once it is said, and the bytes never go in the clear."""
    events: list[Event] = []
    reply = Reply(
        method="POST",
        url="https://registry.example/v2/app/blobs/uploads/",
        status=202,
        headers=httpx.Headers({"Location": "http://registry.example/v2/app/blobs/uploads/1?a=b"}),
        body=b"",
        whole=True,
    )
    session = Session(
        Silent(),  # type: ignore[arg-type]  # all of it that matters here
        reply,
        "uploading",
        there=lambda descriptor: False,
        count=lambda size: None,
        memory=HostMemory(),
        notify=events.append,
    )
    session._move(reply)
    assert session._url == "https://registry.example/v2/app/blobs/uploads/1?a=b"
    (warning,) = events
    assert isinstance(warning, Warned)
    assert "https is used instead" in warning.message
