"""Rendezvous hashing: which bin a key draws, so that another key changes no other's bin."""

from __future__ import annotations

import hashlib


def rendezvous(key: str, bins: int) -> int:
    """Highest random weight (Thaler and Ravishankar): another bin moves 1/bins of the keys.

    `key` is never a hash or a version, so that a new version stays where the old one was.
    """
    encoded = key.encode("utf-8", "surrogatepass")
    return max(
        range(bins), key=lambda number: hashlib.sha256(b"%d %s" % (number, encoded)).digest()
    )
