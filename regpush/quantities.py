"""Reads sizes, rates and times as people write them: `50MB`, `100mbit`, `2026-11-29T10:00:00Z`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Self

from msgspec import Struct

from regpush.errors import UsageError, printable

_PREFIX = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_NUMBER = r"([0-9]{1,9})(?:\.([0-9]{1,3}))?"
_HOUR_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
# RFC 3339, section 5.6, with the blank that its note allows in place of the T. A leap second is
# refused, as Go's time.Parse refuses it, with which other tools read the dates of images.
_RFC_3339 = rf"({_DATE})[Tt ]({_HOUR_MINUTE}:[0-5][0-9])(?:\.[0-9]+)?([Zz]|[+-]{_HOUR_MINUTE})"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LAST_SECOND = 253402300799
"""Seconds from 1970 to the end of the year 9999, the last that RFC 3339 can express."""

LAYER_LIMIT = 10 << 30
"""Bytes of the largest layer that GitHub's registry takes. It is compared with uncompressed sizes,
which are rarely smaller than compressed ones."""


def parse_size(text: str) -> int:
    """Read `50MB`, `1.5GB`, `512KiB` or `1000` (bytes); returns bytes.

    Raises UsageError for text of another form.
    """
    found = re.fullmatch(rf"{_NUMBER} ?([kmgt]i?|)b?", text, re.ASCII | re.IGNORECASE)
    if found is None:
        raise UsageError(
            f"bad size '{printable(text)}': expected one such as 50MB, 1.5GB or 512KiB"
        )
    return _scaled(found[1], found[2], (_PREFIX | _BINARY)[found[3].lower()])


def parse_time(text: str) -> int:
    """Read seconds since 1970 or an RFC 3339 time; returns seconds since 1970.

    A fraction of a second is cut off. Raises UsageError for other text, and for a date or a time
    without an offset, which has different meanings in different places.
    """
    if re.fullmatch("[0-9]{1,12}", text, re.ASCII):
        seconds = int(text)
    elif found := re.fullmatch(_RFC_3339, text):
        seconds = _since_1970(text, f"{found[1]}T{found[2]}", found[3].upper())
    else:
        raise UsageError(f"bad time '{printable(text[:100])}': {_wanted(text)}")
    if not 0 <= seconds <= LAST_SECOND:
        raise UsageError(f"bad time '{printable(text)}': it must be from 1970 to 9999 in UTC")
    return seconds


def _since_1970(text: str, local: str, offset: str) -> int:
    try:
        return (datetime.fromisoformat(local + offset) - _EPOCH) // timedelta(seconds=1)
    except ValueError as error:
        raise UsageError(f"bad time '{printable(text)}': {error}") from error


def _wanted(text: str) -> str:
    """Return the advice for `text`, which is not a time that regpush reads."""
    if re.fullmatch(_DATE, text):
        return f"say {text}T00:00:00Z"
    if re.fullmatch(rf"{_DATE}[Tt ]{_HOUR_MINUTE}:[0-5][0-9](\.[0-9]+)?", text):
        return f"it has no offset from UTC; say {text}Z"
    return "expected one such as 2026-11-29T10:00:00Z, or seconds since 1970"


class Link(Struct, frozen=True):
    """The speed of a network link."""

    bits_per_second: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `100mbit`, `2.5gbit` or `500kbit`, per second. Raises UsageError for other text."""
        pattern = rf"{_NUMBER} ?([kmg]?)bit(?:/s)?"
        found = re.fullmatch(pattern, text, re.ASCII | re.IGNORECASE)
        rate = _scaled(found[1], found[2], _PREFIX[found[3].lower()]) if found else 0
        if not rate:
            raise UsageError(f"bad link '{printable(text)}': expected one such as 100mbit or 1gbit")
        return cls(rate)

    def seconds(self, size: int) -> float:
        """Return the seconds that `size` bytes take at the full rate."""
        return size * 8 / self.bits_per_second

    def __str__(self) -> str:
        for name, factor in (("Gbit/s", 1000**3), ("Mbit/s", 1000**2), ("kbit/s", 1000)):
            if self.bits_per_second >= factor:
                return f"{self.bits_per_second / factor:g} {name}"
        return f"{self.bits_per_second} bit/s"


def _scaled(whole: str, fraction: str | None, factor: int) -> int:
    thousandths = int((fraction or "").ljust(3, "0"))
    return (int(whole) * 1000 + thousandths) * factor // 1000
