"""Decides at which position a broken upload continues, by the server's Range. Pure.

OCI distribution-spec, "Pushing a blob in chunks"; docs/internals/registries.md section 2, "Range
replies". Positions are numbers of bytes from the blob's beginning.
"""

from __future__ import annotations

import re

from msgspec import Struct

from regpush.registry.quirks import is_one_too_high

_RANGE = r"(bytes=)?0-(-1|[0-9]{1,18})"


def stored(header: str, sent: int) -> int | None:
    """Return how many of `sent` bytes the Range `header` says are stored; None if it is unclear.

    Reads `0-N`, `bytes=0-N` and olareg's `0--1`. `0-0` means one byte or, for many registries, no
    byte: it is read as no byte if more than one byte was sent, and as unknown if exactly one was.
    """
    match = re.fullmatch(_RANGE, header.strip())
    if match is None:
        return None
    count = int(match[2]) + 1
    if count != 1:
        return count
    return None if sent == 1 else 0


class Receipt(Struct, frozen=True):
    """The result of a 2xx reply to appended bytes: the registry holds `stored` bytes.

    `credible` is False where the reply's Range cannot be an honest count.
    """

    stored: int
    credible: bool


def acknowledged(before: int, sent: int, header: str) -> Receipt:
    """Judge the Range of a reply that accepted the bytes from `before` to `sent`.

    A count between the two is true: the bytes after it are missing. A count that did not move,
    moved back or ran ahead is how that registry counts (ECR's never moves), and is ignored.
    """
    end = stored(header, sent)
    if end is None or end == sent:
        return Receipt(sent, credible=True)
    if before < end < sent:
        return Receipt(end, credible=True)
    return Receipt(sent, credible=False)


def resume_at(acked: int, sent: int, header: str) -> int | None:
    """Return the position at which a broken upload continues; None to start anew.

    `header`: the Range in the session's status. Its count is taken if it lies between `acked`, the
    bytes acknowledged, and `sent`, the bytes sent. If it does not, or is one too high, the last
    acknowledged position is tried, unless that is 0.
    """
    end = stored(header, sent)
    if end is not None and acked <= end <= sent and not is_one_too_high(header):
        return end
    return acked or None
