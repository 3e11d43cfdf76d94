"""Runs real registries on free ports of the loopback interface while a `with` block lasts."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import trustme

import regpush
from tests.patience import HANG_S
from tests.registry.parts import real_part

_LISTENING = re.compile(r"listening on (?:http://)?127\.0\.0\.1:(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """The user whom a registry with an htpasswd file accepts."""

    username: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A running registry. `host` is `127.0.0.1:PORT`; `storage` is the folder of its blobs."""

    host: str
    scheme: str
    storage: Path
    process: subprocess.Popen[bytes]
    log_file: Path
    login: Login | None = None
    ca_file: Path | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    @property
    def username(self) -> str:
        assert self.login is not None
        return self.login.username

    @property
    def password(self) -> str:
        assert self.login is not None
        return self.login.password

    def log(self) -> str:
        """Everything the server has written so far."""
        return self.log_file.read_text("utf-8", "replace")

    def stop(self) -> None:
        """Kill the server, like a crash; its storage stays. May be called again."""
        self.process.kill()
        self.process.wait()


@contextmanager
def run_docker_registry(
    directory: Path, *, login: Login | None = None, authority: trustme.CA | None = None
) -> Iterator[Registry]:
    """Run Debian's docker-registry, which stores below `directory` and allows DELETE.

    With `login` it accepts that user alone, by htpasswd; with `authority` it speaks TLS with a
    certificate of that authority for 127.0.0.1, localhost and registry.test.
    """
    program = real_part("docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    storage = directory / "storage"
    http_section: dict[str, object] = {"addr": "127.0.0.1:0", "secret": "of the tests"}
    config: dict[str, object] = {
        "version": "0.1",
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": True},
        },
        "http": http_section,
    }
    if login is not None:
        # The lowest cost: the server hashes again on every single request.
        hashed = bcrypt.hashpw(login.password.encode(), bcrypt.gensalt(rounds=4)).decode()
        (directory / "htpasswd").write_text(f"{login.username}:{hashed}\n")
        config["auth"] = {
            "htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")},
        }
    ca_file = None
    if authority is not None:
        ca_file = directory / "ca.pem"
        authority.cert_pem.write_to_path(ca_file)
        certificate = authority.issue_cert("127.0.0.1", "localhost", "registry.test")
        certificate.private_key_pem.write_to_path(directory / "key.pem")
        (directory / "certificate.pem").write_bytes(
            b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        )
        http_section["tls"] = {
            "certificate": str(directory / "certificate.pem"),
            "key": str(directory / "key.pem"),
        }
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
    with _running(
        [program, "serve", str(directory / "config.yml")],
        environment,
        directory / "server.log",
    ) as (process, port):
        registry = Registry(
            host=f"127.0.0.1:{port}",
            scheme="http" if ca_file is None else "https",
            storage=storage,
            process=process,
            log_file=directory / "server.log",
            login=login,
            ca_file=ca_file,
        )
        _wait_for_answer(registry)
        yield registry


@contextmanager
def run_embedded_registry(directory: Path) -> Iterator[Registry]:
    """Run regpush's own registry in a process of its own; it stores below `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    storage = directory / "storage"
    package_parent = str(Path(regpush.__file__).parents[1])
    with _running(
        [sys.executable, "-m", "regpush.embedded", "--port", "0", "--dir", str(storage)],
        {**os.environ, "PYTHONPATH": package_parent, "PYTHONUNBUFFERED": "1"},
        directory / "server.log",
    ) as (process, port):
        registry = Registry(
            host=f"127.0.0.1:{port}",
            scheme="http",
            storage=storage,
            process=process,
            log_file=directory / "server.log",
        )
        _wait_for_answer(registry)
        yield registry


@contextmanager
def _running(
    command: list[str], environment: Mapping[str, str], log_file: Path
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start `command`; yields its process and the port that its log names.

    The server asks the kernel for a free port itself, so that no other process can take it.
    """
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process, _listening_port(process, log_file)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listening_port(process: subprocess.Popen[bytes], log_file: Path) -> int:
    deadline = time.monotonic() + HANG_S
    while time.monotonic() < deadline:
        log = log_file.read_text("utf-8", "replace")
        match = _LISTENING.search(log)
        if match:
            return int(match[1])
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}:\n{log}")
        time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} did not start listening:\n{log}")


def _wait_for_answer(registry: Registry) -> None:
    connection: http.client.HTTPConnection
    if registry.ca_file is None:
        connection = http.client.HTTPConnection(registry.host, timeout=HANG_S)
    else:
        context = ssl.create_default_context(cafile=str(registry.ca_file))
        connection = http.client.HTTPSConnection(registry.host, timeout=HANG_S, context=context)
    try:
        connection.request("GET", "/v2/")
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    assert response.status == (200 if registry.login is None else 401), registry.log()
