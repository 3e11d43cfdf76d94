"""Fixtures: running registries, a repository name per test, a proxy that counts and cuts."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trustme

from tests.registry.servers import DockerRegistry, EmbeddedRegistry, Login, Registry
from tests.registry.wire import AfterCut, CountingProxy, StartProxy


def pytest_configure() -> None:
    # A run that is told to end, by `timeout` say, must end its servers as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path_factory.mktemp("docker-registry")) as registry:
        yield registry


@pytest.fixture(scope="session")
def docker_registry_htpasswd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    login = Login(username="alice", password="correct horse: battery")
    directory = tmp_path_factory.mktemp("docker-registry-htpasswd")
    with DockerRegistry(directory, login=login) as registry:
        yield registry


@pytest.fixture(scope="session")
def docker_registry_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    directory = tmp_path_factory.mktemp("docker-registry-tls")
    with DockerRegistry(directory, authority=trustme.CA()) as registry:
        yield registry


@pytest.fixture(scope="session")
def embedded_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRegistry]:
    with EmbeddedRegistry(tmp_path_factory.mktemp("embedded-registry")) as registry:
        yield registry


@pytest.fixture(params=["docker-registry", "embedded"])
def registry(request: pytest.FixtureRequest) -> Registry:
    """Each of the plain registries in turn."""
    fixture = {"docker-registry": "docker_registry", "embedded": "embedded_registry"}
    found: Registry = request.getfixturevalue(fixture[request.param])
    return found


@pytest.fixture
def repository() -> str:
    """A repository name no other test uses."""
    return f"tests/r{uuid.uuid4().hex[:12]}"


@pytest.fixture
def wire() -> Iterator[StartProxy]:
    """Starts proxies in front of a registry; they end with the test."""
    with ExitStack() as stack:

        def start(
            registry: Registry,
            *,
            cut_after_up: int | None = None,
            after_cut: AfterCut = AfterCut.SERVE,
        ) -> CountingProxy:
            proxy = CountingProxy(registry.host, cut_after_up=cut_after_up, after_cut=after_cut)
            return stack.enter_context(proxy)

        yield start
