"""Redirects of writes, and what is said where the registry sent us to a place that fails."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from regpush.digest import OCI_LAYER, OCI_MANIFEST, Digest
from regpush.errors import RefusedError, TransientError
from tests.registry.servers import Registry
from tests.registry_client.front import Answer, Asked, front, pass_on
from tests.registry_client.opening import Stream, layer, opened, push_image, put

PIECES = [bytes([number]) * 300_000 for number in range(5)]
BLOB = b"".join(PIECES)


def sending_on(elsewhere: str, status: int, fits: Callable[[Asked], bool]) -> object:
    """A registry that wants a login, and redirects the requests that `fits` is true of."""

    def registry(asked: Asked) -> Answer:
        if "authorization" not in asked.headers:
            return Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})
        if fits(asked):
            return Answer(status, {"Location": f"{elsewhere}{asked.target}"})
        return Answer(404)

    return registry


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("form", ["whole", "stream"])
@pytest.mark.parametrize("methods", [("POST",), ("PUT", "PATCH"), ("POST", "PUT", "PATCH")])
def test_writes_are_sent_on_without_credentials(
    docker_registry: Registry, repository: str, status: int, form: str, methods: tuple[str, ...]
) -> None:
    """The mirror behind takes what the registry sends on; streams begin again, once."""
    with front(pass_on(docker_registry.host)) as storage:

        def registry(asked: Asked) -> Answer:
            if "authorization" not in asked.headers:
                return Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})
            if asked.method in methods:
                return Answer(status, {"Location": f"{storage.url}{asked.target}"})
            answer = pass_on(docker_registry.host)(asked)
            location = answer.headers.get("Location", "")
            # What the registry opens itself goes on with itself.
            answer.headers["Location"] = location.replace(docker_registry.host, before.host)
            return answer

        with (
            front(registry) as before,
            opened(before.host, repository, username="u", password="at home") as at,
        ):
            if form == "stream":
                assert at.repository.stream_blob(OCI_LAYER, lambda: Stream(PIECES)) == layer(BLOB)
            else:
                at.repository.put_blob(layer(BLOB), lambda: iter(PIECES))
            sent = [asked for asked in storage.asked if asked.body]
            assert sum(len(asked.body) for asked in sent) == len(BLOB)
    assert storage.asked
    assert all("authorization" not in asked.headers for asked in storage.asked)
    with opened(docker_registry.host, repository) as at:
        assert at.repository.get_blob(layer(BLOB)) == BLOB


def test_a_manifest_is_sent_on(docker_registry: Registry, repository: str) -> None:
    with opened(docker_registry.host, repository) as at:
        data = push_image(at.repository, b"content")
    with front(pass_on(docker_registry.host)) as storage:
        registry = sending_on(storage.url, 308, lambda asked: asked.method == "PUT")
        with (
            front(registry) as before,  # type: ignore[arg-type]  # a behaviour
            opened(before.host, repository, username="u", password="at home") as at,
        ):
            digest = at.repository.put_manifest(data, OCI_MANIFEST, "moved")
    assert digest == Digest.of(data)
    assert [asked.body for asked in storage.asked] == [data]
    assert "authorization" not in storage.asked[0].headers


def test_a_blob_is_not_sent_in_circles() -> None:
    def registry(asked: Asked) -> Answer:
        if asked.method == "POST":
            return Answer(202, {"Location": "/v2/team/app/blobs/uploads/1"})
        return Answer(404 if asked.method == "HEAD" else 307, {"Location": asked.target})

    with (
        front(registry) as before,
        opened(before.host, retry_times=0) as at,
        pytest.raises(RefusedError, match="a redirect that this request may not follow"),
    ):
        put(at.repository, b"content")
    assert before.methods().count("PUT") == 2


def test_a_redirect_of_a_write_is_no_way_into_a_private_network() -> None:
    registry = sending_on("http://user@127.0.0.1", 307, lambda asked: asked.method == "POST")
    with (
        front(registry) as before,  # type: ignore[arg-type]  # a behaviour
        opened(before.host, username="u", password="p") as at,
        pytest.raises(RefusedError, match="user name"),
    ):
        put(at.repository, b"content")


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def test_who_sent_us_to_a_place_that_fails_is_told() -> None:
    where = f"http://localhost:{closed_port()}"

    def registry(asked: Asked) -> Answer:
        if asked.method == "POST":
            return Answer(202, {"Location": f"{where}/upload"})
        return Answer(404)

    with front(registry) as before, opened(before.host, retry_times=0) as at:
        with pytest.raises(TransientError) as caught:
            put(at.repository, b"content")
        said = str(caught.value)
        assert said == (
            f"{at.repository.name}: cannot reach {where}: connection refused; "
            f"the registry http://{before.host} sent us to {where}"
        )


def test_a_proxy_that_drops_the_port_is_named() -> None:
    """nginx with `proxy_set_header Host $host`: Locations have no port, and that is 80."""

    def registry(asked: Asked) -> Answer:
        if asked.method == "POST":
            return Answer(202, {"Location": "http://127.0.0.1/v2/team/app/blobs/uploads/1"})
        return Answer(404)

    with front(registry) as before, opened(before.host, retry_times=0) as at:
        with pytest.raises((TransientError, RefusedError)) as caught:
            put(at.repository, b"content")
        assert (
            f"the registry http://{before.host} sent us to http://127.0.0.1:80; its proxy drops "
            "the port (nginx: proxy_set_header Host $http_host)"
        ) in str(caught.value)


def test_an_answer_from_elsewhere_names_it() -> None:
    with front(lambda asked: Answer(404)) as other:

        def registry(asked: Asked) -> Answer:
            there = other.url.replace("127.0.0.1", "localhost")
            if asked.method == "POST":
                return Answer(202, {"Location": f"{there}/upload"})
            return Answer(404)

        with front(registry) as before, opened(before.host, retry_times=0) as at:
            with pytest.raises(TransientError) as caught:
                put(at.repository, b"content")
            there = other.url.replace("127.0.0.1", "localhost")
            assert f"the registry {before.url} sent us to {there}" in str(caught.value)
