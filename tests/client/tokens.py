"""A docker-registry that believes the tokens of a token server, and that token server."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.client.server import Answer, Request, Server
from tests.registry.servers import DockerRegistry, Login

SERVICE = "registry.tests"
ISSUER = "tests"


class TokenServer(Server):
    """Speaks distribution's docs/spec/auth/token.md and oauth.md; signs with RS256 and x5c.

    Replies say that tokens live 300 s; `lifetime_s` is how long they really do. Identity
    tokens are taken by POST unless `oauth` is false: then it answers 404. `failures` are
    answered first, one a request.
    """

    def __init__(self, authority: trustme.CA, login: Login) -> None:
        super().__init__(self._answer)
        issued = authority.issue_cert("token.tests", key_type=trustme.KeyType.RSA)
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), password=None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self._key = key
        self._chain = [
            base64.b64encode(
                x509.load_pem_x509_certificate(blob.bytes()).public_bytes(
                    serialization.Encoding.DER
                )
            ).decode()
            for blob in issued.cert_chain_pems
        ]
        self._login = login
        self.identity_token = "the identity token of " + login.username
        self.lifetime_s = 300.0
        self.oauth = True
        self.anonymous = ("pull",)
        self.asked: list[dict[str, list[str]]] = []
        self.issued: list[str] = []
        self.failures: list[Answer] = []

    def _answer(self, request: Request) -> Answer:
        form = request.read_body().decode() if request.method == "POST" else ""
        query = parse_qs(form or request.target.partition("?")[2])
        self.asked.append(query)
        if self.failures:
            return self.failures.pop(0)
        if request.method == "POST" and not self.oauth:
            return Answer(404)
        granted: tuple[str, ...] = ("pull", "push")
        given = request.headers.get("authorization")
        if request.method == "POST":
            if query["refresh_token"] != [self.identity_token]:
                return Answer(401, body=b'{"error":"invalid_grant"}')
        elif given is None:
            granted = self.anonymous
        elif given not in (
            _basic(self._login.username, self._login.password),
            _basic("<token>", self.identity_token),
        ):
            return Answer(401, body=b'{"details":"incorrect username or password"}')
        scopes = [scope for value in query.get("scope", []) for scope in value.split()]
        token = self._token(scopes, granted)
        self.issued.append(token)
        return Answer(200, body=json.dumps({"token": token, "expires_in": 300}).encode())

    def _token(self, scopes: list[str], granted: tuple[str, ...]) -> str:
        now = time.time()
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            allowed = [action for action in actions.split(",") if action in granted]
            access.append({"type": kind, "name": name, "actions": allowed})
        claims = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": "",
            "iat": int(now),
            "nbf": int(now) - 60,
            "exp": int(now + self.lifetime_s) - 60,  # docker-registry allows 60 s of skew
            "jti": str(now),
            "access": access,
        }
        signed = f"{_part({'typ': 'JWT', 'alg': 'RS256', 'x5c': self._chain})}.{_part(claims)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


class TokenRegistry(DockerRegistry):
    """Asks for tokens of the server at `realm`, signed under `authority`."""

    def __init__(self, directory: Path, authority: trustme.CA, realm: str, login: Login) -> None:
        super().__init__(directory)
        self.login = login
        bundle = directory / "bundle.pem"
        authority.cert_pem.write_to_path(bundle)
        file = directory / "config.yml"
        config = json.loads(file.read_text())
        config["auth"] = {
            "token": {
                "realm": realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(bundle),
            }
        }
        file.write_text(json.dumps(config))


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
