"""Reads challenges, scopes and tokens of registries. Pure, no I/O.

RFC 9110 section 11 for `WWW-Authenticate`; distribution's token specification for scopes and the
token server's reply.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import Struct

from regpush.errors import AuthError
from regpush.http.headers import http_date
from regpush.registry.protocol import parse_json

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'(?s)"((?:[^"\\]|\\.)*)(?:"|$)'
_UNQUOTED = r'[^\s,"]+'
_TOKEN68 = r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))"
_BLANK = r"[ \t]*"
_SEPARATOR = r"[ \t,]*"
_ESCAPED = r"(?s)\\(.)"
SENDABLE = r"[\x21-\x7e]{1,65536}"
"""Matches a token that a header can hold: 1 to 65536 printable ASCII characters, no blanks."""

_ACTIONS = ("pull", "push")

_SHORTEST_LIFETIME_S = 60.0
_BRIEFEST_LIFETIME_S = 0.5
_LONGEST_LIFETIME_S = 86_400.0


class Challenge(Struct, frozen=True):
    """One challenge: `scheme` in lower case, parameters with lower-case names."""

    scheme: str
    parameters: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """Return the parameter `name`, or the empty string."""
        return dict(self.parameters).get(name, "")


class Scope(Struct, frozen=True):
    """The actions that a token allows on one repository.

    `str()` gives `repository:NAME:pull,push`.
    """

    repository: str
    actions: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Scope | None:
        """Read `repository:NAME:ACTIONS`, reduced to pull and push; None if neither is left.

        Other resource types give None. regpush never asks for `delete` or `*`, whatever a challenge
        says.
        """
        kind, _, rest = text.partition(":")
        name, _, actions = rest.rpartition(":")
        asked = actions.split(",")
        wanted = tuple(action for action in _ACTIONS if action in asked)
        return cls(name, wanted) if kind == "repository" and name and wanted else None

    def __str__(self) -> str:
        return f"repository:{self.repository}:{','.join(self.actions)}"


@dataclass(frozen=True, slots=True)
class Token:
    """A Bearer token, with the seconds for which it may be used.

    `stated_s` is the lifetime that the token server states; `lifetime_s` is that, but a minute at
    least, as the specification wants.
    """

    value: str = field(repr=False)
    lifetime_s: float
    stated_s: float


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Read the challenges of all `WWW-Authenticate` headers of a reply.

    Malformed challenges are skipped.
    """
    return [challenge for value in values for challenge in _parse(value)]


def _parse(value: str) -> list[Challenge]:
    found: list[tuple[str, list[tuple[str, str]]]] = []
    at = 0
    while (at := _end(_SEPARATOR, value, at)) < len(value):
        name = _match(_NAME, value, at)
        if name is None:
            comma = value.find(",", at)
            at = len(value) if comma < 0 else comma
            continue
        after = _end(_BLANK, value, name.end())
        if found and value.startswith("=", after):
            text, at = _value(value, _end(_BLANK, value, after + 1))
            found[-1][1].append((name[0].lower(), text))
            continue
        found.append((name[0].lower(), []))
        at = name.end()
        opaque = _match(_TOKEN68, value, after) if after > name.end() else None
        if opaque:
            at = opaque.end()
    return [Challenge(scheme, tuple(parameters)) for scheme, parameters in found]


def _match(pattern: str, value: str, at: int) -> re.Match[str] | None:
    return re.compile(pattern).match(value, at)


def _end(pattern: str, value: str, at: int) -> int:
    match = _match(pattern, value, at)
    return match.end() if match else at


def _value(value: str, at: int) -> tuple[str, int]:
    if quoted := _match(_QUOTED, value, at):
        return re.sub(_ESCAPED, r"\1", quoted[1]), quoted.end()
    # Some servers do not quote the URL in `realm`, though RFC 9110 wants quotes.
    plain = _match(_UNQUOTED, value, at)
    return (plain[0], plain.end()) if plain else ("", at)


def choose(challenges: Sequence[Challenge]) -> Challenge | None:
    """Return the challenge to answer: Bearer if it names a token server, else Basic, else None."""
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.get("realm"):
            return challenge
    return next((c for c in challenges if c.scheme == "basic"), None)


def merge(wanted: Sequence[Scope], more: Iterable[Scope]) -> tuple[Scope, ...]:
    """Return the scopes `wanted` widened by the scopes `more`, one scope for each repository.

    The order is that of `wanted`, then `more`, because some token servers read only the first
    scope.
    """
    actions = {scope.repository: set(scope.actions) for scope in wanted}
    for scope in more:
        actions.setdefault(scope.repository, set()).update(scope.actions)
    return tuple(
        Scope(repository, tuple(action for action in _ACTIONS if action in allowed))
        for repository, allowed in actions.items()
    )


def challenged_scopes(challenge: Challenge) -> tuple[Scope, ...]:
    """Return the scopes of repositories in a challenge, reduced to the actions pull and push.

    Scopes of other resources, and those with neither of the two actions, are left out.
    """
    scopes = map(Scope.parse, challenge.get("scope").split())
    return tuple(scope for scope in scopes if scope)


def parse_token(body: bytes, date: str) -> Token:
    """Read a token server's reply; `date` is its Date header. Raises AuthError.

    A lifetime that is missing or below a minute is replaced by a minute. `issued_at` is compared
    with the server's own clock, and ignored if it lies in the future.
    """
    reply = parse_json(body)
    if not isinstance(reply, dict):
        raise AuthError("the token server's reply is not a JSON object")
    value = reply.get("token") or reply.get("access_token")
    if not isinstance(value, str) or not re.fullmatch(SENDABLE, value):
        raise AuthError("the token server's reply holds no token")
    lifetime = reply.get("expires_in")
    if not isinstance(lifetime, (int, float)) or not math.isfinite(lifetime):
        lifetime = _SHORTEST_LIFETIME_S
    left = min(lifetime, _LONGEST_LIFETIME_S) - _age_s(reply.get("issued_at"), date)
    return Token(value, max(left, _SHORTEST_LIFETIME_S), max(left, _BRIEFEST_LIFETIME_S))


def _age_s(issued_at: object, date: str) -> float:
    now = http_date(date)
    if now is None or not isinstance(issued_at, str):
        return 0.0
    try:
        issued = datetime.fromisoformat(issued_at)
        return max((now - issued).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):  # TypeError: a time without a zone
        return 0.0


def granted_actions(token: str, repository: str) -> frozenset[str] | None:
    """Read which actions on `repository` a token allows, for messages; None if it cannot be read.

    The token is read as a JSON web token, per distribution's specification. Only the registry can
    check its signature.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = parse_json(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    access = claims.get("access") if isinstance(claims, dict) else None
    if not isinstance(access, list):
        return None
    allowed: set[str] = set()
    for one in access:
        if isinstance(one, dict) and (one.get("type"), one.get("name")) == (
            "repository",
            repository,
        ):
            actions = one.get("actions")
            listed = actions if isinstance(actions, list) else []
            allowed.update(action for action in listed if isinstance(action, str))
    return frozenset(allowed)
