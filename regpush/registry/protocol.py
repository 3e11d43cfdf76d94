"""Reads the replies of registries: statuses, error bodies, digests. Pure, no I/O.

OCI distribution-spec, "Endpoints" and "Error Codes". All functions accept hostile input, and raise
at most RefusedError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum, auto
from itertools import islice
from urllib.parse import quote

from msgspec import Struct

from regpush.digest import Digest
from regpush.errors import printable
from regpush.http.exchange import ERROR_LIMIT

REDIRECTS = (301, 302, 303, 307, 308)
_WORDS_LIMIT = 300
_MARKUP = r"(?is)<(script|style|title)\b.*?</\1\s*>|<[^>]*>"
_DIGEST = r"sha256:[0-9a-f]{64}(?![0-9a-f])|sha512:[0-9a-f]{128}(?![0-9a-f])"


def with_digest(url: str, digest: Digest) -> str:
    """Append `digest=…` to the query of `url`, which may have none yet."""
    mark = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return f"{url}{mark}digest={quote(str(digest), safe='')}"


class Outcome(Enum):
    """The meaning of a reply for its request, by its status and error code."""

    OK = auto()
    MOVED = auto()
    UNAUTHORIZED = auto()
    ABSENT = auto()
    BUSY = auto()
    """The request may succeed at a retry: the registry is overloaded, timed out, or a proxy before
    it failed."""
    TOO_LARGE = auto()
    BAD_DIGEST = auto()
    UPLOAD_LOST = auto()
    """The upload session ended or is out of step: the blob exists already, or its upload must start
    anew."""
    BLOB_UNKNOWN = auto()
    FAILED = auto()
    """A fault of the server that an immediate retry will not mend."""
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
    """Return the meaning of a reply, by its status first, then by its error code if it has one."""
    if 200 <= status < 300:
        return Outcome.OK
    if status in REDIRECTS:
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


class Problem(Struct, frozen=True):
    """The first error of an error body: its `code` in upper case, its text. Each may be empty."""

    code: str
    words: str


def parse_problem(body: bytes) -> Problem:
    """Read an error body of any form: the specification's JSON, other JSON, HTML, or nothing.

    The words are one printable line of a few hundred characters.
    """
    body = body[:ERROR_LIMIT]
    reply = parse_json(body)
    if reply is None:
        text = re.sub(_MARKUP, " ", body[: 16 * _WORDS_LIMIT].decode("utf-8", "replace"))
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
    """Return the digests in an error body, each once; at most a thousand are looked at."""
    text = body[:ERROR_LIMIT].decode("ascii", "replace")
    found = (match[0] for match in islice(re.finditer(_DIGEST, text), 1000))
    return tuple(Digest.parse(digest) for digest in dict.fromkeys(found))


def parse_json(body: bytes) -> object:
    """Return the value of a JSON text; None where it is malformed (or `null`)."""
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value
