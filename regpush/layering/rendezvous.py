"""Rendezvous hashing: chooses a bin for a key, independently of all other keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


def rendezvous(key: str, bins: int) -> int:
    """Return the bin that the hash of `key` selects, by highest random weight.

    Source: Thaler and Ravishankar. With one more bin, 1/bins of the keys move. `key` never contains
    a hash or a version, so that a new version stays in the bin of the old one.
    """
    return max(range(bins), key=_weights(key))


def preferences(key: str, bins: int) -> list[int]:
    """Return all bins in the order in which `key` prefers them; `rendezvous` gives the first."""
    return sorted(range(bins), key=_weights(key), reverse=True)


def _weights(key: str) -> Callable[[int], bytes]:
    encoded = key.encode("utf-8", "surrogatepass")
    return lambda number: hashlib.sha256(b"%d %s" % (number, encoded)).digest()
