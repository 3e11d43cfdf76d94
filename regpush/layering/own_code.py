"""Spreads the parts of a directory's own code over the layers reserved for them.

A changed part is sent together with everything in its layer, and which part changes next is
unknown: so layers should be about equally large, and a part should stay in its layer. The number of
layers should hardly ever change, because that moves parts in most layers. Consistent hashing with
bounded loads gives both (Mirrokni, Thorup and Zadimoghaddam, 2018): a part joins the layer that the
hash of its name selects, unless that layer is full. Of a tree of 500 MB on 64 layers, nine of ten
files lie in layers of 6 MB at most, where plain hashing gives 10; a part that is added or removed
changes one or two more layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from regpush.closure import Item
from regpush.layering.rendezvous import preferences, rendezvous
from regpush.quantities import LAYER_LIMIT


def together(parts: Sequence[Item], room: int) -> list[tuple[Item, ...]]:
    """Put all parts into one layer, or into as few as keep each well below LAYER_LIMIT."""
    size, bins = sum(part.size for part in parts), 1
    while bins < room and 2 * size > bins * LAYER_LIMIT and size > LAYER_LIMIT:
        bins *= 2
    return _drawn(parts, min(bins, room))


def apart(parts: Sequence[Item], room: int) -> list[tuple[Item, ...]]:
    """Give each of the largest parts a layer of its own, and spread the other parts over layers.

    An eighth of `room`, the number of layers (>= 1), is for the largest parts. The name of another
    part decides which of the remaining layers it joins. None of these is much larger
    than the others, as far as the sizes of the parts allow.
    """
    ordered = sorted(parts, key=lambda part: (-part.size, part.origin, part.name, part.path))
    alone, rest = ordered[: room // 8], ordered[room // 8 :]
    return [*((part,) for part in alone), *_level(rest, room - len(alone))]


def share(own: int, others: int, room: int) -> int:
    """Return how many of `room` (>= 2) layers `own` bytes of code get beside `others` bytes.

    Both sizes are at least 1. The share is a number of eighths of `room`, because a finer share
    would change often. It is at least two eighths, since code changes more often than its
    dependencies.
    """
    total = max(own + others, 1)
    eighths = (16 * own + total) // (2 * total)  # rounded
    return max(1, room * min(max(eighths, 2), 7) // 8)


def _level(parts: Sequence[Item], bins: int) -> list[tuple[Item, ...]]:
    """Spread the parts over `bins` groups by their names; no group exceeds the mean by half.

    A part's size is rounded, so that a few more bytes do not move its neighbours.
    """
    full = _roughly(sum(part.size for part in parts)) * 3 // (2 * bins)
    groups: list[list[Item]] = [[] for _ in range(bins)]
    loads = [0] * bins
    for part in sorted(parts, key=lambda part: (_place(part.origin), part.name, part.path)):
        size = _roughly(part.size)
        choices = preferences(part.origin, bins)
        fitting = (one for one in choices if loads[one] + size <= full)
        chosen = next(fitting, None)
        if chosen is None:
            chosen = min(choices, key=lambda one: loads[one])
        loads[chosen] += size
        groups[chosen].append(part)
    return [tuple(group) for group in groups if group]


def _place(origin: str) -> bytes:
    """Return the sort key that decides when a part chooses its layer.

    The key depends neither on other parts nor on sizes.
    """
    return hashlib.sha256(origin.encode("utf-8", "surrogatepass")).digest()


def _roughly(size: int) -> int:
    """Return `size` rounded up, by an eighth at most."""
    step = 1 << max(size.bit_length() - 4, 0)
    return -(-size // step) * step


def _drawn(parts: Sequence[Item], bins: int) -> list[tuple[Item, ...]]:
    drawn: list[list[Item]] = [[] for _ in range(bins)]
    for part in parts:
        drawn[rendezvous(part.origin, bins)].append(part)
    return [tuple(group) for group in drawn if group]
