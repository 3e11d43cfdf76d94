"""Where a stream of files is cut into layers. Pure.

Where one layer ends and the next begins follows from paths and sizes near that place alone, as in
content-defined chunking (Muthitacharoen, Chen and Mazieres, 2001): so a file that changes, comes
or goes changes one layer, or two, and those after it stay.

How long the stream is, nobody knows before its end. So layers become larger the more there are:
with 64 layers at most, the first eight have 8 MiB on average, the next eight 16, and so on up to
1 GiB. 16 GiB fit into those, and the last one takes what is left.
"""

from __future__ import annotations

import hashlib

_FIRST = 8 << 20
"""Bytes of the first layers, on average."""
_STEPS = 8
"""How often the average doubles."""
_APART = 1 << 20
"""Bytes from which on a layer ends with its folder in the root: what changes is in few of them."""
_RECORD = 512
"""Bytes of an archive that an entry takes besides its content (POSIX pax, "ustar Interchange
Format")."""


class Cuts:
    """Where layers end, `most` (>= 1) of them at most: asked for one entry after another."""

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
        """Whether the entry at `path` with `size` bytes begins a layer; it is in one afterwards."""
        size += _RECORD
        cut = bool(self._filled) and not self.is_last and self._is_cut(path, size)
        if cut:
            self.cut()
        self._filled += size
        self._top = path.partition(b"/")[0]
        return cut

    def cut(self) -> None:
        """Begin a layer, whatever comes next."""
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
    """A number below 1 that only `path` decides, evenly spread."""
    return int.from_bytes(hashlib.blake2b(path, digest_size=6).digest()) / (1 << 48)
