"""Authorization for one repository: anonymous, Basic, or Bearer with tokens that expire.

Distribution's token specification; docs/internals/registries.md section 2. The function `fetch`
sends the requests for tokens; `api` decides to which hosts the Authorization header is sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from msgspec import Struct

from regpush.errors import AuthError, RefusedError, RegpushError, TransientError
from regpush.http.address import Origin
from regpush.http.exchange import Reply, Request
from regpush.http.headers import retry_after_s
from regpush.http.redaction import Redactor
from regpush.http.retry import RetryableError
from regpush.reference import RepositoryName
from regpush.registry.auth.challenges import (
    Challenge,
    Scope,
    Token,
    challenged_scopes,
    choose,
    granted_actions,
    merge,
    parse_challenges,
    parse_token,
)
from regpush.registry.auth.record import Credentials, described
from regpush.registry.hints import with_credentials, without_credentials
from regpush.registry.protocol import Outcome, classify, parse_problem

_TOKEN_LIMIT = 256 * 1024
_RENEW_S = 60.0


class _Held(Struct, frozen=True, eq=False):
    """A token, and when it was requested (monotonic seconds)."""

    token: Token
    asked_at: float

    def lasts(self, now: float, lifetime_s: float) -> bool:
        """Whether the token is valid at `now` and not about to expire.

        It is about to expire in the last quarter of its lifetime, 60 s at most.
        """
        return now < self.asked_at + lifetime_s - min(lifetime_s / 4, _RENEW_S)


class Authorizer:
    """Makes the Authorization header for requests to one repository. Thread-safe.

    `name` is for messages; `scope` is None for the registry's root; `origin` returns the registry's
    origin; `credentials` is called once, when the registry first wants any; `fetch` sends a request
    to the token server, follows its redirects, and raises RetryableError where no reply arrives;
    `redactor` is told every secret that is sent; `clock` gives the monotonic seconds by which
    tokens age.
    """

    def __init__(
        self,
        *,
        name: RepositoryName,
        scope: Scope | None,
        origin: Callable[[], Origin],
        credentials: Callable[[], Credentials | None],
        fetch: Callable[[Request], Reply],
        redactor: Redactor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._origin = origin
        self._find_credentials = credentials
        self._fetch = fetch
        self._lock = threading.Lock()
        self._asked = False
        self._credentials: Credentials | None = None
        self._challenge: Challenge | None = None
        self._scopes: tuple[Scope, ...] = (scope,) if scope else ()
        self._tokens: dict[tuple[Scope, ...], _Held] = {}
        self._not_granted: set[Scope] = set()
        self._stated = False
        self._redactor = redactor
        self._clock = clock

    def header(self, more: Sequence[Scope] = ()) -> str | None:
        """Return the Authorization header for a request; None before the first challenge.

        `more`: scopes that the request may use beside the repository's own. May request a token;
        where the token server refuses one with `more`, a token without these scopes is used. Raises
        AuthError, or RetryableError.
        """
        with self._lock:
            if self._challenge is None:
                return None
            credentials = self._known_credentials()
            if credentials and credentials.registry_token:
                return f"Bearer {credentials.registry_token}"
            if self._challenge.scheme == "basic":
                if credentials is None:
                    raise self.denied()
                return credentials.basic
            beside = [scope for scope in more if scope not in self._not_granted]
            try:
                return self._bearer(self._challenge, merge(self._scopes, beside), credentials)
            except AuthError:
                if not beside:
                    raise
            self._not_granted.update(beside)
            return self._bearer(self._challenge, self._scopes, credentials)

    def held(self) -> str | None:
        """Return the Authorization header if it is known without a request; None otherwise."""
        with self._lock:
            if self._challenge is None:
                return None
            if self._credentials and self._credentials.registry_token:
                return f"Bearer {self._credentials.registry_token}"
            if self._challenge.scheme == "basic":
                return self._credentials.basic if self._credentials else None
            held = self._covering(self._scopes)
            return f"Bearer {held.token.value}" if held else None

    @property
    def challenged(self) -> bool:
        """Whether the registry has sent a challenge."""
        return self._challenge is not None

    @property
    def account(self) -> str:
        """The user and the source of the credentials in use, for messages.

        Empty before any are needed.
        """
        return described(self._credentials) if self._asked else ""

    @property
    def anonymous(self) -> bool:
        """Whether the registry wants credentials, and we have none for it."""
        return self._asked and self._credentials is None

    @property
    def granted(self) -> frozenset[str] | None:
        """The actions that the Bearer token allows, read from its claims.

        None if they cannot be read.
        """
        header = self.held() or ""
        if not self._scopes or not header.startswith("Bearer "):
            return None
        return granted_actions(header.removeprefix("Bearer "), self._scopes[0].repository)

    def learn(self, reply: Reply, used: str | None, more: Sequence[Scope] = ()) -> bool:
        """Learn from a 401 to a request that was sent with the header `used`.

        Returns whether to try again: False where neither this reply nor an earlier one has a
        challenge. `more`: the scopes that the request wanted beside the repository's own. Raises
        AuthError where the registry rejects our credentials.
        """
        with self._lock:
            challenge = choose(parse_challenges(reply.values("www-authenticate")))
            if challenge is None:
                challenge = self._challenge
            if challenge is None:
                return False
            if used is not None and self._is_final(used, challenge):
                words = self.words(reply.body)
                raise self.denied(f"{reply.status}{': ' if words else ''}{words}")
            self._judge(used)
            beside = {scope.repository for scope in more}
            own = [s for s in challenged_scopes(challenge) if s.repository not in beside]
            self._challenge = challenge
            self._scopes = merge(self._scopes, own)
            # Only the refused token is dropped: another thread may have got a new one since.
            self._tokens = {
                scopes: held
                for scopes, held in self._tokens.items()
                if used != f"Bearer {held.token.value}"
            }
            return True

    def denied(self, words: str = "") -> AuthError:
        """Return the error for a registry that wants credentials and has none, or rejects ours.

        `words`: the registry's status and error message.
        """
        said = f" ({words})" if words else ""
        scope = self._scopes[0] if self._scopes else None
        wants = ""
        if scope:
            wants = f" for '{','.join(scope.actions)}' on repository '{scope.repository}'"
        host = self._name.registry
        if self._credentials is None:
            return AuthError(
                f"{self._name}: the registry wants credentials{wants}{said}; "
                f"{without_credentials(host)}"
            )
        return AuthError(
            f"{self._name}: the registry rejected the credentials of "
            f"{described(self._credentials)}{wants}{said}; "
            f"{with_credentials(host, self._credentials.source)}"
        )

    def words(self, body: bytes) -> str:
        """Return the error message in an error body, with our secrets masked.

        Some servers repeat the secrets that they were sent.
        """
        return self._redactor.text(parse_problem(body).words)

    def _bearer(
        self, challenge: Challenge, scopes: tuple[Scope, ...], credentials: Credentials | None
    ) -> str:
        held = self._covering(scopes)
        if held is None:
            asked_at = self._clock()
            token = self._new_token(challenge, scopes, credentials)
            self._redactor.add((token.value,))
            self._tokens[scopes] = held = _Held(token, asked_at)
        return f"Bearer {held.token.value}"

    def _is_final(self, used: str, challenge: Challenge) -> bool:
        """Whether the refused header `used` was the only way to answer `challenge`."""
        if self._credentials and self._credentials.registry_token:
            return True
        return challenge.scheme == "basic" and used.startswith("Basic ")

    def _judge(self, used: str | None) -> None:
        """Believe stated lifetimes from now on, if `used` was refused after its stated lifetime.

        Distribution's specification has a token last 60 s at least, so a shorter stated lifetime is
        at first not believed; some servers mean it.
        """
        now = self._clock()
        for held in self._tokens.values():
            if used == f"Bearer {held.token.value}" and now >= held.asked_at + held.token.stated_s:
                self._stated = True

    def _covering(self, scopes: Sequence[Scope]) -> _Held | None:
        """Return a token that was requested with at least `scopes` and is not about to expire."""
        now = self._clock()
        for asked, held in self._tokens.items():
            lifetime_s = held.token.stated_s if self._stated else held.token.lifetime_s
            if set(scopes) <= set(asked) and held.lasts(now, lifetime_s):
                return held
        return None

    def _known_credentials(self) -> Credentials | None:
        if not self._asked:
            self._credentials = self._find_credentials()
            self._asked = True
            if self._credentials:
                self._redactor.add(self._credentials.secrets)
        return self._credentials

    def _new_token(
        self, challenge: Challenge, scopes: Sequence[Scope], credentials: Credentials | None
    ) -> Token:
        server = self._token_server(challenge)
        reply = None
        if credentials and credentials.identity_token:
            reply = self._fetch(_post(challenge, scopes, credentials))
        if reply is None or reply.status in (404, 405):
            reply = self._fetch(_get(challenge, scopes, credentials))
        if not 200 <= reply.status < 300:
            raise self._refused(reply, server)
        try:
            return parse_token(reply.body, reply.header("date"))
        except AuthError as error:
            raise AuthError(f"{self._name}: {error} (asked at {server.host})") from None

    def _token_server(self, challenge: Challenge) -> Origin:
        registry = self._origin()
        try:
            server = Origin.of(challenge.get("realm"))
        except RefusedError:
            raise AuthError(
                f"{self._name}: the registry's challenge names no valid URL of a token server"
            ) from None
        if server.scheme == "http" and registry.scheme == "https":
            raise AuthError(
                f"{self._name}: the registry wants the password sent to {server.host} by plain "
                "http; its administrator must correct the address of the token server"
            )
        if server.is_private and not registry.is_private:
            raise AuthError(
                f"{self._name}: the registry names the private address {server.host} as its "
                "token server; regpush sends no password there"
            )
        return server

    def _refused(self, reply: Reply, server: Origin) -> RegpushError | RetryableError:
        outcome = classify(reply.status, parse_problem(reply.body).code)
        words = self.words(reply.body)
        says = f"{reply.status}{': ' if words else ''}{words}"
        if outcome in (Outcome.BUSY, Outcome.FAILED):
            error = TransientError(f"{self._name}: the token server {server.host} answered {says}")
            if outcome is Outcome.FAILED:
                return error
            after = retry_after_s(reply.header("retry-after"), reply.header("date"))
            return RetryableError(error, after_s=after)
        return self.denied(f"the token server {server.host} answered {says}")


def _get(challenge: Challenge, scopes: Sequence[Scope], credentials: Credentials | None) -> Request:
    fields = [("service", challenge.get("service"))] if challenge.get("service") else []
    fields += [("scope", str(scope)) for scope in scopes]
    realm = challenge.get("realm").partition("#")[0]
    return Request(
        method="GET",
        url=f"{realm}{'&' if '?' in realm else '?'}{urlencode(fields)}",
        headers={"Authorization": credentials.basic} if credentials else {},
        limit=_TOKEN_LIMIT,
    )


def _post(challenge: Challenge, scopes: Sequence[Scope], credentials: Credentials) -> Request:
    fields = {
        "grant_type": "refresh_token",
        "service": challenge.get("service"),
        "client_id": "regpush",
        "scope": " ".join(map(str, scopes)),
        "refresh_token": credentials.identity_token,
    }
    return Request(
        method="POST",
        url=challenge.get("realm").partition("#")[0],
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        body=urlencode(fields).encode(),
        limit=_TOKEN_LIMIT,
    )
