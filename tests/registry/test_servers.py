"""The registries the other tests rely on want what they say they want."""

from __future__ import annotations

import base64
import http.client
import ssl

import pytest

from tests.patience import HANG_S
from tests.registry import parts
from tests.registry.api import Api
from tests.registry.servers import run_docker_registry


def test_htpasswd_lets_in_its_user_alone(docker_registry_htpasswd):
    registry = docker_registry_htpasswd
    api = Api(registry.host, "app")
    for login, status in [
        (f"{registry.username}:{registry.password}", 200),
        (f"{registry.username}:wrong", 401),
    ]:
        basic = base64.b64encode(login.encode()).decode()
        assert api.send("GET", "/v2/", headers={"Authorization": f"Basic {basic}"}).status == status
    assert api.send("GET", "/v2/").headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_tls_with_a_certificate_of_its_own_authority(docker_registry_tls, name):
    port = int(docker_registry_tls.host.rpartition(":")[2])
    trusting = ssl.create_default_context(cafile=str(docker_registry_tls.ca_file))
    connection = http.client.HTTPSConnection(name, port, context=trusting, timeout=HANG_S)
    connection.request("GET", "/v2/")
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        http.client.HTTPSConnection(name, port, timeout=HANG_S).connect()


def test_storage_is_where_it_says(docker_registry, repository):
    Api(docker_registry.host, repository).put_blob(b"stored")
    stored = docker_registry.storage.rglob("data")
    assert b"stored" in [file.read_bytes() for file in stored]


def test_stopping(tmp_path):
    with run_docker_registry(tmp_path) as registry:
        registry.stop()
        with pytest.raises(ConnectionRefusedError):
            Api(registry.host, "app").send("GET", "/v2/")


def test_a_missing_part_is_a_visible_skip_or_a_failure(monkeypatch):
    monkeypatch.delenv("REGPUSH_REQUIRE_REAL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="'no-such-program' is not installed"):
        parts.real_part("no-such-program")
    monkeypatch.setenv("REGPUSH_REQUIRE_REAL", "1")
    with pytest.raises(pytest.fail.Exception, match="'no-such-program' is not installed"):
        parts.real_part("no-such-program")
