"""Rendezvous hashing: which bin a key draws, so that another key changes no other's bin."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


def rendezvous(key: str, bins: int) -> int:
    """Highest random weight (Thaler and Ravishankar): another bin moves 1/bins of the keys.

    `key` is never a hash or a version, so that a new version stays where the old one was.
    """
    return max(range(bins), key=_weights(key))


def preferences(key: str, bins: int) -> list[int]:
    """All bins, the one that `rendezvous` gives first, then those `key` would draw next."""
    return sorted(range(bins), key=_weights(key), reverse=True)


def _weights(key: str) -> Callable[[int], bytes]:
    encoded = key.encode("utf-8", "surrogatepass")
    return lambda number: hashlib.sha256(b"%d %s" % (number, encoded)).digest()
