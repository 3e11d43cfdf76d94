"""A secret planted in every source of credentials, and looked for wherever it must not be.

The registry is called ghcr.io, and reached by a proxy. It lets in whoever shows the secret
that is due, sends uploads and reads on to another origin, or throws back all it was sent.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, quote_plus

import pytest
import trustme

from tests.flow.test_push_directory import app
from tests.http.proxying import Proxying, proxy
from tests.patience import HANG_S
from tests.program import environment
from tests.registry.servers import Registry
from tests.registry_auth.helpers import FakeHelper, fake_helper
from tests.registry_client.front import Answer, Asked, Front, front, pass_on

__all__ = ["app"]

SOURCES = (
    "flags",
    "token",
    "authfile",
    "REGPUSH_AUTH",
    "REGISTRY_AUTH_FILE",
    "DOCKER_CONFIG",
    "runtime",
    "config",
    "helper",
    "identity",
    "GITHUB_TOKEN",
    "netrc",
)
"""In the order in which they are looked into."""

SECRETS = {source: f"pl4nted in+{source}/é" for source in SOURCES}
# A token is what a header can hold, and netrc has no blanks.
SECRETS["token"] = "pl4nted-in-token"
SECRETS["netrc"] = "pl4nted+in+netrc"
PROXY_PASSWORD = "pl4nted in proxy"
ISSUED = "pl4nted-by-the-token-server"

VERBOSE = """
import logging, sys
logging.basicConfig(level=1, stream=sys.stderr)
logging.getLogger("test").debug("every library's messages are shown")
from regpush.cli import main
main()
"""
"""Everything that regpush and the libraries under it have to say."""


def forms(secret: str) -> list[str]:
    """What a secret looks like on its way, and on a terminal; its beginning gives it away."""
    pairs = [f"{user}:{secret}" for user in ("me", "<token>", "token")]
    encoded = [base64.b64encode(pair.encode()).decode() for pair in pairs]
    return [secret, quote(secret), quote_plus(secret), secret.encode().hex(), *encoded]


def leaks(text: str, *, but: str = "") -> list[str]:
    """The secrets that can be seen in `text`."""
    planted = [*SECRETS.values(), PROXY_PASSWORD, ISSUED]
    return [s for s in planted if s != but and any(form in text for form in forms(s))]


@dataclass
class Machine:
    """A user's home with all the sources from `first` on in it."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    stdin: str = ""


def machine(first: str, home: Path, helper: FakeHelper) -> Machine:
    left = SOURCES[SOURCES.index(first) :]
    made = Machine(home, {"HOME": str(home), "PATH": helper.path})

    def write(path: Path, entry: dict[str, str], **more: object) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"auths": {"ghcr.io": entry}, **more}))
        return str(path)

    def basic(source: str) -> dict[str, str]:
        return {"auth": base64.b64encode(f"me:{SECRETS[source]}".encode()).decode()}

    if first == "flags":
        made.flags += ["--username", "me", "--password-stdin"]
        made.stdin = SECRETS["flags"] + "\n"
    if first == "token":
        made.environ["REGPUSH_REGISTRY_TOKEN"] = SECRETS["token"]
    if "authfile" in left:
        made.flags += ["--authfile", write(home / "authfile.json", basic("authfile"))]
    if "REGPUSH_AUTH" in left:
        made.environ["REGPUSH_AUTH"] = json.dumps({"auths": {"ghcr.io": basic("REGPUSH_AUTH")}})
    if "REGISTRY_AUTH_FILE" in left:
        path = write(home / "registry.json", basic("REGISTRY_AUTH_FILE"))
        made.environ["REGISTRY_AUTH_FILE"] = path
    if "DOCKER_CONFIG" in left:
        write(home / "d" / "config.json", basic("DOCKER_CONFIG"))
        made.environ["DOCKER_CONFIG"] = str(home / "d")
    if "runtime" in left:
        write(home / "run" / "containers" / "auth.json", basic("runtime"))
        made.environ["XDG_RUNTIME_DIR"] = str(home / "run")
    if "config" in left:
        write(home / ".config" / "containers" / "auth.json", basic("config"))
    if "helper" in left:
        helper.keep("ghcr.io", "me", SECRETS["helper"])
    if "identity" in left:
        entry = {"identitytoken": SECRETS["identity"]}
        write(home / ".docker" / "config.json", entry, credsStore="test")
    if "GITHUB_TOKEN" in left:
        made.environ["GITHUB_TOKEN"] = SECRETS["GITHUB_TOKEN"]
        made.environ["GITHUB_ACTOR"] = "me"
    (home / ".netrc").write_text(f"machine ghcr.io login me password {SECRETS['netrc']}\n")
    return made


@dataclass
class World:
    """The registry, the foreign origin that records, and the proxy that leads to both."""

    registry: Front
    foreign: Front
    proxying: Proxying
    ca_file: Path


@contextmanager
def world(tmp_path: Path, behind: Registry, *, echoing: bool) -> Iterator[World]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    def tls() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("ghcr.io", "elsewhere.test").configure_cert(context)
        return context

    then = pass_on(behind.host)

    def registry(asked: Asked) -> Answer:
        if asked.target.startswith("/token"):
            return echo(asked) if echoing else Answer(body=json.dumps({"token": ISSUED}).encode())
        shown = asked.headers.pop("authorization", None)
        if shown is None:
            realm = 'Bearer realm="https://ghcr.io/token",service="s"'
            return Answer(401, {"WWW-Authenticate": realm})
        asked.headers["authorization"] = shown
        if echoing:
            return echo(asked)
        if asked.method == "GET" and "/manifests/" in asked.target:
            return Answer(307, {"Location": f"https://elsewhere.test{asked.target}"})
        asked.headers["x-forwarded-proto"] = "https"
        answer = then(asked)
        for name, value in answer.headers.items():
            if name.lower() == "location":
                answer.headers[name] = value.replace("https://ghcr.io/", "https://elsewhere.test/")
        return answer

    def elsewhere(asked: Asked) -> Answer:
        asked.headers["x-forwarded-proto"] = "https"
        return then(asked)

    with (
        front(registry, tls=tls()) as one,
        front(elsewhere, tls=tls()) as other,
        proxy(
            {"ghcr.io:443": one.host, "elsewhere.test:443": other.host},
            login=f"me:{PROXY_PASSWORD}",
        ) as running,
    ):
        yield World(one, other, running, tmp_path / "ca.pem")


def echo(asked: Asked) -> Answer:
    """All that was sent, in every form, as the words of a refusal."""
    shown = asked.headers.get("authorization", "")
    pair = base64.b64decode(shown[6:]).decode() if shown.startswith("Basic ") else ""
    form = asked.body.decode()
    sent = [shown, pair, form, *(value for values in parse_qs(form).values() for value in values)]
    said = " ".join(["you said:", *sent, quote(pair)])
    challenge = f'Bearer realm="https://ghcr.io/token",error="{quote(said)}"'
    body = json.dumps({"errors": [{"code": "DENIED", "message": said}]})
    return Answer(401, {"WWW-Authenticate": challenge, "Set-Cookie": quote(said)}, body.encode())


def push(app: Path, made: Machine, there: World, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", VERBOSE, str(app), "--to", "ghcr.io/team/app", "--progress", "plain",
         "-vv", "--retry-times", "0", "--ca-file", str(there.ca_file), *made.flags, *flags],
        env=environment(
            REGPUSH_DEBUG="1",
            HTTPS_PROXY=f"http://me:{quote(PROXY_PASSWORD)}@{there.proxying.host}",
            **made.environ,
        ),
        input=made.stdin,
        capture_output=True,
        text=True,
        timeout=3 * HANG_S,
    )  # fmt: skip


def check(done: subprocess.CompletedProcess[str], made: Machine, there: World, due: str) -> None:
    """Whoever should not see a secret has seen none, and the one that was due was sent."""
    assert "DEBUG:test:every library's messages are shown" in done.stderr
    assert re.search(
        r"^GET https://ghcr\.io/v2/team/app/manifests/latest: \d+", done.stderr, re.MULTILINE
    )
    assert "credentials for ghcr.io: " in done.stderr
    assert leaks(done.stdout + done.stderr) == []
    for asked in there.foreign.asked:
        assert "authorization" not in asked.headers
        assert leaks(str(asked) + str(asked.headers) + asked.body.decode("latin-1")) == []
    for head in there.proxying.heads:
        assert leaks(head, but=PROXY_PASSWORD) == []
    for path in (made.home / ".cache").rglob("*"):
        if path.is_file():
            assert leaks(path.read_bytes().decode("latin-1")) == []
    sent = "".join(
        str(a.headers) + a.target + a.body.decode("latin-1") for a in there.registry.asked
    )
    assert leaks(sent, but=ISSUED) == [SECRETS[due]]


@pytest.fixture
def helper(tmp_path: Path) -> FakeHelper:
    return fake_helper(tmp_path / "bin")


@pytest.mark.parametrize("source", ["flags", "token", "helper", "identity"])
def test_nothing_leaks_from_a_push_that_is_sent_elsewhere(
    docker_registry: Registry, app: Path, tmp_path: Path, helper: FakeHelper, source: str
) -> None:
    (tmp_path / "home").mkdir()
    made = machine(source, tmp_path / "home", helper)
    with world(tmp_path, docker_registry, echoing=False) as there:
        done = push(app, made, there)
        assert done.returncode == 0, done.stderr[-2000:]
        assert {"PATCH", "PUT", "GET"} & set(there.foreign.methods())
        check(done, made, there, source)


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_leaks_from_a_push_that_is_thrown_back(
    docker_registry: Registry, app: Path, tmp_path: Path, helper: FakeHelper, source: str
) -> None:
    (tmp_path / "home").mkdir()
    made = machine(source, tmp_path / "home", helper)
    with world(tmp_path, docker_registry, echoing=True) as there:
        done = push(app, made, there)
        assert done.returncode == 3, done.stderr[-2000:]
        assert "you said" in done.stderr
        check(done, made, there, source)


def test_the_search_finds_what_it_looks_for() -> None:
    for secret in SECRETS.values():
        for form in forms(secret):
            assert leaks(f"x{form}y") == [secret]
            assert leaks(f"x{form}y", but=secret) == []
