"""Which planned layers are known already, and where. Pure, over what was read elsewhere.

A layer found by its recipe is never opened; one found by its diff ID was read, but is
neither compressed nor sent (docs/internals/recipes.md, How a layer avoids being sent).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from regpush.closure import Identity, Item
from regpush.digest import OCI_LAYERS, Descriptor, Digest, canonical_json
from regpush.events import Action
from regpush.image.image import RECIPE, SIZE, Image, Layer
from regpush.options import Compression
from regpush.pack.compression import matches
from regpush.pack.tar import ArchiveOptions
from regpush.reference import RepositoryName

RECIPE_VERSION = 1
"""Stands in every recipe; raised whenever the same items would give other bytes."""

MOUNTS = 3
"""Candidates that a mount is tried with: each failure costs two requests."""


class BlobStore(Protocol):
    """One repository's blobs, as far as reuse asks for them."""

    @property
    def name(self) -> RepositoryName:
        """The repository and its registry."""

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the repository holds the blob, with the size the descriptor says."""

    def mount_blob(self, descriptor: Descriptor, source: str) -> bool:
        """Take the blob over from the repository `source` of the same registry, if it can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousImage:
    """An image that was pushed before; `name`: how people call it."""

    name: str
    repository: RepositoryName
    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A layer that may do, the repository that has it, and how we know, for people."""

    layer: Layer
    repository: RepositoryName
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A layer that stands in the target repository, and how it came there."""

    layer: Layer
    action: Action
    why: str


def recipe(identities: Iterable[tuple[str, Identity]], options: ArchiveOptions) -> Digest:
    """What is in a layer, not how it is compressed: sha256 over canonical JSON.

    `identities` are the paths of its items and what they are.
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
    """Layers of previous images that were made from `wanted`, nearest image first."""
    return [c for c in _candidates(previous, compression) if c.layer.recipe == wanted]


def remembered(
    wanted: Digest, known: Sequence[Candidate], compression: Compression | None
) -> list[Candidate]:
    """Those of `known` that were made from `wanted`."""
    return [
        candidate
        for candidate in known
        if candidate.layer.recipe == wanted
        and matches(candidate.layer.descriptor.media_type, compression)
    ]


def by_diff_id(
    wanted: Digest, previous: Sequence[PreviousImage], compression: Compression | None
) -> list[Candidate]:
    """Layers of previous images that unpack to exactly the archive `wanted`."""
    return [c for c in _candidates(previous, compression) if c.layer.diff_id == wanted]


def _candidates(
    previous: Sequence[PreviousImage], compression: Compression | None
) -> Iterator[Candidate]:
    for before in previous:
        for layer in before.image.layers:
            if matches(layer.descriptor.media_type, compression):
                yield Candidate(layer=layer, repository=before.repository, source=before.name)


def lacks_recipes(previous: Sequence[PreviousImage]) -> bool:
    """Whether there are previous images, but none whose recipes are of our version."""
    versions = {before.image.recipe_version for before in previous}
    return bool(versions) and RECIPE_VERSION not in versions


def annotate(layer: Layer, items: Sequence[Item], recipe: Digest, size: int | None) -> Layer:
    """`layer` as a manifest of ours describes it: an OCI one has OCI's media types."""
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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DryRun:
    """A store in which mounting only asks whether it would work."""

    store: BlobStore
    source_of: Callable[[str], BlobStore]
    """Opens the repository at a path of the registry that `store` is of."""

    @property
    def name(self) -> RepositoryName:
        """The name of the real store."""
        return self.store.name

    def has_blob(self, descriptor: Descriptor) -> bool:
        """As the real store answers."""
        return self.store.has_blob(descriptor)

    def mount_blob(self, descriptor: Descriptor, source: str) -> bool:
        """Whether the repository to mount from holds the blob."""
        return self.source_of(source).has_blob(descriptor)


def place(candidates: Sequence[Candidate], stores: Sequence[BlobStore]) -> Placed | None:
    """Find, or mount, the first candidate that all `stores` can have; None if there is none."""
    lacking: dict[Descriptor, list[BlobStore]] = {}
    for candidate in candidates:
        descriptor = candidate.layer.descriptor
        if descriptor not in lacking:
            lacking[descriptor] = [store for store in stores if not store.has_blob(descriptor)]
            if not lacking[descriptor]:
                return Placed(
                    layer=candidate.layer, action=Action.REUSED, why=f"as in {candidate.source}"
                )
    for candidate in candidates[:MOUNTS]:
        if all(_mount(candidate, store) for store in lacking[candidate.layer.descriptor]):
            why = f"from {candidate.repository.path}"
            return Placed(layer=candidate.layer, action=Action.MOUNTED, why=why)
    return None


def _mount(candidate: Candidate, store: BlobStore) -> bool:
    source = candidate.repository
    return (
        source.is_beside(store.name)
        and source != store.name
        and store.mount_blob(candidate.layer.descriptor, source.path)
    )
