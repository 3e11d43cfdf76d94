"""Decide where a stream of files is cut into layers. Pure.

Only the path and size of the files near a cut decide about it, as in content-defined chunking
(Muthitacharoen, Chen and Mazieres, 2001). So a file that is changed, added or removed changes one
or two layers, and the layers after it stay equal.

The length of the stream is unknown before its end. Therefore each eighth of the layers has twice
the average size of the eighth before it: of 64 layers, the first eight have 8 MiB on average, the
next eight 16 MiB, and so on up to 1 GiB. Together they have 16 GiB; the last layer gets the rest.
"""

from __future__ import annotations

import hashlib

_FIRST = 8 << 20
"""Average size, in bytes, of a layer in the first eighth of the layers."""
_STEPS = 8
"""Number of different average sizes; each is twice the one before it."""
_APART = 1 << 20
"""A layer with at least this many bytes ends where the next top-level folder begins.

Files of one top-level folder tend to change together, and are then in few layers.
"""
_RECORD = 512
"""Bytes that a tar archive needs for an entry's header (POSIX pax, "ustar Interchange Format")."""


class Cuts:
    """Decides for each entry, in the archive's order, whether a new layer begins with it.

    `most`: the maximum number of layers, at least 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._done = 0
        self._filled = 0
        self._top = b""

    @property
    def is_last(self) -> bool:
        """Whether the current layer is the last one that `most` permits."""
        return self._done + 1 >= self._most

    def begins(self, path: bytes, size: int) -> bool:
        """Add the entry at `path` with `size` bytes of content; tell whether it begins a layer."""
        size += _RECORD
        cut = bool(self._filled) and not self.is_last and self._is_cut(path, size)
        if cut:
            self.cut()
        self._filled += size
        self._top = path.partition(b"/")[0]
        return cut

    def cut(self) -> None:
        """End the current layer, so that the next entry begins a new one."""
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
    """Return a number in [0, 1), uniformly distributed, which is a hash of `path`."""
    return int.from_bytes(hashlib.blake2b(path, digest_size=6).digest()) / (1 << 48)
