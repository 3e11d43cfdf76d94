"""Proving who we are: anonymous, Basic or Bearer, as the registry's challenges ask.

registry.md, Auth; distribution's token authentication (docs/spec/auth/token.md, oauth.md).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from regpush.errors import AuthError, printable
from regpush.registry.credentials import Credentials
from regpush.registry.protocol import (
    Challenge,
    Origin,
    Scope,
    Token,
    choose_challenge,
    host_of,
    merge_scopes,
    parse_problem,
    parse_token,
    realm_origin,
)
from regpush.registry.retry import RETRY_STATUSES, RetryableError
from regpush.registry.transport import Body, Call, Reply, Transport

_RENEW_EARLY_S = 20.0
_CLIENT_ID = "regpush"
_WHAT_TO_DO = "log in (docker login, podman login), or give --username and --password-stdin"


@dataclass(frozen=True, slots=True)
class _Held:
    token: Token
    renew_at: float  # monotonic


class Authenticator:
    """The credentials of one repository, and the tokens they were exchanged for; thread-safe.

    `find` looks credentials up; it is called once, when the registry first asks for some.
    """

    def __init__(
        self, name: str, transport: Transport, find: Callable[[], Credentials | None]
    ) -> None:
        self._name = name
        self._transport = transport
        self._find = find
        self._lock = threading.RLock()
        self._credentials: Credentials | None = None
        self._looked = False
        self._challenge: Challenge | None = None
        self._api: Origin | None = None
        self._tokens: dict[tuple[Scope, ...], _Held] = {}
        self._merged: dict[tuple[Scope, ...], tuple[Scope, ...]] = {}

    def header(self, scopes: tuple[Scope, ...]) -> str | None:
        """The Authorization for `scopes` as far as is known; fetches a token where one is due.

        Raises AuthError where the credentials were refused, RetryableError where the token
        server fails.
        """
        with self._lock:
            if self._challenge is None:
                return None
            if self._challenge.scheme == "basic":
                return self._basic()
            held = self._tokens.get(scopes)
            if held is None or time.monotonic() >= held.renew_at:
                held = self._tokens[scopes] = self._fetch(scopes)
            return f"Bearer {held.token.value}"

    def current(self, scopes: tuple[Scope, ...]) -> str | None:
        """The Authorization at hand, however old; sends nothing, raises nothing."""
        with self._lock:
            if held := self._tokens.get(scopes):
                return f"Bearer {held.token.value}"
            basic = self._challenge is not None and self._challenge.scheme == "basic"
            return self._credentials.basic if basic and self._credentials else None

    @property
    def was_challenged(self) -> bool:
        """Whether the registry has said yet how it wants to be told who we are."""
        return self._challenge is not None

    def challenged(
        self,
        challenges: Sequence[Challenge],
        scopes: tuple[Scope, ...],
        used: str | None,
        api: Origin,
    ) -> bool:
        """Take in the challenges of a 401 that answered the Authorization `used`.

        False where it says nothing new, so that asking again would be in vain. Several
        threads may come with the same news: the first acts, the others use what it got.
        """
        with self._lock:
            if used != self.current(scopes):
                return True
            challenge = choose_challenge(challenges) or self._challenge
            if challenge is None or (challenge.scheme == "basic" and used):
                return False
            self._challenge, self._api = challenge, api
            self._merged[scopes] = merge_scopes(self._merged.get(scopes, scopes), challenge.scopes)
            self._tokens.pop(scopes, None)
            return True

    def rejected(self, scopes: Sequence[Scope], words: str) -> AuthError:
        """The error for a 401 that nothing helps against."""
        with self._lock:
            credentials = self._login()
            bearer = self._challenge is not None and self._challenge.scheme == "bearer"
        who = f"user '{printable(credentials.username)}'" if credentials else "anonymous access"
        lacking = f" for {' '.join(map(str, scopes))}" if bearer else ""
        said = f" ({self.redact(words)})" if words else ""
        return AuthError(f"{self._name}: {who} was refused{lacking}{said}; {_WHAT_TO_DO}")

    def redact(self, text: str) -> str:
        """`text` without any secret of ours, should a server have quoted one."""
        with self._lock:
            secrets = [held.token.value for held in self._tokens.values()]
            if self._credentials:
                secrets += [self._credentials.secret, self._credentials.basic[len("Basic ") :]]
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _login(self) -> Credentials | None:
        if not self._looked:
            self._credentials = self._find()
            self._looked = True
        return self._credentials

    def _basic(self) -> str:
        credentials = self._login()
        if credentials is None:
            raise AuthError(
                f"{self._name}: the registry wants a user name and a password; {_WHAT_TO_DO}"
            )
        return credentials.basic

    def _fetch(self, scopes: tuple[Scope, ...]) -> _Held:
        """Exchange the credentials for a token, as the challenge says where."""
        assert self._challenge is not None  # noqa: S101 - only called once challenged
        assert self._api is not None  # noqa: S101 - set together with the challenge
        realm = self._challenge.parameters["realm"]
        origin = realm_origin(realm, self._api)
        service = self._challenge.parameters.get("service", "")
        wanted = self._merged.get(scopes, scopes)
        credentials = self._login()
        reply = None
        if credentials and credentials.identity_token:
            reply = self._post(realm, origin, service, wanted, credentials)
        if reply is None or reply.status in (404, 405):
            reply = self._get(realm, origin, service, wanted, credentials)
        if reply.status in RETRY_STATUSES:
            raise RetryableError(
                f"the token server {host_of(realm)} answered {reply.status}; try again later",
                retry_after_s=reply.retry_after_s,
            )
        token = parse_token(reply.body) if reply.ok else None
        if token is None:
            words = parse_problem(reply.body).words if not reply.ok else "a reply without a token"
            raise self.rejected(wanted, words or f"the token server answered {reply.status}")
        return _Held(token, time.monotonic() + token.lifetime_s - _RENEW_EARLY_S)

    def _get(
        self,
        realm: str,
        origin: Origin,
        service: str,
        scopes: Sequence[Scope],
        credentials: Credentials | None,
    ) -> Reply:
        query = [("service", service)] if service else []
        query += [("scope", str(scope)) for scope in scopes]
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query, safe=':/,')}"
        call = Call(method="GET", url=url, api=origin)
        return self._transport.exchange(call, credentials.basic if credentials else None)

    def _post(
        self,
        realm: str,
        origin: Origin,
        service: str,
        scopes: Sequence[Scope],
        credentials: Credentials,
    ) -> Reply:
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": _CLIENT_ID,
            "scope": " ".join(map(str, scopes)),
            "refresh_token": credentials.identity_token,
        }
        call = Call(
            method="POST",
            url=realm,
            api=origin,
            headers=(("Content-Type", "application/x-www-form-urlencoded"),),
            body=Body.of(urlencode(form).encode("ascii")),
        )
        return self._transport.exchange(call, None)
