"""Where an upload goes on after it broke: what a server's Range says, and whether to believe it.

Pure. OCI distribution-spec, "Pushing a blob in chunks"; docs/internals/registries.md section 2,
"Range replies".
Positions are counts of bytes from the blob's beginning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from regpush.registry.quirks import is_one_too_high

_RANGE = re.compile(r"(bytes=)?0-(-1|[0-9]{1,18})", re.ASCII)


def stored(header: str, sent: int) -> int | None:
    """How many bytes `Range` says are stored, of `sent` at most; None where it does not tell.

    Reads `0-N`, `bytes=0-N` and olareg's `0--1`. `0-0` is one byte or, for many registries,
    none: then it is none if more than one byte was sent, and unknown if exactly one was.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    count = int(match[2]) + 1
    if count != 1:
        return count
    return None if sent == 1 else 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a 2xx to appended bytes amounts to: `stored` bytes are held, as far as we know.

    `credible` is False where the Range beside it cannot be true of an honest count.
    """

    stored: int
    credible: bool


def acknowledged(before: int, sent: int, header: str) -> Receipt:
    """Judge the Range of a reply that accepted the bytes from `before` to `sent`.

    A true count lies between: then the rest is missing. One that did not move, moved back
    or ran ahead is a registry's way of counting (ECR's never moves), and says nothing.
    """
    end = stored(header, sent)
    if end is None or end == sent:
        return Receipt(sent, credible=True)
    if before < end < sent:
        return Receipt(end, credible=True)
    return Receipt(sent, credible=False)


def resume_at(acked: int, sent: int, header: str) -> int | None:
    """Where a broken upload goes on, by the Range of its status; None: start a new one.

    The server's count wins if it lies within what was acknowledged and what was sent. Where it
    does not, or is counted one too high, the last acknowledged byte is tried, if there is one.
    """
    end = stored(header, sent)
    if end is not None and acked <= end <= sent and not is_one_too_high(header):
        return end
    return acked or None
