"""Reads values of response headers: links, dates, waits, lengths (RFC 8288, RFC 9110). No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

_LONGEST_WAIT_S = 3600.0
_LINK = r"<([^<>]*)>([^<]*)"
_NEXT = r'(?i);\s*rel\s*=\s*(?:"next"|next(?:[\s;,]|$))'


def next_link(values: Iterable[str]) -> str | None:
    """Return the URL of rel="next" in `Link` headers (RFC 8288), unresolved; None without one."""
    for value in values:
        for match in re.finditer(_LINK, value):
            if re.search(_NEXT, match[2]):
                return match[1]
    return None


def http_date(text: str) -> datetime | None:
    """Read a date of RFC 9110; None where `text` is not one."""
    try:
        date = parsedate_to_datetime(text)
        return date if date.utcoffset() == timedelta(0) else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def retry_after_s(value: str, date: str) -> float | None:
    """Read the seconds to wait from `Retry-After`, 3,600 at most; None if unusable.

    A date is compared with `date`, the reply's own Date header, because this machine's clock may
    differ.
    """
    if re.fullmatch(r"[0-9]{1,12}", value.strip(), re.ASCII):
        return min(float(value), _LONGEST_WAIT_S)
    then, now = http_date(value), http_date(date)
    if then is None or now is None:
        return None
    return min(max((then - now).total_seconds(), 0.0), _LONGEST_WAIT_S)


def content_length(status: int, headers: Mapping[str, str]) -> int | None:
    """Return the size in bytes of a whole blob, from a reply to HEAD or to GET of its first byte.

    None where the headers do not state it, and for an encoded reply, whose Content-Length is that
    of the encoding.
    """
    if headers.get("content-encoding", "identity") != "identity":
        return None
    text = headers.get("content-length", "")
    if status == 206:
        text = headers.get("content-range", "").rpartition("/")[2]
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else None
