"""What registries say, read; what they are told, worded. Nothing here sends or waits.

OCI distribution-spec; RFC 9110 (challenges, Retry-After, Location), RFC 8288 (Link), and
distribution's token authentication. Server text is hostile: nothing in here raises on it
but where a docstring says so.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from regpush.digest import Digest
from regpush.errors import RefusedError, printable

MAX_ERROR_BYTES = 64 * 1024
"""An error body is read up to here, whatever comes after."""
MIN_TOKEN_LIFETIME_S = 60.0
MAX_TOKEN_LIFETIME_S = 24 * 3600.0
MAX_RETRY_AFTER_S = 24 * 3600.0

_MAX_WORDS = 300
_DEFAULT_PORT = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_SCHEME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PARAMETER = re.compile(
    r"([A-Za-z0-9!#$%&'*+.^_`|~-]+)[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"=]*))",
    re.DOTALL,
)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_LINK = re.compile(r"<([^>]*)>((?:[^,\"]|\"[^\"]*\")*)")
_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"[^\"]*\bnext\b[^\"]*\"|next\b)", re.IGNORECASE)


# --- where a request goes ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and effective port: what credentials are bound to (RFC 6454, section 4)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an absolute URL. Raises RefusedError for anything but http and https."""
        parts = _split(url)
        return cls(parts.scheme, (parts.hostname or "").lower(), _port(parts))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_private(self) -> bool:
        """Whether the host is an address literal, or the name, of this machine or its network."""
        host = self.host.rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            # As resolvers read them: 127.1, 0x7f000001 and 2130706433 are all this machine.
            address = ipaddress.ip_address(host if ":" in host else socket.inet_aton(host))
        except (OSError, ValueError):
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return not (mapped or address).is_global


def redirect_url(request_url: str, location: str | None) -> str:
    """Where a redirected GET or HEAD goes. Raises RefusedError for what must not be followed."""
    url = _resolve(request_url, location)
    if Origin.of(request_url).scheme == "https" and Origin.of(url).scheme != "https":
        raise RefusedError(f"{host_of(request_url)} redirects from https to http: not followed")
    return url


def upload_url(request_url: str, location: str | None, api: Origin) -> str:
    """Where the upload that `request_url` began or carried on continues (registry.md, Security).

    The raw query is kept. A Location on the registry's own host that lost its TLS is put
    back under it. Raises RefusedError for a missing or a dangerous Location.
    """
    url = _resolve(request_url, location)
    origin = Origin.of(url)
    if origin == api:
        return url
    if api.scheme == "https" and origin.scheme == "http":
        if origin.host != api.host or origin.port not in (80, api.port):
            raise RefusedError(
                f"the registry wants the upload sent to {origin} without TLS: not done"
            )
        netloc = _split(str(api)).netloc
        return urlunsplit(_split(url)._replace(scheme="https", netloc=netloc))
    if origin.is_private and not api.is_private:
        raise RefusedError(
            f"the registry wants the upload sent to {origin}, a private address: not done"
        )
    return url


def with_digest(url: str, digest: Digest) -> str:
    """`url` with `digest` appended to its query, of which not a byte changes."""
    return f"{url}{'&' if '?' in url else '?'}digest={digest}"


def next_page(request_url: str, links: Iterable[str]) -> str | None:
    """The URL of the next page by the Link headers, or None; never at another origin."""
    for header in links:
        for target, parameters in _LINK.findall(header):
            if _NEXT.search(parameters):
                try:
                    url = _resolve(request_url, target)
                    same = Origin.of(url) == Origin.of(request_url)
                except RefusedError:
                    return None
                return url if same else None
    return None


def host_of(url: str) -> str:
    """Host and port of `url`, for messages: paths and queries may hold secrets."""
    return printable(urlsplit(url).netloc.rpartition("@")[2])


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _port(parts)
    except ValueError:
        raise RefusedError("the registry sends us to a malformed address") from None
    if parts.scheme not in _DEFAULT_PORT or not _HOST.fullmatch(parts.hostname or ""):
        raise RefusedError("the registry sends us to an address that is neither http nor https")
    return parts


def _port(parts: SplitResult) -> int:
    return _DEFAULT_PORT.get(parts.scheme, 0) if parts.port is None else parts.port


def _resolve(request_url: str, location: str | None) -> str:
    if not location:
        raise RefusedError(f"{host_of(request_url)} answered without the Location it owes")
    if not location.isascii() or not location.isprintable() or " " in location:
        raise RefusedError(f"{host_of(request_url)} sends us to a malformed address")
    try:
        url = urljoin(request_url, location)
    except ValueError:
        raise RefusedError(f"{host_of(request_url)} sends us to a malformed address") from None
    if "@" in _split(url).netloc:
        raise RefusedError(f"{host_of(request_url)} sends us to an address with a user name in it")
    return url.partition("#")[0]


# --- authentication -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a 401 (RFC 9110, section 11.6.1); names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes it asks for."""
        return parse_scopes(self.parameters.get("scope", ""))


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Every challenge of the WWW-Authenticate headers, which may hold several each."""
    found: list[Challenge] = []
    for header in headers:
        parameters: dict[str, str] | None = None
        at = 0
        while at < len(header):
            if header[at] in " \t,":
                at += 1
            elif parameters is not None and (match := _PARAMETER.match(header, at)):
                name, quoted, bare = match.groups()
                value = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
                parameters.setdefault(name.lower(), value)
                at = match.end()
            elif match := _SCHEME.match(header, at):
                parameters = {}
                found.append(Challenge(match[0].lower(), parameters))
                at = match.end()
                blob = _TOKEN68.match(header, at + 1) if header[at : at + 1] == " " else None
                if blob:
                    at = blob.end()
            else:
                break  # not a challenge; what stands before it still counts
    return tuple(found)


def choose_challenge(challenges: Sequence[Challenge]) -> Challenge | None:
    """The one to answer: Bearer where a realm says from whom, else Basic, else None."""
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            return challenge
    return next((c for c in challenges if c.scheme == "basic"), None)


def realm_origin(realm: str, api: Origin) -> Origin:
    """The origin of the token server that a challenge names.

    Raises RefusedError where credentials must not go: without TLS, unless the registry
    itself goes without.
    """
    origin = Origin.of(_resolve(realm, realm))
    if origin.scheme != "https" and api.scheme == "https":
        raise RefusedError(
            f"the registry wants credentials sent to {origin}, without TLS: not done"
        )
    return origin


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is for: `repository:NAME` and actions, as `repository:NAME:pull,push`."""

    resource: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.resource}:{','.join(self.actions)}"


def repository_scope(repository: str, *actions: str) -> Scope:
    """The scope of `actions` on `repository`."""
    return Scope(f"repository:{repository}", actions)


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """Read space-separated scopes; what is not one is left out."""
    scopes = []
    for word in text.split():
        resource, colon, actions = word.rpartition(":")
        if colon and resource and word.isascii() and word.isprintable():
            scopes.append(Scope(resource, tuple(filter(None, actions.split(",")))))
    return tuple(scopes)


def merge_scopes(own: Sequence[Scope], asked: Iterable[Scope]) -> tuple[Scope, ...]:
    """`own` with what a challenge asked for on top, own order first: some read only the first.

    Never more than pull and push, whatever a challenge says (registry.md, Auth).
    """
    merged = {scope.resource: list(scope.actions) for scope in own}
    for scope in asked:
        actions = merged.setdefault(scope.resource, [])
        actions += [a for a in scope.actions if a in ("pull", "push") and a not in actions]
    return tuple(Scope(resource, tuple(actions)) for resource, actions in merged.items() if actions)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and how long after its arrival it is good, in seconds."""

    value: str = field(repr=False)
    lifetime_s: float


def parse_token(body: bytes) -> Token | None:
    """Read a token server's reply; None where there is no usable token in it.

    A lifetime below a minute, or none, means a minute. It counts from the arrival:
    `issued_at` is by a clock that may be anywhere.
    """
    reply = _json_object(body)
    value = reply.get("token") or reply.get("access_token")
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        return None
    lifetime = reply.get("expires_in")
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float):
        lifetime = MIN_TOKEN_LIFETIME_S
    if not math.isfinite(lifetime):
        lifetime = MIN_TOKEN_LIFETIME_S
    return Token(value, float(min(max(lifetime, MIN_TOKEN_LIFETIME_S), MAX_TOKEN_LIFETIME_S)))


# --- refusals -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """What an error body says: the spec's codes, and words for people, on one line."""

    codes: tuple[str, ...]
    words: str


def parse_problem(body: bytes) -> Problem:
    """Read `{"errors": [{code, message, detail}]}`, or get what can be got from anything else."""
    body = body[:MAX_ERROR_BYTES]
    reply = _json_object(body)
    errors = reply.get("errors")
    entries = [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else []
    if not entries and reply:
        entries = [reply]
    codes = [e["code"] for e in entries if isinstance(e.get("code"), str)]
    said = [_said(e) for e in entries]
    if not reply and not body.lstrip().startswith(b"<"):  # a page of HTML tells nobody anything
        said = [body.decode("utf-8", "replace")]
    words = "; ".join(dict.fromkeys(w for s in said if (w := _one_line(s))))
    return Problem(tuple(printable(c)[:64] for c in codes[:8]), words[:_MAX_WORDS])


def _said(entry: Mapping[str, Any]) -> str:
    for key in ("message", "details", "error_description", "error", "code"):
        if isinstance(value := entry.get(key), str) and value:
            return value
    return ""


def _one_line(text: str) -> str:
    return printable(" ".join(text[: 4 * _MAX_WORDS].split()))


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds by a Retry-After header, a number or a date (RFC 9110, 10.2.3); None if unusable.

    `now`: by the server's own clock where the reply has a Date.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text, re.ASCII):
        return min(float(text[:18]), MAX_RETRY_AFTER_S)
    date = parse_date(text)
    if date is None:
        return None
    return min(max((date - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


def parse_date(value: str | None) -> datetime | None:
    """Read an HTTP date; None if it is not one."""
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def parse_tags(body: bytes) -> tuple[str, ...]:
    """The tags of one page of a tag list; whatever is not one is left out."""
    tags = _json_object(body).get("tags")
    if not isinstance(tags, list):
        return ()
    return tuple(
        t for t in tags if isinstance(t, str) and re.fullmatch(r"[\w.-]{1,128}", t, re.ASCII)
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
