"""Recipes of layers, and the search for planned layers that a registry holds already.

A layer found by its recipe is never opened; one found by its diff ID was read, but is neither
compressed nor sent (docs/internals/recipes.md, How a layer avoids being sent).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from regpush.closure import Identity, Item
from regpush.digest import OCI_LAYERS, Descriptor, Digest, canonical_json
from regpush.events import Action
from regpush.image.image import RECIPE, SIZE, Image, Layer
from regpush.options import Compression
from regpush.pack.compression import matches
from regpush.pack.tar import ArchiveOptions
from regpush.reference import RepositoryName

RECIPE_VERSION = 1
"""A number in every recipe; it is raised whenever equal items would give other bytes."""

MOUNTS = 3
"""The maximum number of candidates that are tried for a mount; each failure costs two requests."""


class BlobStore(Protocol):
    """The methods of a repository that the reuse of layers needs."""

    @property
    def name(self) -> RepositoryName:
        """The repository and its registry."""

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the repository holds the blob, with the size that the descriptor states."""

    def mount_blob(self, descriptor: Descriptor, source: str) -> bool:
        """Mount the blob from the repository at the path `source` of the same registry.

        Returns False where the registry did not mount it.
        """


class PreviousImage(Struct, frozen=True, kw_only=True):
    """An image that was pushed before; `name`: how messages call it."""

    name: str
    repository: RepositoryName
    image: Image


class Candidate(Struct, frozen=True, kw_only=True):
    """A layer of `repository` that may be reused; `source`: where it was found, for messages."""

    layer: Layer
    repository: RepositoryName
    source: str


class Placed(Struct, frozen=True, kw_only=True):
    """A layer that is in the target repository; `action` and `why` tell how it came to be there."""

    layer: Layer
    action: Action
    why: str


def recipe(identities: Iterable[tuple[str, Identity]], options: ArchiveOptions) -> Digest:
    """Return the recipe of a layer: a sha256 over a description of its uncompressed content.

    The description is canonical JSON of `options` and of `identities`, the path and identity of
    each item.
    """
    value = {
        "version": RECIPE_VERSION,
        "archive": options.to_json(),
        "items": sorted([path, str(identity)] for path, identity in identities),
    }
    return Digest.of(canonical_json(value))


def by_recipe(
    wanted: Digest, previous: Sequence[PreviousImage], compression: Compression | None
) -> list[Candidate]:
    """Find layers of previous images with the recipe `wanted`, in the order of `previous`.

    `compression`: the compression that the layers must have; None for any.
    """
    return [c for c in _candidates(previous, compression) if c.layer.recipe == wanted]


def remembered(
    wanted: Digest, known: Sequence[Candidate], compression: Compression | None
) -> list[Candidate]:
    """Return the layers of `known` that have the recipe `wanted` and a suitable compression."""
    return [
        candidate
        for candidate in known
        if candidate.layer.recipe == wanted
        and matches(candidate.layer.descriptor.media_type, compression)
    ]


def by_diff_id(
    wanted: Digest, previous: Sequence[PreviousImage], compression: Compression | None
) -> list[Candidate]:
    """Find layers of previous images with the diff ID `wanted`, in the order of `previous`."""
    return [c for c in _candidates(previous, compression) if c.layer.diff_id == wanted]


def _candidates(
    previous: Sequence[PreviousImage], compression: Compression | None
) -> Iterator[Candidate]:
    for before in previous:
        for layer in before.image.layers:
            if matches(layer.descriptor.media_type, compression):
                yield Candidate(layer=layer, repository=before.repository, source=before.name)


def lacks_recipes(previous: Sequence[PreviousImage]) -> bool:
    """Whether previous images exist, but none has recipes of the version `RECIPE_VERSION`."""
    versions = {before.image.recipe_version for before in previous}
    return bool(versions) and RECIPE_VERSION not in versions


def lacks(image: Image, known: Sequence[Item], options: ArchiveOptions) -> bool:
    """Whether one of the items `known`, whose identities are known, is in no layer of `image`.

    False also where that cannot be told: a layer that has other items too is not looked at.
    """
    identities = {item.path: item.identity for item in known if item.identity}
    listed: set[str] = set()
    for layer in image.own_layers:
        listed.update(layer.items)
        here = [(path, identities[path]) for path in layer.items if path in identities]
        if here and len(here) == len(layer.items) and recipe(here, options) != layer.recipe:
            return True
    return not identities.keys() <= listed


def annotate(layer: Layer, items: Sequence[Item], recipe: Digest, size: int | None) -> Layer:
    """Return `layer` as a manifest of regpush lists it: with recipe, size and items.

    The recipe and the uncompressed `size` become annotations; one of Docker's media types becomes
    OCI's.
    """
    annotations = {RECIPE: str(recipe)}
    if size is not None:
        annotations[SIZE] = str(size)
    media_type = layer.descriptor.media_type
    return Layer(
        descriptor=replace(
            layer.descriptor,
            media_type=OCI_LAYERS.get(media_type, media_type),
            annotations=tuple(sorted(annotations.items())),
        ),
        diff_id=layer.diff_id,
        uncompressed_size=size,
        items=tuple(item.path for item in items),
        recipe=recipe,
    )


class DryRun(Struct, frozen=True, eq=False):
    """A `BlobStore` for plans: mounting only asks whether the blob exists, and changes nothing."""

    store: BlobStore
    source_of: Callable[[str], BlobStore]
    """Opens the repository at a path in the registry of `store`."""

    @property
    def name(self) -> RepositoryName:
        """The name of `store`."""
        return self.store.name

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether `store` holds the blob."""
        return self.store.has_blob(descriptor)

    def mount_blob(self, descriptor: Descriptor, source: str) -> bool:
        """Whether the repository `source` holds the blob, so that a push could try to mount it."""
        return self.source_of(source).has_blob(descriptor)


def place(candidates: Sequence[Candidate], stores: Sequence[BlobStore]) -> Placed | None:
    """Return the first candidate that all `stores` hold, else one that was mounted into them.

    None where there is neither. At most `MOUNTS` candidates are tried for a mount.
    """
    lacking: dict[Descriptor, list[BlobStore]] = {}
    for candidate in candidates:
        descriptor = candidate.layer.descriptor
        if descriptor not in lacking:
            lacking[descriptor] = [store for store in stores if not store.has_blob(descriptor)]
            if not lacking[descriptor]:
                why = f"same as in {candidate.source}"
                return Placed(layer=candidate.layer, action=Action.REUSED, why=why)
    for candidate in candidates[:MOUNTS]:
        if all(_mount(candidate, store) for store in lacking[candidate.layer.descriptor]):
            why = f"{candidate.repository.path} has this blob"
            return Placed(layer=candidate.layer, action=Action.MOUNTED, why=why)
    return None


def _mount(candidate: Candidate, store: BlobStore) -> bool:
    source = candidate.repository
    return (
        source.is_beside(store.name)
        and source != store.name
        and store.mount_blob(candidate.layer.descriptor, source.path)
    )
