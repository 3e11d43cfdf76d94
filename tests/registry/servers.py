"""Real registries on free ports of the loopback interface, for as long as a `with` lasts."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import bcrypt
import trustme

import regpush
from tests.registry.parts import real_part

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 5.0
# The server asks the kernel for the port itself and says which it got: no race for one.
_LISTENING = re.compile(r"listening on (?:http://)?127\.0\.0\.1:(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Whom a registry with an htpasswd file lets in."""

    username: str
    password: str


class Registry:
    """A registry in a process of its own, answering from `__enter__` to `__exit__`.

    Entered again after its end, it starts again over the same storage on another port.
    """

    scheme = "http"
    login: Login | None = None
    ca_file: Path | None = None

    def __init__(self, directory: Path, command: list[str], environment: dict[str, str]) -> None:
        self.storage = directory / "storage"
        self.host = ""
        self._log_file = directory / "server.log"
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    @property
    def username(self) -> str:
        assert self.login is not None, "this registry lets everybody in"
        return self.login.username

    @property
    def password(self) -> str:
        assert self.login is not None, "this registry lets everybody in"
        return self.login.password

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the registry does not run"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """Everything the server has written since it was entered."""
        return self._log_file.read_text("utf-8", "replace")

    def __enter__(self) -> Self:
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self.host = f"127.0.0.1:{self._listening_port(self._process)}"
            self._wait_for_answer()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server; what it stored stays. May be called again."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the server as a crash would: SIGKILL."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def _listening_port(self, process: subprocess.Popen[bytes]) -> int:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            match = _LISTENING.search(self.log())
            if match:
                return int(match[1])
            if process.poll() is not None:
                raise RuntimeError(f"{self._command} ended: {process.returncode}\n{self.log()}")
            time.sleep(0.01)
        raise RuntimeError(f"{self._command} does not listen\n{self.log()}")

    def _wait_for_answer(self) -> None:
        connection: http.client.HTTPConnection
        if self.ca_file is None:
            connection = http.client.HTTPConnection(self.host, timeout=_START_TIMEOUT_S)
        else:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            connection = http.client.HTTPSConnection(
                self.host, timeout=_START_TIMEOUT_S, context=context
            )
        try:
            connection.request("GET", "/v2/")
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        assert response.status == (200 if self.login is None else 401), self.log()


class DockerRegistry(Registry):
    """Debian's docker-registry, storing below `directory`, deleting when asked.

    With `login` it wants that user, by htpasswd; with `authority` it speaks TLS with a
    certificate of it for 127.0.0.1 and localhost, and `ca_file` is what to trust.
    """

    def __init__(
        self, directory: Path, *, login: Login | None = None, authority: trustme.CA | None = None
    ) -> None:
        program = real_part("docker-registry")
        directory.mkdir(parents=True, exist_ok=True)
        config_file = directory / "config.yml"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
        super().__init__(directory, [program, "serve", str(config_file)], environment)
        http_section: dict[str, object] = {"addr": "127.0.0.1:0", "secret": "of the tests"}
        config: dict[str, object] = {
            "version": "0.1",
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": True},
            },
            "http": http_section,
        }
        if login is not None:
            self.login = login
            config["auth"] = {
                "htpasswd": {"realm": "tests", "path": str(_write_htpasswd(directory, login))}
            }
        if authority is not None:
            self.scheme = "https"
            self.ca_file = directory / "ca.pem"
            authority.cert_pem.write_to_path(self.ca_file)
            http_section["tls"] = _write_certificate(directory, authority)
        config_file.write_text(json.dumps(config))  # JSON is YAML


class EmbeddedRegistry(Registry):
    """regpush's own registry, storing below `directory`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # Where regpush lies, whether it is installed or not; the tests change directory.
        parent = str(Path(regpush.__file__).parents[1])
        command = [sys.executable, "-m", "regpush.embedded", "--port", "0", "--dir"]
        super().__init__(
            directory,
            [*command, str(directory / "storage")],
            {**os.environ, "PYTHONPATH": parent, "PYTHONUNBUFFERED": "1"},
        )


def _write_htpasswd(directory: Path, login: Login) -> Path:
    # The lowest cost: the server hashes again on every single request.
    hashed = bcrypt.hashpw(login.password.encode(), bcrypt.gensalt(rounds=4)).decode()
    file = directory / "htpasswd"
    file.write_text(f"{login.username}:{hashed}\n")
    return file


def _write_certificate(directory: Path, authority: trustme.CA) -> dict[str, str]:
    issued = authority.issue_cert("127.0.0.1", "localhost")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    issued.private_key_pem.write_to_path(key)
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return {"certificate": str(certificate), "key": str(key)}
