"""Which layers an image need not have, because equal ones are in it or they hold nothing. Pure.

GKE image streaming serves no image with an empty layer or with one layer twice
(cloud.google.com/kubernetes-engine/docs/how-to/image-streaming, Limitations). Layers of
regpush only add files, links and directories: they delete nothing, and one push never writes
one path through a link that another of its layers made. So a layer has its full effect at the
uppermost place where it stands, if what lies between both places came from the same push, or
is itself repeated above.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from regpush.digest import Digest
from regpush.errors import UsageError

EMPTY = Digest.of(bytes(1024))
"""The diff ID of an archive of regpush's without members: two zero blocks."""


def uppermost(diff_ids: Sequence[Digest]) -> list[int]:
    """Which of the layers of one push stand in its image, counted from 0, lowest first.

    Of equal layers the uppermost; no empty one.
    """
    last = {diff_id: number for number, diff_id in enumerate(diff_ids)}
    last.pop(EMPTY, None)
    return sorted(last.values())


def repeated(
    base: Sequence[Digest], last_push: int, above: Collection[Digest], name: str
) -> frozenset[int]:
    """Which layers of a base, counted from 0, are left out below an image that has them itself.

    `base`: diff IDs, lowest first. `last_push`: the number of the first layer that the base's
    own push made; the count of all where regpush did not push it. `above`: diff IDs of the
    layers that a push puts on the base, which is called `name`.

    Raises UsageError where a layer that is kept lies over an equal one and was not pushed
    with it: whether it depends on that one is unknown.
    """
    found: set[int] = set()
    kept = False
    for number in reversed(range(len(base))):
        if base[number] not in above:
            kept = True
        elif kept and number < last_push:
            raise UsageError(
                f"layer {number + 1} of {len(base)} of the base {name} would be in the image "
                "twice, because the app has the same layer; choose another --layers or "
                "--max-layers, or a base without the app's files"
            )
        else:
            found.add(number)
    return frozenset(found)
