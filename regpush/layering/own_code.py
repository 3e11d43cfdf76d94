"""How the parts of a directory's own code share the layers that are theirs.

What changes next is unknown, and with it all that lies in the same layer is sent: so the
layers are to be about equally large, and a part is to stay where it is. How many layers
there are must hardly ever change, since that moves parts in most of them.

Both at once is consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam,
2018): a part goes where its name says, unless that is full. Of a tree of 500 MB on 64
layers, nine of ten files lie in layers of 6 MB at most, where hashing alone has 10; a part
that comes or goes changes one or two layers more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from regpush.closure import Item
from regpush.layering.rendezvous import preferences, rendezvous

LAYER_LIMIT = 10 << 30
"""Bytes of the largest layer that GitHub's registry takes; uncompressed ones are no smaller."""


def together(parts: Sequence[Item], room: int) -> list[tuple[Item, ...]]:
    """All in one layer, or where that would pass LAYER_LIMIT, in as few as stay well below it."""
    size, bins = sum(part.size for part in parts), 1
    while bins < room and 2 * size > bins * LAYER_LIMIT and size > LAYER_LIMIT:
        bins *= 2
    return _drawn(parts, min(bins, room))


def apart(parts: Sequence[Item], room: int) -> list[tuple[Item, ...]]:
    """The largest alone, in an eighth of `room` (>= 1) layers; the others by their names.

    None of these holds much more than the others, if their parts allow.
    """
    ordered = sorted(parts, key=lambda part: (-part.size, part.origin, part.name, part.path))
    alone, rest = ordered[: room // 8], ordered[room // 8 :]
    return [*((part,) for part in alone), *_level(rest, room - len(alone))]


def share(own: int, others: int, room: int) -> int:
    """Of `room` (>= 2) layers those for `own` bytes of code beside `others`, both at least one.

    In eighths: a finer share would change often. Two at least, since code changes more than
    what it stands on.
    """
    total = max(own + others, 1)
    eighths = (16 * own + total) // (2 * total)  # rounded
    return max(1, room * min(max(eighths, 2), 7) // 8)


def _level(parts: Sequence[Item], bins: int) -> list[tuple[Item, ...]]:
    """By their names into `bins` groups, those that are half as full again as the rest excepted.

    A part's size counts roughly: a few bytes more must not move its neighbours.
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
    """Who chooses first: it must not depend on what others there are, nor on sizes."""
    return hashlib.sha256(origin.encode("utf-8", "surrogatepass")).digest()


def _roughly(size: int) -> int:
    """`size`, up to an eighth larger."""
    step = 1 << max(size.bit_length() - 4, 0)
    return -(-size // step) * step


def _drawn(parts: Sequence[Item], bins: int) -> list[tuple[Item, ...]]:
    drawn: list[list[Item]] = [[] for _ in range(bins)]
    for part in parts:
        drawn[rendezvous(part.origin, bins)].append(part)
    return [tuple(group) for group in drawn if group]
