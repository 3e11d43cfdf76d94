"""Derive a history file, for `regpush simulate`, from the images of a repository. Pure.

An image records the items in its layers, but neither the sizes of items nor their references. If a
Nix or Guix store of this machine has the items, it supplies both. Otherwise they are estimated: an
item alone in its layer has the layer's size, several items share the layer's size equally, and each
item of the top layer refers to all items of the other layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from regpush.closure import Closure
from regpush.commands.history import HASH_DIGITS, History, Push, Version
from regpush.image.image import Image, Layer
from regpush.sources.store_path import is_path, item_name

Known = Callable[[Sequence[str]], Closure | None]
"""A function that returns the closure of the given store paths; None if no store here has them."""


class Found(Struct, frozen=True, kw_only=True):
    """An image of the repository; `created`: the creation date in its config."""

    image: Image
    created: str


def recount(name: str, images: Sequence[Found], known: Known) -> History:
    """Return the history of the app `name`, with a push for each of `images`, oldest first.

    `images` are ordered by date. Images that record no items are left out.
    """
    telling = [found for found in images if any(layer.items for layer in found.image.own_layers)]
    sizes = _sizes_alone(telling)
    numbers: dict[Version, int] = {}
    pushes: list[Push] = []
    current: frozenset[int] = frozenset()
    stores = False
    for found in telling:
        versions, roots = _versions(found.image, sizes, known)
        indexes = {one.name: numbers.setdefault(one, len(numbers)) for one in versions}
        now = frozenset(indexes.values())
        stores = stores or any(is_path(p) for layer in found.image.own_layers for p in layer.items)
        pushes.append(
            Push(
                app=name,
                date=found.created,
                roots=tuple(sorted(indexes[root] for root in roots)),
                add=tuple(sorted(now - current)),
                remove=tuple(sorted(current - now)),
            )
        )
        current = now
    semantics = "rehash" if stores else "plain"
    return History(name=name, semantics=semantics, items=tuple(numbers), pushes=tuple(pushes))


def _versions(image: Image, sizes: dict[str, int], known: Known) -> tuple[list[Version], list[str]]:
    """Return a version for each item of `image`, and the names of its roots, the top layer's items.

    Adds the sizes of store items to `sizes`, so that a store item has the same size in all images.
    """
    told = [(layer, _paths(layer)) for layer in image.own_layers]
    told = [(layer, paths) for layer, paths in told if paths]
    names = _names([path for _, paths in told for path in paths])
    top = told[-1][1]
    closure = known([path for path in top if is_path(path)])
    below = tuple(sorted(names[path] for _, paths in told[:-1] for path in paths))
    versions = []
    for layer, paths in told:
        shares = _sizes(layer, paths, sizes)
        sizes |= {path: size for path, size in shares.items() if is_path(path)}
        for path in paths:
            version = Version(
                name=names[path],
                hash=_hash(path, layer),
                size=shares[path],
                refs=below if paths is top else (),
                origin=names[path],
            )
            versions.append(_as_stored(version, path, closure, names))
    return versions, [names[path] for path in top]


def _as_stored(
    version: Version, path: str, closure: Closure | None, names: Mapping[str, str]
) -> Version:
    if closure is None or path not in closure:
        return version if closure is None else replace(version, refs=())
    item = closure[path]
    refs = tuple(sorted(names[one] for one in item.references if one in names))
    return replace(version, size=item.size, refs=refs, origin=item.origin)


def _paths(layer: Layer) -> list[str]:
    return [path for path in layer.items if path.startswith("/")]


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Return a short unique name for each of `paths`, the items of one image.

    The name of a store item has neither hash nor version; a repeated name gets `#2`, `#3`.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path in sorted(paths):
        stem = item_name(path) if is_path(path) else path.strip("/").replace("/", ":") or "root"
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f"{stem}#{count}"
        taken.add(name)
        names[path] = name
    return names


def _sizes_alone(images: Sequence[Found]) -> dict[str, int]:
    """Return the sizes in bytes, by path, of the store items that are alone in a layer."""
    return {
        layer.items[0]: layer.uncompressed_size
        for found in images
        for layer in found.image.own_layers
        if len(layer.items) == 1 and layer.uncompressed_size is not None
        if is_path(layer.items[0])
    }


def _sizes(layer: Layer, paths: Sequence[str], exact: Mapping[str, int]) -> dict[str, int]:
    whole = layer.descriptor.size if layer.uncompressed_size is None else layer.uncompressed_size
    known = {path: exact[path] for path in paths if path in exact}
    rest = max(whole - sum(known.values()), 0)
    return {path: known.get(path, rest // max(len(paths) - len(known), 1)) for path in paths}


def _hash(path: str, layer: Layer) -> str:
    """Return 32 hex digits that identify the content of the item at `path` in `layer`.

    They are a hash of the store path; for items outside of a store, of the path and the layer's
    diff ID.
    """
    said = path if is_path(path) else f"{path} {layer.diff_id}"
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]
