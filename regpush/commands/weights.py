"""The bytes of each item in a layer, measured by reading the layer.

An image records the items in a layer, but not their sizes. Nothing is stored.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, TypeAlias

from regpush.concurrency import Cancellation, parallel
from regpush.digest import Digest
from regpush.errors import VerificationError
from regpush.files.untar import members
from regpush.image.image import Image, Layer
from regpush.pack.compression import LAYERS, decompressed
from regpush.registry.repository import Repository

_RECORD = 512
_LONGEST = 4096
"""Characters of a name that are kept: PATH_MAX."""
_NAMED = 16 << 20
"""Characters of all names of a layer that are kept. All further items are counted as one."""
_REST = "(more)"
_ITEM = "/"
"""The key of an item in the tree of folders, where no name contains a slash."""
_NAMES = 2
"""Names of a path that identify an item, in a layer that records no items."""


Weights: TypeAlias = Mapping[Digest, Mapping[str, int]]
"""Unpacked bytes by item, for each layer that was read, by the digest of its blob."""


def weigh_image(
    image: Image, repository: Repository, jobs: int, known: Weights, cancel: Cancellation
) -> Weights:
    """Weigh all layers of `image` that are not in `known`. Raises like `weigh`."""
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
    """Add up the bytes of the unpacked archive for each item, by its path; the largest first.

    Where the layer records no items, folders near the root are counted instead. Directories above
    items are not counted. Raises VerificationError for a blob with another digest or a broken
    archive, the errors of a registry that cannot be read, and CancelledError.
    """
    if layer.descriptor.media_type not in LAYERS:
        return {}
    owner = _Owners(layer.items)
    found: dict[str, int] = {}
    room = _NAMED
    with closing(repository.read_blob(layer.descriptor)) as blocks:
        try:
            for member in members(decompressed(layer.descriptor.media_type, blocks), cancel):
                whose = owner.of(_normal(member.name), is_folder=member.is_folder)[:_LONGEST]
                if whose not in found:
                    room -= len(whose)
                    whose = whose if room >= 0 else _REST
                if whose:
                    size = _RECORD + member.size + -member.size % _RECORD
                    found[whose] = found.get(whose, 0) + size
        except VerificationError as error:
            # A digest mismatch takes precedence over a broken archive: reading on raises it.
            for _ in blocks:
                cancel.check()
            raise VerificationError(
                f"{repository.name}: layer {layer.descriptor.digest} cannot be "
                f"read as an archive: {error}"
            ) from error
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _normal(name: str) -> str:
    """Return a member's name without outer slashes and without the `./` of other tools."""
    return posixpath.normpath(name.strip("/"))


class _Owners:
    """The item of each path in a layer, from the items that the layer lists.

    A store item owns all paths below its own. Files of an item of a directory may be in several
    places, of which the image names one.
    """

    def __init__(self, items: Sequence[str]) -> None:
        placed = {path.strip("/"): path for path in items if path.startswith("/")}
        self._folders: dict[str, Any] = {}
        for path, item in placed.items():
            folder = self._folders
            for name in path.split("/"):
                folder = folder.setdefault(name, {})
            folder[_ITEM] = item
        self._only = next(iter(placed.values())) if len(placed) == 1 else ""
        self._generated = next((path for path in items if not path.startswith("/")), "")
        depths = [path.count("/") + 1 for path in placed]
        self._depth = min(depths, default=_NAMES)

    def of(self, path: str, *, is_folder: bool) -> str:
        """Find the item at or nearest above `path`; empty for a folder above items.

        Where no item is above it: the layer's generated item, its only item, or a folder near the
        root.
        """
        names, folder, item = path.split("/"), self._folders, ""
        for name in names:
            folder = folder.get(name, {})
            item = folder.get(_ITEM, item)
        if item:
            return item
        if self._folders and is_folder:
            return ""
        if self._generated and names[0] not in self._folders:
            return self._generated
        return self._only or "/" + "/".join(names[: self._depth])
