"""Finds layers that an image can do without: empty ones, and repeated ones. Pure.

GKE image streaming refuses images with an empty layer, or with one layer twice
(cloud.google.com/kubernetes-engine/docs/how-to/image-streaming, Limitations). Layers of regpush add
files, links and directories, and delete nothing; and no push writes a path through a link that
another of its layers made. So a repeated layer is needed only at its uppermost place, if all layers
between the two places came from one push, or are themselves repeated above.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from regpush.digest import Digest
from regpush.errors import UsageError

EMPTY = Digest.of(bytes(1024))
"""The diff ID of an empty archive: two blocks of zeros."""


def uppermost(diff_ids: Sequence[Digest]) -> list[int]:
    """Return the numbers, from 0, of the layers that the image of one push keeps, lowest first.

    Of equal layers the image keeps the uppermost, of empty layers none.
    """
    last = {diff_id: number for number, diff_id in enumerate(diff_ids)}
    last.pop(EMPTY, None)
    return sorted(last.values())


def repeated(
    base: Sequence[Digest], last_push: int, above: Collection[Digest], name: str
) -> frozenset[int]:
    """Return the numbers, from 0, of layers of a base that the image above leaves out.

    `base`: diff IDs, lowest first. `last_push`: the number of the first layer that the latest push
    of the base made; the number of all layers where regpush did not push the base. `above`: diff
    IDs of the layers put on the base, which is called `name`. Raises UsageError where a layer that
    stays lies over a repeated one and came from another push: whether it depends on that layer is
    unknown.
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
