"""Reading what registries send: Locations, statuses, errors, links. Pure, no I/O.

OCI distribution-spec, "Endpoints" and "Error Codes"; RFC 9110 for the header values.
Everything here takes hostile input: it answers, or raises RefusedError, and nothing else.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from itertools import islice
from urllib.parse import quote, urljoin, urlsplit

from regpush.digest import Digest
from regpush.errors import RefusedError, printable

ERROR_LIMIT = 64 * 1024
"""Bytes of an error body that are read at most."""

_WORDS_LIMIT = 300
_LONGEST_WAIT_S = 3600.0
_URL = re.compile(r"[\x21-\x7e]{1,16384}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_NUMERIC = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)
_MARKUP = re.compile(r"(?is)<(script|style|title)\b.*?</\1\s*>|<[^>]*>")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}(?![0-9a-f])|sha512:[0-9a-f]{128}(?![0-9a-f])")
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_NEXT = re.compile(r';\s*rel\s*=\s*(?:"next"|next(?:[\s;,]|$))', re.IGNORECASE)
_DEFAULT_PORT = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and effective port: what decides whether credentials may go along."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an absolute http or https URL. Raises RefusedError for anything else."""
        try:
            if not _URL.fullmatch(url):
                raise ValueError(url)
            parts = urlsplit(url)
            port = parts.port
            host = _host(parts.hostname or "")
        except ValueError:
            raise RefusedError("the registry sent an address that is not a URL") from None
        if parts.scheme not in _DEFAULT_PORT:
            raise RefusedError(f"the registry sent an address of scheme '{parts.scheme[:20]}'")
        if "@" in parts.netloc:
            raise RefusedError(f"the registry sent an address with a user name in it, at {host}")
        if port == 0:
            raise RefusedError("the registry sent an address that is not a URL")
        return cls(parts.scheme, host, port or _DEFAULT_PORT[parts.scheme])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORT[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def is_private(self) -> bool:
        """Whether the host is an address, or a name, that means something only around here."""
        host = self.host.removesuffix(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            # Resolvers also read 127.1, 0x7f000001 and the like as addresses; nobody else does.
            return _NUMERIC.fullmatch(host.rpartition(".")[2]) is not None
        mapped = getattr(address, "ipv4_mapped", None)
        return not (mapped or address).is_global


def _host(host: str) -> str:
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    if not _HOST.fullmatch(host):
        raise ValueError(host)
    return host.lower()


@dataclass(frozen=True, slots=True)
class Location:
    """Where to go on; `upgraded` where http was made https."""

    url: str
    upgraded: bool


def upload_location(request: str, location: str, registry: Origin) -> Location:
    """Resolve an upload's Location against the URL of the `request` it answers.

    The query stays as it came. Raises RefusedError where the bytes must not go: to a user
    name, in the clear, or into a network that only the sender of the reply can name.
    """
    url = _resolve(request, location)
    origin = Origin.of(url)
    if origin.scheme == "http" and registry.scheme == "https" and origin.host == registry.host:
        # The port of http is no port of https; any other may well be the right one.
        there = Origin("https", origin.host, registry.port if origin.port == 80 else origin.port)
        return Location(_rebase(url, there), upgraded=True)
    _check_elsewhere(origin, registry)
    return Location(url, upgraded=False)


def redirect_location(request: str, location: str, registry: Origin) -> str:
    """Resolve the Location of a redirected GET or HEAD. Raises RefusedError as above."""
    url = _resolve(request, location)
    origin = Origin.of(url)
    if origin.scheme == "http" and Origin.of(request).scheme == "https":
        raise RefusedError(f"refusing to be redirected from https to plain http at {origin.host}")
    _check_elsewhere(origin, registry)
    return url


def _resolve(request: str, location: str) -> str:
    if not _URL.fullmatch(location):
        raise RefusedError("the registry sent an address that is not a URL")
    try:
        return urljoin(request, location).partition("#")[0]
    except ValueError:
        raise RefusedError("the registry sent an address that is not a URL") from None


def _rebase(url: str, origin: Origin) -> str:
    return f"{origin}{request_target(url)}"


def request_target(url: str) -> str:
    """Path and query of an absolute `url`, byte for byte."""
    rest = url.partition("://")[2]
    cut = re.search(r"[/?]", rest)
    target = rest[cut.start() :] if cut else ""
    return target if target.startswith("/") else f"/{target}"


def authority(url: str) -> str:
    """The Host header for `url`: the port stays wherever it was written."""
    return re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]


def _check_elsewhere(origin: Origin, registry: Origin) -> None:
    if origin == registry:
        return
    if origin.scheme == "http" and registry.scheme == "https":
        raise RefusedError(f"refusing to follow {registry} to plain http at {origin.host}")
    if origin.is_private and not registry.is_private:
        raise RefusedError(f"refusing to follow {registry} to the private address {origin.host}")


def with_digest(url: str, digest: Digest) -> str:
    """`url` with `digest` appended to whatever query it has."""
    mark = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return f"{url}{mark}digest={quote(str(digest), safe='')}"


class Outcome(Enum):
    """What a status, and the error code with it, means for what was asked."""

    OK = auto()
    MOVED = auto()
    UNAUTHORIZED = auto()
    ABSENT = auto()
    BUSY = auto()
    """Worth another try: overloaded, timed out, or broken between us and the registry."""
    TOO_LARGE = auto()
    BAD_DIGEST = auto()
    UPLOAD_LOST = auto()
    """The upload session is gone or out of step: the blob is there already, or starts anew."""
    BLOB_UNKNOWN = auto()
    FAILED = auto()
    """A fault of the server that another try at once will not mend."""
    REFUSED = auto()


_BUSY = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
_BY_CODE = {
    "DIGEST_INVALID": Outcome.BAD_DIGEST,
    "SIZE_INVALID": Outcome.BAD_DIGEST,
    "BLOB_UPLOAD_UNKNOWN": Outcome.UPLOAD_LOST,
    "BLOB_UPLOAD_INVALID": Outcome.UPLOAD_LOST,
    "RANGE_INVALID": Outcome.UPLOAD_LOST,
    "MANIFEST_BLOB_UNKNOWN": Outcome.BLOB_UNKNOWN,
    "TOOMANYREQUESTS": Outcome.BUSY,
}


def classify(status: int, code: str) -> Outcome:
    """Decide on the status first, then on the error code of the body, if any."""
    if 200 <= status < 300:
        return Outcome.OK
    if status in (301, 302, 303, 307, 308):
        return Outcome.MOVED
    if status in _BUSY:
        return Outcome.BUSY
    if status == 401 or (status == 403 and code == "UNAUTHORIZED"):
        return Outcome.UNAUTHORIZED
    if status == 413:
        return Outcome.TOO_LARGE
    if status in (400, 404, 409, 416) and code in _BY_CODE:
        return _BY_CODE[code]
    if status == 404:
        return Outcome.ABSENT
    if status == 416:
        return Outcome.UPLOAD_LOST
    return Outcome.FAILED if status >= 500 else Outcome.REFUSED


@dataclass(frozen=True, slots=True)
class Problem:
    """An error body: the first `code`, upper case, and words for people. Either may be empty."""

    code: str
    words: str


def parse_problem(body: bytes) -> Problem:
    """Read an error body, whatever it is: the spec's JSON, another's, a page, or nothing.

    The words are one printable line of a few hundred characters.
    """
    body = body[:ERROR_LIMIT]
    reply = parse_json(body)
    if reply is None:
        text = _MARKUP.sub(" ", body[: 16 * _WORDS_LIMIT].decode("utf-8", "replace"))
        return Problem("", _one_line(text))
    if not isinstance(reply, dict):
        return Problem("", "")
    errors = reply.get("errors")
    listed = [e for e in errors if isinstance(e, Mapping)] if isinstance(errors, list) else []
    if not listed:
        # Proxies and token servers answer with an object of their own.
        texts = [reply.get(key) for key in ("message", "details", "error_description", "error")]
        return Problem("", _one_line(next((t for t in texts if isinstance(t, str)), "")))
    code = listed[0].get("code")
    words = [str(error.get("message") or error.get("code") or "") for error in listed[:5]]
    return Problem(
        code.upper() if isinstance(code, str) else "",
        _one_line("; ".join(dict.fromkeys(words))),
    )


def _one_line(text: str) -> str:
    line = printable(" ".join(text[: 8 * _WORDS_LIMIT].split()))
    return line if len(line) <= _WORDS_LIMIT else f"{line[: _WORDS_LIMIT - 1]}…"


def digests_in(body: bytes) -> tuple[Digest, ...]:
    """The digests that an error body names, wherever in it they stand; a thousand at most."""
    text = body[:ERROR_LIMIT].decode("ascii", "replace")
    found = (match[0] for match in islice(_DIGEST.finditer(text), 1000))
    return tuple(Digest.parse(digest) for digest in dict.fromkeys(found))


def is_tag_conflict(status: int, problem: Problem) -> bool:
    """Whether a refused manifest was refused because its tag may not be moved.

    ECR says 400 TAG_INVALID, Harbor 412, others 409 or 403; all say why in words.
    """
    if status in (409, 412):
        return True
    words = problem.words.lower()
    told = any(word in words for word in ("immutab", "already exists", "overwrit"))
    return told and status in (400, 403, 405)


def parse_json(body: bytes) -> object:
    """The value of a JSON text, or None where it is none (or `null`)."""
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value


def next_link(values: Iterable[str]) -> str | None:
    """The address of the next page in `Link` headers (RFC 8288), unresolved."""
    for value in values:
        for match in _LINK.finditer(value):
            if _NEXT.search(match[2]):
                return match[1]
    return None


def http_date(text: str) -> datetime | None:
    """Read a date of RFC 9110; None where it is none."""
    try:
        date = parsedate_to_datetime(text)
        return date if date.utcoffset() == timedelta(0) else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def retry_after_s(value: str, date: str) -> float | None:
    """Seconds to wait by `Retry-After`, an hour at most; None where it says nothing usable.

    A date is taken relative to `date`, the reply's own Date header: our clock may differ.
    """
    if re.fullmatch(r"[0-9]{1,12}", value.strip(), re.ASCII):
        return min(float(value), _LONGEST_WAIT_S)
    then, now = http_date(value), http_date(date)
    if then is None or now is None:
        return None
    return min(max((then - now).total_seconds(), 0.0), _LONGEST_WAIT_S)


def content_length(status: int, headers: Mapping[str, str]) -> int | None:
    """The size of the whole resource that a HEAD, or a GET of its first byte, was told."""
    text = headers.get("content-length", "")
    if status == 206:
        text = headers.get("content-range", "").rpartition("/")[2]
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else None
