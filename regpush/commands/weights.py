"""Measure the size of each item in a layer, by reading the layer from the registry.

An image records the items in a layer, but not their sizes. No part of the layer is stored.
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
"""Maximum characters of a path that are kept (PATH_MAX of Linux)."""
_NAMED = 16 << 20
"""Maximum characters of all paths of a layer together. Further items are counted as one."""
_REST = "(more)"
_ITEM = "/"
"""The key in a folder's dict under which the item at that folder stands: no file has this name."""
_NAMES = 2
"""In a layer that records no items, folders of this depth below the root count as its items."""


Weights: TypeAlias = Mapping[Digest, Mapping[str, int]]
"""For each layer that was read, by the digest of its blob: unpacked bytes by the item's path."""


def weigh_image(
    image: Image, repository: Repository, jobs: int, known: Weights, cancel: Cancellation
) -> Weights:
    """Measure the items of all layers of `image` that are not in `known`; `jobs` at a time.

    Raises the errors of `weigh`.
    """
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
    """Return the bytes of each item of `layer` in the unpacked archive, by its path; largest first.

    If the layer records no items, folders near the root are counted instead. Directories above
    items are not counted. Empty for a media type that regpush cannot unpack. Raises
    VerificationError for a blob with another digest or a broken archive, the errors of a registry
    that cannot be read, and CancelledError.
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
            # A digest mismatch is the better message: reading the rest of the blob raises it.
            for _ in blocks:
                cancel.check()
            raise VerificationError(
                f"{repository.name}: layer {layer.descriptor.digest} cannot be "
                f"read as an archive: {error}"
            ) from error
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _normal(name: str) -> str:
    """Return an archive member's path without slashes at the ends and without a leading `./`."""
    return posixpath.normpath(name.strip("/"))


class _Owners:
    """Finds the item that a path in a layer belongs to, among the items that the layer lists.

    All paths below an item's path belong to the item. An item of a directory target may also have
    files elsewhere, of which the image records nothing.
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
        """Return the path of the item at or nearest above `path`; empty for a folder above items.

        If no item is at or above `path`: returns the layer's generated item, else its only item,
        else a folder near the root.
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
