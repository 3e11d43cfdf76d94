"""How much of a layer each of its items takes, by reading the layer.

An image says what is in a layer, not how large each item is: that takes the archive itself.
Nothing is stored.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, TypeAlias

from regpush.concurrency import Cancellation, parallel
from regpush.digest import Digest
from regpush.errors import VerificationError, printable
from regpush.image.image import Image, Layer
from regpush.pack.compression import LAYERS, Pulled, decompressed
from regpush.registry.client import Repository

_RECORD = 512
_NAMES = 2
"""Names of a path that say what something is, where the layer does not say."""


Weights: TypeAlias = Mapping[Digest, Mapping[str, int]]
"""Of layers that were read, by the digests of their blobs: unpacked bytes by item."""


def weigh_image(
    image: Image, repository: Repository, jobs: int, known: Weights, cancel: Cancellation
) -> Weights:
    """The weights of all layers of `image` that are not `known`; raises as `weigh` does."""
    wanted = {
        layer.descriptor.digest: layer
        for layer in sorted(image.layers, key=lambda one: -one.descriptor.size)
        if layer.descriptor.digest not in known
    }
    found = parallel(
        jobs, list(wanted.values()), lambda layer: weigh(layer, repository, cancel), cancel
    )
    return dict(zip(wanted, found, strict=True))


def weigh(layer: Layer, repository: Repository, cancel: Cancellation) -> Mapping[str, int]:
    """Bytes of the unpacked archive for each item, by its path; the largest first.

    Where the layer says of no items, folders near the root stand for them. What lies in none,
    as the directories above them, is left out. Raises VerificationError for a blob that is not
    what it should be, what the registry's failures are otherwise, CancelledError.
    """
    if layer.descriptor.media_type not in LAYERS:
        return {}
    owner = _Owners(layer.items)
    found: dict[str, int] = {}
    with closing(repository.read_blob(layer.descriptor)) as blocks:
        source: Any = Pulled(decompressed(layer.descriptor.media_type, blocks))
        try:
            with tarfile.open(fileobj=source, mode="r|", bufsize=1 << 20) as archive:
                for member in archive:
                    cancel.check()
                    whose = owner.of(_normal(member.name), is_folder=member.isdir())
                    if whose:
                        size = _RECORD + member.size + -member.size % _RECORD
                        found[whose] = found.get(whose, 0) + size
        except tarfile.TarError as error:
            raise VerificationError(
                f"{repository.name}: blob {layer.descriptor.digest} is no tar archive: "
                f"{printable(str(error))}"
            ) from error
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _normal(name: str) -> str:
    """A member's name without slashes around it, and without the `./` of other tools."""
    return posixpath.normpath(name.strip("/"))


class _Owners:
    """Whose the paths of a layer are, by the items that it lists.

    A store's item is all that is below its path. One of a directory may lie in several
    places, of which the image names one.
    """

    def __init__(self, items: Sequence[str]) -> None:
        self._items = {path.strip("/"): path for path in items if path.startswith("/")}
        self._only = next(iter(self._items.values())) if len(self._items) == 1 else ""
        self._generated = next((path for path in items if not path.startswith("/")), "")
        self._tops = {path.partition("/")[0] for path in self._items}
        depths = [path.count("/") + 1 for path in self._items]
        self._depth = min(depths, default=_NAMES)

    def of(self, path: str, *, is_folder: bool) -> str:
        """The item that is, or is nearest above, `path`; where none is, what can be told.

        Empty for a folder above items.
        """
        above = path
        while above:
            if above in self._items:
                return self._items[above]
            above = above.rpartition("/")[0]
        if self._items and is_folder:
            return ""
        if self._generated and path.partition("/")[0] not in self._tops:
            return self._generated
        return self._only or "/" + "/".join(path.split("/")[: self._depth])
