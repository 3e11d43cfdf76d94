"""Which proxy is for what, and pushes by way of a real one."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from regpush.errors import UsageError
from regpush.http.address import Origin
from regpush.http.proxy import Proxy, Routes, bypasses
from regpush.settings import Settings
from tests.flow.test_push_directory import app
from tests.http.proxying import Proxying, proxy
from tests.program import PATIENT, push, regpush
from tests.registry.servers import Registry
from tests.registry_client.front import Answer, Front, front

__all__ = ["app"]

PASSWORD = "pr0xy:p@ss word"
LOGIN = f"me:{PASSWORD}"
IN_URL = "me:pr0xy%3Ap%40ss%20word"


def routes(**environ: str) -> Routes:
    return Routes(Settings.from_environ(environ).proxies)


def route(url: str, **environ: str) -> str | None:
    found = routes(**environ).proxy(Origin.of(url))
    return str(found) if found else None


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": "http://p:1"}, "p:1", None),
        ({"https_proxy": "http://p:1"}, None, "p:1"),
        ({"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:2"}, None, "p:1"),
        ({"HTTP_PROXY": "", "http_proxy": "http://q:2"}, "q:2", None),
        ({"ALL_PROXY": "http://p:1"}, "p:1", "p:1"),
        ({"all_proxy": "p:1", "HTTPS_PROXY": "q"}, "p:1", "q:80"),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:3128/"}, None, "[2001:db8::1]:3128"),
        # A CGI program's HTTP_PROXY is whatever its client says.
        ({"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}, None, None),
        ({"http_proxy": "http://p:1", "REQUEST_METHOD": "GET"}, "p:1", None),
    ],
)
def test_which_variable(environ: dict[str, str], http: str | None, https: str | None) -> None:
    assert route("http://r.example/v2/", **environ) == http
    assert route("https://r.example/v2/", **environ) == https


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:5000", "a.localhost", "127.0.0.1:5000", "127.9.9.9", "[::1]:1"]
)
def test_this_machine_is_reached_straight(host: str) -> None:
    assert route(f"http://{host}/", ALL_PROXY="http://p:1") is None


@pytest.mark.parametrize(
    ("rules", "host", "expected"),
    [
        ("*", "r.example", True),
        ("", "r.example", False),
        (",, ,", "r.example", False),
        ("r.example", "r.example", True),
        ("r.example", "R.Example:5000", True),
        ("example", "r.example", True),
        ("r.example", "xr.example", False),
        ("r.example", "a.r.example", True),
        (".r.example", "a.r.example", True),
        (".r.example", "r.example", False),
        ("*.r.example", "a.b.r.example", True),
        ("*.r.example", "r.example", False),
        ("r.example.", "r.example", True),
        ("other, r.example", "r.example", True),
        ("other r.example", "r.example", True),
        ("r.example:5000", "r.example:5000", True),
        ("r.example:5000", "r.example:5001", False),
        ("r.example:443", "r.example", True),
        ("r.example:80", "r.example", False),
        ("10.1.2.3", "10.1.2.3:5000", True),
        ("10.1.2.3:5000", "10.1.2.3:5001", False),
        ("10.1.2.3", "10.1.2.30", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "r10.example", False),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("2001:db8::1", "[2001:db8::1]:5000", True),
        ("[2001:db8::1]:5000", "[2001:db8::1]:5000", True),
        ("[2001:db8::1]:5000", "[2001:db8::1]", False),
        ("2001:db8::/32", "[2001:db8:1::2]", True),
        (".", "r.example", False),
        (":", "r.example", False),
        ("*.", "r.example", False),
    ],
)
def test_no_proxy(rules: str, host: str, expected: bool) -> None:
    assert bypasses(rules, Origin.of(f"https://{host}/")) is expected
    found = route(f"https://{host}/", HTTPS_PROXY="http://p:1", no_proxy=rules)
    assert found == (None if expected else "p:1")


@given(st.text(max_size=60), st.sampled_from(["r.example", "10.1.2.3", "[2001:db8::1]"]))
def test_no_rule_breaks_the_reader(rules: str, host: str) -> None:
    bypasses(rules, Origin.of(f"https://{host}:5000/"))


@given(st.text(max_size=60))
def test_no_address_breaks_the_reader(text: str) -> None:
    try:
        found = Proxy.parse(text, "HTTPS_PROXY")
    except UsageError:
        return
    assert found.host
    assert 0 < found.port < 65536
    assert str(found).isprintable()


@pytest.mark.parametrize(
    "text", ["http://", "http://a b", "http://p:99999", "http://p:x", "http://[::1"]
)
def test_addresses_that_are_none_are_not_quoted(text: str) -> None:
    text = text.replace("//", f"//{IN_URL}@")
    with pytest.raises(UsageError, match="HTTPS_PROXY") as caught:
        route("https://r.example/", HTTPS_PROXY=text)
    assert "pr0xy" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert routes(HTTPS_PROXY=text).secrets == []


@pytest.mark.parametrize("scheme", ["https", "socks5"])
def test_proxies_of_other_kinds(scheme: str) -> None:
    with pytest.raises(UsageError, match="http://"):
        route("https://r.example/", HTTPS_PROXY=f"{scheme}://p:1")


def test_a_password_is_decoded_and_hidden() -> None:
    found = routes(HTTPS_PROXY=f"http://{IN_URL}@p:1").proxy(Origin.of("https://r.example"))
    assert found is not None
    assert base64.b64decode(found.authorization.removeprefix("Basic ")).decode() == LOGIN
    assert PASSWORD in found.secrets
    for shown in (str(found), repr(found), repr(Settings.from_environ({"ALL_PROXY": IN_URL}))):
        assert "pr0xy" not in shown


# Against a real one. `registry.test` is a name that only the proxy knows.


@pytest.fixture
def http_proxy(docker_registry: Registry) -> Iterator[Proxying]:
    port = docker_registry.host.rpartition(":")[2]
    with proxy({f"registry.test:{port}": docker_registry.host}, login=LOGIN) as running:
        yield running


@pytest.fixture
def tls_proxy(docker_registry_tls: Registry) -> Iterator[Proxying]:
    port = docker_registry_tls.host.rpartition(":")[2]
    with proxy({f"registry.test:{port}": docker_registry_tls.host}, login=LOGIN) as running:
        yield running


def named(registry: Registry, repository: str) -> str:
    return f"registry.test:{registry.host.rpartition(':')[2]}/{repository}"


def test_a_push_through_a_tunnel(
    docker_registry_tls: Registry, tls_proxy: Proxying, repository: str, app: Path
) -> None:
    to = named(docker_registry_tls, repository)
    trust = ["--ca-file", docker_registry_tls.ca_file]
    env = {"HTTPS_PROXY": f"http://{IN_URL}@{tls_proxy.host}", "HTTP_PROXY": "http://127.0.0.1:1"}
    push(app, to, *trust, env=env, program=PATIENT).ok()
    assert set(tls_proxy.lines) == {f"CONNECT {to.partition('/')[0]} HTTP/1.1"}
    connections = tls_proxy.connections
    told = regpush("inspect", to, *trust, "--format", "json", env=env).ok().stdout
    # That of the first question, and those begun ahead, which were taken from there: one for each
    # layer, and a session and a question for a new layer and for the config.
    assert connections == 1 + len(json.loads(told)["layers"]) + 4
    untrusted = push(app, to, "--retry-times", "0", env=env).failed(4, "--ca-file")
    assert "pr0xy" not in untrusted.stderr


def test_a_push_by_forwarding(
    docker_registry: Registry, http_proxy: Proxying, repository: str, app: Path
) -> None:
    to = named(docker_registry, repository)
    env = {"http_proxy": f"http://{IN_URL}@{http_proxy.host}"}
    push(app, to, "--plain-http", env=env).ok()
    assert any(
        line.startswith(f"PUT http://{to.partition('/')[0]}/v2/") for line in http_proxy.lines
    )
    assert all("Proxy-Authorization: Basic" in head for head in http_proxy.heads)


def test_nothing_is_left_of_the_proxy_where_no_proxy_says_so(app: Path) -> None:
    env = {"ALL_PROXY": f"http://{IN_URL}@127.0.0.1:1", "NO_PROXY": "registry.invalid"}
    done = push(app, "registry.invalid:5000/app", "--retry-times", "0", env=env)
    done.failed(5, "registry.invalid does not resolve")


@pytest.mark.parametrize("way", ["straight", "tunnel"])
def test_the_proxys_password_is_for_the_proxy_alone(app: Path, tmp_path: Path, way: str) -> None:
    with server_front(tmp_path) as (server, ca_file):
        name = server.host.replace("127.0.0.1", "registry.test") if way == "tunnel" else server.host
        with proxy({name: server.host}, login=LOGIN) as running:
            env = {"ALL_PROXY": f"http://{IN_URL}@{running.host}"}
            push(app, f"{name}/app", "--ca-file", ca_file, env=env).failed(4, "418")
            assert bool(running.heads) is (way == "tunnel")
        assert server.asked
        for asked in server.asked:
            assert not any(name.startswith("proxy-") for name in asked.headers)


@contextmanager
def server_front(tmp_path: Path) -> Iterator[tuple[Front, Path]]:
    """A server over TLS that refuses everything."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "registry.test").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with front(lambda asked: Answer(418), tls=context) as server:
        yield server, tmp_path / "ca.pem"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("login", "refuse", "code", "word"),
    [
        ("other:password", None, 3, "407"),
        (None, "403 Forbidden", 4, "403"),
        (None, "503 Service Unavailable", 5, "503"),
    ],
)
def test_proxies_that_refuse(
    app: Path, scheme: str, login: str | None, refuse: str | None, code: int, word: str
) -> None:
    with proxy({}, login=login, refuse=refuse) as running:
        env = {"ALL_PROXY": f"http://{IN_URL}@{running.host}"}
        flags = ["--retry-times", "0", *(["--plain-http"] if scheme == "http" else [])]
        done = push(app, "registry.test:5000/app", *flags, env=env).failed(code, word)
        if scheme == "https" or login:
            assert running.host in done.stderr
        assert "pr0xy" not in done.stderr
        assert base64.b64encode(LOGIN.encode()).decode() not in done.stderr
        assert running.heads


def test_a_proxy_that_is_not_there(app: Path) -> None:
    env = {"HTTPS_PROXY": f"http://{IN_URL}@127.0.0.1:1"}
    done = push(app, "registry.test/app", "--retry-times", "0", env=env)
    done.failed(5, "through the proxy 127.0.0.1:1")
    assert "pr0xy" not in done.stderr
