"""TLS, and the one place where http may turn out to be https: a registry on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from regpush.errors import RefusedError, RegpushError, UsageError
from regpush.settings import Settings
from tests.client.conftest import Connect
from tests.client.streams import Stream, content, descriptor_of, pieces
from tests.registry.servers import Registry


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_with_the_right_authority(
    connect: Connect, docker_registry_tls: Registry, repository: str, host: str
) -> None:
    port = docker_registry_tls.host.rpartition(":")[2]
    connection = connect(ca_file=str(docker_registry_tls.ca_file))
    repo = connection.repository(f"{host}:{port}/{repository}")
    data = content(5_000_000)
    assert not repo.has_blob(descriptor_of(data))
    repo.put_blob(descriptor_of(data), lambda: pieces(data))
    assert repo.get_blob(descriptor_of(data)) == data
    assert repo.has_blob(repo.stream_blob("x", lambda: Stream(content(5_000_000, 1))))


def test_authority_from_the_environment(
    connect: Connect, docker_registry_tls: Registry, repository: str
) -> None:
    connection = connect(Settings(ca_file=str(docker_registry_tls.ca_file)))
    assert connection.repository(f"{docker_registry_tls.host}/{repository}").list_tags() == ()


def test_unknown_authority_fails_at_once(
    connect: Connect, docker_registry_tls: Registry, repository: str
) -> None:
    connection = connect()
    with pytest.raises(RefusedError, match="--ca-file") as caught:
        connection.repository(f"{docker_registry_tls.host}/{repository}").list_tags()
    assert docker_registry_tls.host in str(caught.value)
    assert not connection.events  # nothing was tried again


def test_another_authority_does_not_help(
    connect: Connect, docker_registry_tls: Registry, repository: str, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    connection = connect(ca_file=str(tmp_path / "other.pem"))
    with pytest.raises(RefusedError, match="does not verify"):
        connection.repository(f"{docker_registry_tls.host}/{repository}").list_tags()


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_unusable_ca_file(
    connect: Connect,
    docker_registry_tls: Registry,
    repository: str,
    tmp_path: Path,
    text: str | None,
) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    connection = connect(ca_file=str(path))
    with pytest.raises(UsageError, match=str(path)):
        connection.repository(f"{docker_registry_tls.host}/{repository}").list_tags()


def test_plain_http_means_plain_http(
    connect: Connect, docker_registry_tls: Registry, repository: str
) -> None:
    connection = connect(plain_http=True, ca_file=str(docker_registry_tls.ca_file))
    with pytest.raises(RegpushError, match="HTTPS server"):
        connection.repository(f"{docker_registry_tls.host}/{repository}").list_tags()


def test_no_fall_back_to_http_elsewhere(connect: Connect, docker_registry: Registry) -> None:
    """Any other name for this machine is no loopback name: TLS, or nothing."""
    port = docker_registry.host.rpartition(":")[2]
    connection = connect(retry_times=0)
    with pytest.raises(RegpushError, match=r"plain-http|resolve"):
        connection.repository(f"localhost.localdomain:{port}/a").list_tags()
    assert connection.client.requests == 1
    assert "/v2/a/" not in docker_registry.log()
