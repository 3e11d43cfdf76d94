"""Sizes and rates as people write them: `50MB`, `100mbit`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from regpush.errors import UsageError, printable

_PREFIX = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_NUMBER = r"([0-9]{1,9})(?:\.([0-9]{1,3}))?"


def parse_size(text: str) -> int:
    """Read `50MB`, `1.5GB`, `512KiB` or `1000` (bytes). Raises UsageError."""
    found = re.fullmatch(rf"{_NUMBER} ?([kmgt]i?|)b?", text, re.ASCII | re.IGNORECASE)
    if found is None:
        raise UsageError(f"bad size '{printable(text)}': such as 50MB, 1.5GB or 512KiB")
    return _scaled(found[1], found[2], (_PREFIX | _BINARY)[found[3].lower()])


@dataclass(frozen=True, slots=True)
class Link:
    """A network link, in bits a second, as they are sold."""

    bits_per_second: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `100mbit`, `2.5gbit` or `500kbit`. Raises UsageError."""
        pattern = rf"{_NUMBER} ?([kmg]?)bit(?:/s)?"
        found = re.fullmatch(pattern, text, re.ASCII | re.IGNORECASE)
        rate = _scaled(found[1], found[2], _PREFIX[found[3].lower()]) if found else 0
        if not rate:
            raise UsageError(f"bad link '{printable(text)}': such as 100mbit or 1gbit")
        return cls(rate)

    def seconds(self, size: int) -> float:
        """How long `size` bytes take at best."""
        return size * 8 / self.bits_per_second

    def __str__(self) -> str:
        for name, factor in (("Gbit/s", 1000**3), ("Mbit/s", 1000**2), ("kbit/s", 1000)):
            if self.bits_per_second >= factor:
                return f"{self.bits_per_second / factor:g} {name}"
        return f"{self.bits_per_second} bit/s"


def _scaled(whole: str, fraction: str | None, factor: int) -> int:
    thousandths = int((fraction or "").ljust(3, "0"))
    return (int(whole) * 1000 + thousandths) * factor // 1000
