"""Fixtures: running registries, a repository name for each test, a proxy that counts and cuts."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import hypothesis
import pytest
import trustme

from tests.patience import HANG_S
from tests.registry.servers import (
    Login,
    Registry,
    run_docker_registry,
    run_embedded_registry,
)
from tests.registry.wire import AfterCut, CountingProxy, StartProxy

_STARTERS = ("tests.program", "tests.programs", "tests.runner", "tests.registry", "tests.stores")
"""Test helpers that start servers or whole programs."""

# A shell lets what it starts in the background ignore Ctrl-C, and so all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Deadlines of examples, and the seconds that making them takes, tell how loaded the machine is.
hypothesis.settings.register_profile(
    "any speed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any speed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `fast` every test that starts no server and no program, judged by its imports."""
    for item in items:
        if isinstance(item, pytest.Function) and not item.get_closest_marker("soak"):
            homes = {getattr(one, "__module__", None) for one in vars(item.module).values()}
            fixtures = set(item.fixturenames)
            if not fixtures & _SERVERS and not any(str(one).startswith(_STARTERS) for one in homes):
                item.add_marker("fast")


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with run_docker_registry(tmp_path_factory.mktemp("docker-registry")) as registry:
        yield registry


@pytest.fixture(scope="session")
def docker_registry_htpasswd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    login = Login(username="alice", password="correct horse: battery")
    directory = tmp_path_factory.mktemp("docker-registry-htpasswd")
    with run_docker_registry(directory, login=login) as registry:
        yield registry


@pytest.fixture(scope="session")
def docker_registry_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    directory = tmp_path_factory.mktemp("docker-registry-tls")
    with run_docker_registry(directory, authority=trustme.CA()) as registry:
        yield registry


@pytest.fixture(scope="session")
def embedded_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with run_embedded_registry(tmp_path_factory.mktemp("embedded-registry")) as registry:
        yield registry
        # Whatever the tests requested, the registry must refuse by a reply, not by a traceback.
        assert "Traceback" not in registry.log(), registry.log()


@pytest.fixture(
    params=["docker_registry", "embedded_registry"], ids=["docker-registry", "embedded"]
)
def registry(request: pytest.FixtureRequest) -> Registry:
    """A registry without TLS and login: docker-registry, then the embedded one."""
    found: Registry = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def repository() -> str:
    """A repository name that no other test uses."""
    return f"tests/r{uuid.uuid4().hex[:12]}"


@pytest.fixture
def patient_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is cancelled waits for the registry, however slow, to delete its uploads.

    Users wait half a second.
    """
    monkeypatch.setattr("regpush.http.wire._GRACE_S", HANG_S)
    monkeypatch.setattr("regpush.registry.client._FAREWELL_S", HANG_S)


@pytest.fixture
def wire() -> Iterator[StartProxy]:
    """A function that starts a proxy before a registry; the proxies end with the test."""
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


_SERVERS = {name for name in list(globals()) if "registry" in name or "proxy" in name}
"""The fixtures of this file that start servers."""
