"""Where a stream of files is cut into layers. Pure.

Paths and sizes near a cut decide it, as in content-defined chunking (Muthitacharoen, Chen and
Mazieres, 2001): so a file that is changed, added or removed changes one layer or two, and the
layers after it stay the same.

The length of the stream is unknown before its end. So layers become larger the more there are: of
64 layers, the first eight have 8 MiB on average, the next eight 16, and so on up to 1 GiB. Together
these have 16 GiB, and the last layer gets everything after that.
"""

from __future__ import annotations

import hashlib

_FIRST = 8 << 20
"""Bytes of the first layers, on average."""
_STEPS = 8
"""How many averages there are, each twice the one before."""
_APART = 1 << 20
"""Bytes from which on a layer ends where the next top-level folder begins.

Files that change are then in few layers.
"""
_RECORD = 512
"""Bytes of an archive that an entry needs besides its content.

POSIX pax, "ustar Interchange Format".
"""


class Cuts:
    """Decides, for one entry after another, where a layer ends; `most` (>= 1) layers at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._done = 0
        self._filled = 0
        self._top = b""

    @property
    def is_last(self) -> bool:
        """Whether no further layer may begin."""
        return self._done + 1 >= self._most

    def begins(self, path: bytes, size: int) -> bool:
        """Whether the entry at `path` with `size` bytes begins a layer; it is counted as added."""
        size += _RECORD
        cut = bool(self._filled) and not self.is_last and self._is_cut(path, size)
        if cut:
            self.cut()
        self._filled += size
        self._top = path.partition(b"/")[0]
        return cut

    def cut(self) -> None:
        """Begin a layer with the next entry."""
        self._done += 1
        self._filled = 0

    def _is_cut(self, path: bytes, size: int) -> bool:
        average = _FIRST << (self._done * _STEPS // self._most)
        if self._filled + size > 2 * average:
            return True
        if self._filled >= _APART and path.partition(b"/")[0] != self._top:
            return True
        return self._filled >= average // 4 and _drawn(path) * average < size


def _drawn(path: bytes) -> float:
    """Hash `path` to a number in [0, 1), evenly spread, that depends on `path` alone."""
    return int.from_bytes(hashlib.blake2b(path, digest_size=6).digest()) / (1 << 48)
