"""`regpush doctor`: each step told apart, and nothing left behind."""

from __future__ import annotations

import datetime
import json
import os
import pty
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
import trustme

from tests.flow.test_push_directory import app
from tests.patience import HANG_S
from tests.program import Outcome, environment, regpush
from tests.registry.faults import fault_server
from tests.registry.personas import PERSONAS, Persona
from tests.registry.servers import Registry
from tests.registry_client.front import Answer, Asked, front
from tests.registry_client.opening import open_sessions
from tests.registry_client.tokens import token_registry

__all__ = ["app"]

STEPS = [
    "name", "connection", "API", "credentials", "scopes", "pull", "push", "mount", "chunks",
    "referrers", "clock", "proxy", "uploads",
]  # fmt: skip


def doctor(reference: str, *flags: object, **more: object) -> Outcome:
    return regpush("doctor", reference, "--format", "json", *flags, **more)


def results(done: Outcome) -> dict[str, str]:
    steps = done.report["steps"]
    assert [step["name"] for step in steps] == STEPS
    assert done.report["exit_code"] == done.code
    assert all("\n" not in step["detail"] for step in steps)
    return {step["name"]: step["result"] for step in steps}


def detail(done: Outcome, name: str) -> str:
    return next(step["detail"] for step in done.report["steps"] if step["name"] == name)


def failed_at(done: Outcome, name: str, code: int, words: str) -> None:
    """The first step that failed is `name`, and what needs it was not tried."""
    assert done.code == code
    steps = done.report["steps"]
    first = next(step for step in steps if step["result"] == "failed")
    assert first["name"] == name
    assert words in first["detail"]
    assert done.stderr.splitlines()[-1].startswith("regpush: ")
    assert f"failed steps: {name}" in done.stderr


def stored(registry: Registry) -> list[Path]:
    """Every file; but docker-registry keeps the beginning of a hash of no bytes."""
    files = (path for path in registry.storage.rglob("*") if path.is_file())
    return sorted(path for path in files if "hashstates" not in path.parts)


def test_nothing_is_left_behind(registry: Registry, repository: str, app: Path) -> None:
    to = f"{registry.host}/{repository}"
    before = stored(registry)
    empty = doctor(to)
    assert results(empty)["push"] == "ok"
    assert results(empty)["mount"] == "skipped"
    assert "no tag" in detail(empty, "pull")
    assert stored(registry) == before
    ref = regpush(app, "--to", f"{to}:v1").ok().stdout.strip()
    before = stored(registry)
    done = doctor(f"{to}:v1")
    assert done.code == 0
    got = results(done)
    assert {got[name] for name in ("pull", "push", "mount", "chunks", "clock")} == {"ok"}
    assert detail(done, "pull") == f"v1 is {ref.rpartition('@')[2]}"
    assert detail(done, "push") == "an upload was opened, and deleted again"
    assert detail(done, "chunks").endswith("; the upload was deleted again")
    assert "no tag latest; found 1 tag, e.g. v1" in detail(doctor(to), "pull")
    assert stored(registry) == before
    with urlopen(f"{registry.url}/v2/{repository}/tags/list") as reply:
        assert json.load(reply)["tags"] == ["v1"]
    assert got["referrers"] == ("ok" if "embedded" in str(registry.storage) else "skipped")


NOTABLE = ("docker_hub", "ghcr", "ecr", "gar", "quay", "harbor", "gitea", "cloudflare")


@pytest.mark.parametrize(
    "persona", [p for p in PERSONAS if p.name in NOTABLE], ids=lambda persona: persona.name
)
def test_registries_of_others(docker_registry: Registry, repository: str, persona: Persona) -> None:
    with fault_server(docker_registry.host, *persona.rules()) as server:
        done = doctor(f"{server.host}/{repository}")
    got = results(done)
    if persona.name == "docker_hub":
        failed_at(done, "pull", 5, "pull rate limit")
    elif persona.name == "gar":
        # Whose first connection breaks; docker-registry deletes no upload that broke.
        failed_at(done, "chunks", 5, "sending a chunk failed")
        return
    else:
        assert done.code == 0, done.stdout
    assert got["push"] == "ok"
    if persona.name == "cloudflare":
        assert got["chunks"] == "skipped"
        assert "5242880 to 6291456" in detail(done, "uploads")
    assert open_sessions(docker_registry, repository) == []


@pytest.mark.parametrize(
    ("password", "step", "code"), [(None, "credentials", 3), ("wrong", "credentials", 3)]
)
def test_a_wrong_password(
    docker_registry_htpasswd: Registry, repository: str, password: str | None, step: str, code: int
) -> None:
    to = f"{docker_registry_htpasswd.host}/{repository}"
    flags = ["--username", "alice", "--password-stdin"] if password else []
    done = doctor(to, *flags, stdin=f"{password}\n" if password else "")
    told = "user 'alice' from the command line" if password else f"regpush login {to.split('/')[0]}"
    failed_at(done, step, code, told)
    got = results(done)
    assert {got[name] for name in ("scopes", "pull", "push", "mount", "chunks")} == {"skipped"}
    assert got["clock"] == "ok"
    assert not password or password not in done.stdout.replace("password", "")


def test_tokens_and_what_they_allow(tmp_path: Path) -> None:
    with token_registry(tmp_path) as (registry, tokens):
        to = f"{registry.host}/team/app"
        who = ["--username", "alice", "--password-stdin"]
        secret = "s3cret: of alice\n"
        done = doctor(to, *who, stdin=secret)
        assert done.code == 0
        assert detail(done, "scopes") == "the token allows pull, push"
        assert detail(done, "credentials") == "user 'alice' from the command line"
        # Distribution wants another right for that.
        assert "left to expire" in detail(done, "push")
        assert all("delete" not in scope for asked in tokens.scopes() for scope in asked)

        tokens.grant = lambda user, name, actions: [one for one in actions if one == "pull"]
        done = doctor(to, *who, stdin=secret)
        failed_at(done, "push", 3, "'pull,push' on repository 'team/app'")
        assert results(done)["scopes"] == "warning"
        assert detail(done, "scopes") == "the token allows pull; it lacks push"
        assert results(done)["pull"] == "ok"

        done = doctor(to, *who, stdin="wrong\n")
        failed_at(done, "credentials", 3, "the token server 127.0.0.1 answered 401")


def test_a_certificate(docker_registry_tls: Registry, repository: str) -> None:
    to = f"{docker_registry_tls.host}/{repository}"
    failed_at(doctor(to), "connection", 4, "give the authority that signed it with --ca-file")
    trusted = doctor(to, "--ca-file", docker_registry_tls.ca_file)
    assert trusted.code == 0
    assert re.fullmatch(
        r"TLSv1\.[23], certificate of trustme v[\d.]+, valid until \d{4}-\d\d-\d\d",
        detail(trusted, "connection"),
    )
    careless = doctor(to, "--insecure-skip-tls-verify")
    assert careless.code == 0
    assert results(careless)["connection"] == "warning"


@pytest.mark.parametrize(("days", "result"), [(-2, "failed"), (5, "warning"), (90, "ok")])
def test_a_certificate_that_ends(tmp_path: Path, days: int, result: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    end = datetime.datetime.now() + datetime.timedelta(days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    begin = end - datetime.timedelta(days=100)
    issued = authority.issue_cert("127.0.0.1", not_before=begin, not_after=end)
    issued.configure_cert(context)
    with front(lambda asked: Answer(404), tls=context) as server:
        done = doctor(f"{server.host}/app", "--ca-file", tmp_path / "ca.pem")
    assert results(done)["connection"] == result
    if result == "failed":
        assert "expired; the registry's operator must renew it" in detail(done, "connection")
    else:
        failed_at(done, "API", 4, "answered 404 at /v2/, which no registry does")


def test_nobody_is_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    failed_at(doctor(f"127.0.0.1:{port}/app"), "connection", 5, "is the registry running?")
    failed_at(doctor("registry.invalid/app"), "name", 5, "does not resolve")
    regpush("doctor", "registry.invalid/App").failed(2, "lower case")


def test_clocks_that_differ() -> None:
    def behaviour(asked: Asked) -> Answer:
        return Answer(200 if asked.target == "/v2/" else 404)

    with front(behaviour) as server:
        host = server.host
        code = (
            "import time, sys; real = time.time;"
            "import regpush.commands.doctor as d, datetime as dt;"
            "d.datetime = type('Later', (dt.datetime,), {'now': classmethod("
            "lambda c, z=None: dt.datetime.now(z) + dt.timedelta(minutes=10))});"
            "from regpush.cli import main; main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "doctor", f"{host}/app", "--format", "json"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )
    steps = {step["name"]: step for step in json.loads(done.stdout)["steps"]}
    assert steps["clock"]["result"] == "warning"
    said = r"the clock of this machine is (599|60[0-2]) s ahead of"
    assert re.match(said, steps["clock"]["detail"])


def test_a_proxy_is_named_and_what_it_hides_is_not_guessed() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = doctor("registry.invalid/app", env={"HTTPS_PROXY": f"http://me:s3cret@{proxy}"})
    got = results(done)
    assert got["name"] == got["connection"] == "skipped"
    failed_at(done, "API", 5, proxy)
    assert detail(done, "proxy") == f"requests go through {proxy}"
    assert "s3cret" not in done.stdout + done.stderr


def test_people_get_lines_and_a_terminal_signs(
    embedded_registry: Registry, repository: str
) -> None:
    to = f"{embedded_registry.host}/{repository}"
    plain = regpush("doctor", to).ok().stdout.splitlines()
    assert [line.split()[:2] for line in plain][:2] == [["ok", "name"], ["ok", "connection"]]
    assert regpush("doctor", to, "-q").ok().stdout == ""
    requests = regpush("doctor", to, "-vv").ok().stderr
    assert re.search(r"^DELETE http://\S+: 204, \d+ ms$", requests, re.MULTILINE)
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "regpush", "doctor", to],
        stdout=slave,
        stderr=subprocess.DEVNULL,
        env=environment(TERM="xterm", LANG="C.UTF-8", COLUMNS="60"),
    ) as running:
        os.close(slave)
        seen = b""
        while part := _read(master):
            seen += part
    os.close(master)
    assert running.returncode == 0
    assert "\x1b[32m✓\x1b[0m push " in seen.decode()
    assert "\x1b[2m\u2013\x1b[0m mount" in seen.decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:
        return b""
