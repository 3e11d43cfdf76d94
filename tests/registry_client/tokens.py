"""A token server as distribution's specification has it, and a docker-registry that trusts it."""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.registry.parts import real_part
from tests.registry.servers import Registry, _running
from tests.registry_client.front import Answer, Asked, front

SERVICE = "the registry of the tests"
USERS = {"alice": "s3cret: of alice"}
IDENTITY_TOKEN = "identity-token-of-bob"


class Refusal(Exception):
    """Raised by `grant` to refuse a whole request, as some servers do for one scope of it."""


@dataclass
class TokenServer:
    """`lifetime_s` is what tokens last in truth, `stated_s` what is said where that differs.

    `grant` decides which actions tokens allow.
    """

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate
    requests: list[Asked] = field(default_factory=list)
    lifetime_s: int = 300
    stated_s: int | None = None
    grant: Callable[[str, str, list[str]], list[str]] = lambda user, name, actions: actions
    overrides: list[Answer] = field(default_factory=list)

    def answer(self, asked: Asked) -> Answer:
        self.requests.append(asked)
        if self.overrides:
            return self.overrides.pop(0)
        fields = parse_qsl(urlsplit(asked.target).query)
        user = _basic_user(asked)
        if asked.method == "POST":
            fields = parse_qsl(asked.body.decode())
            user = "bob" if dict(fields).get("refresh_token") == IDENTITY_TOKEN else None
        if user is None:
            return Answer(401, body=b'{"details":"incorrect username or password"}')
        scopes = [scope for name, value in fields if name == "scope" for scope in value.split()]
        stated_s = self.lifetime_s if self.stated_s is None else self.stated_s
        try:
            body = {"token": self.token(user, scopes), "expires_in": stated_s}
        except Refusal:
            return Answer(403, body=b'{"details":"access to the resource is denied"}')
        return Answer(body=json.dumps(body).encode())

    def token(self, user: str, scopes: list[str]) -> str:
        """A JSON web token, signed as docker-registry 2.8 wants it (RS256 with x5c)."""
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            granted = self.grant(user, name, actions.split(","))
            access.append({"type": kind, "name": name, "actions": granted})
        now = int(time.time())
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": "the tests",
            "sub": user,
            "aud": SERVICE,
            "exp": now + self.lifetime_s,
            # The registry forgives a minute of difference between clocks at both ends.
            "nbf": now - 60,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        signed = f"{_segment(head)}.{_segment(claims)}"
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    def scopes(self) -> list[list[str]]:
        """The scopes asked for, request by request."""
        return [
            [value for name, value in parse_qsl(urlsplit(asked.target).query) if name == "scope"]
            for asked in self.requests
        ]


def _basic_user(asked: Asked) -> str | None:
    header = asked.headers.get("authorization")
    if header is None:
        return "anonymous"
    scheme, _, value = header.partition(" ")
    user, _, password = base64.b64decode(value).decode().partition(":")
    return user if scheme == "Basic" and USERS.get(user) == password else None


def _segment(value: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@contextmanager
def token_registry(directory: Path) -> Iterator[tuple[Registry, TokenServer]]:
    """A docker-registry with `auth.token`, and the server that its challenges name."""
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    issued = authority.issue_cert("tokens.test", key_type=trustme.KeyType.RSA)
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    tokens = TokenServer(key, certificate)
    authority.cert_pem.write_to_path(directory / "bundle.pem")
    with front(tokens.answer) as served:
        config = {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
            "http": {"addr": "127.0.0.1:0", "secret": "of the tests"},
            "auth": {
                "token": {
                    "realm": f"{served.url}/token?kind=robot",
                    "service": SERVICE,
                    "issuer": "the tests",
                    "rootcertbundle": str(directory / "bundle.pem"),
                }
            },
        }
        (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        environment = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
        command = [real_part("docker-registry"), "serve", str(directory / "config.yml")]
        log = directory / "server.log"
        with _running(command, environment, log) as (process, port):
            yield (
                Registry(
                    host=f"127.0.0.1:{port}",
                    scheme="http",
                    storage=directory / "storage",
                    process=process,
                    log_file=log,
                ),
                tokens,
            )
