"""The registries of the tests are what the tests take them for."""

from __future__ import annotations

import base64
import http.client
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.registry import parts
from tests.registry.parts import real_part
from tests.registry.servers import DockerRegistry, Registry


def test_plain(registry: Registry, repository: str) -> None:
    connection = http.client.HTTPConnection(registry.host)
    connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
    assert connection.getresponse().status == 202
    connection.close()
    assert registry.storage.is_dir()


@pytest.mark.parametrize(("password", "status"), [("right", 200), ("wrong", 401), (None, 401)])
def test_htpasswd(
    docker_registry_htpasswd: DockerRegistry, password: str | None, status: int
) -> None:
    registry = docker_registry_htpasswd
    headers = {}
    if password is not None:
        secret = registry.password if password == "right" else password
        pair = base64.b64encode(f"{registry.username}:{secret}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    connection = http.client.HTTPConnection(registry.host)
    connection.request("GET", "/v2/", headers=headers)
    answer = connection.getresponse()
    connection.close()
    assert answer.status == status


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_tls(docker_registry_tls: DockerRegistry, name: str) -> None:
    port = docker_registry_tls.host.partition(":")[2]
    trust = ssl.create_default_context(cafile=str(docker_registry_tls.ca_file))
    connection = http.client.HTTPSConnection(name, int(port), context=trust)
    connection.request("GET", "/v2/")
    assert connection.getresponse().status == 200
    connection.close()


def test_tls_is_not_trusted_by_itself(docker_registry_tls: DockerRegistry) -> None:
    connection = http.client.HTTPSConnection(
        docker_registry_tls.host, context=ssl.create_default_context()
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.connect()
    connection.close()


def test_it_ends_and_starts_again(tmp_path: Path) -> None:
    registry = DockerRegistry(tmp_path)
    for _ in range(2):
        with registry:
            process = registry.process
        assert process.poll() is not None
    assert "listening on" in registry.log()


def test_a_missing_part_is_a_visible_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGPUSH_REQUIRE_REAL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="'no-such-program' is not installed"):
        real_part("no-such-program")
    monkeypatch.setenv("REGPUSH_REQUIRE_REAL", "1")
    with pytest.raises(pytest.fail.Exception, match="'no-such-program' is not installed"):
        real_part("no-such-program")


def test_a_part_is_fetched_once_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stand-ins for apt-get and dpkg-deb, so that nothing crosses the network."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script(programs / "apt-get", f'echo "$@" >> {tmp_path}/calls; touch umoci_0_amd64.deb')
    script(programs / "dpkg-deb", 'mkdir -p "$3/usr/bin"; cp /bin/true "$3/usr/bin/umoci"')
    for name in ("mkdir", "touch", "cp", "sh"):
        (programs / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        parts.find_part.cache_clear()
        path = real_part("umoci")
        assert path == str(tmp_path / "cache/regpush-tests/umoci/usr/bin/umoci")
        assert subprocess.run([path], check=False).returncode == 0
    assert (tmp_path / "calls").read_text() == "download umoci\n"
    parts.find_part.cache_clear()


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\nset -e\n{body}\n")
    path.chmod(0o755)
