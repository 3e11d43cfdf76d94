"""Read images from a registry, and find them in nested indexes.

An index may name indexes, images whose platform only their config states, attestations and other
artifacts (image-spec, image-index.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from msgspec import Struct

from regpush.digest import INDEXES, Descriptor, Digest
from regpush.errors import RefusedError, VerificationError
from regpush.image.image import Image, is_artifact, parse_manifest
from regpush.image.index import IndexEntry, entries
from regpush.platform import Platform
from regpush.reference import RepositoryName
from regpush.registry.repository import Manifest

DEEPEST = 4
"""The maximum levels of nested indexes that are read."""

MOST = 1000
"""The maximum number of entries of an index, with those of nested indexes, that are read."""

Rank = Callable[[Platform], int | None]
"""Returns how well an image's platform suits: 0 is best, larger is worse, None is unusable."""


class Holder(Protocol):
    """A source of manifests and small blobs: a `Repository`, or a cache of one."""

    @property
    def name(self) -> RepositoryName:
        """The repository and its registry."""
        ...

    def get_manifest(self, reference: str, /) -> Manifest | None:
        """Fetch the manifest or index at a tag or digest; None where it does not exist."""
        ...

    @property
    def get_blob(self) -> Callable[[Descriptor], bytes]:
        """A function that reads a small blob, such as a config."""
        ...


class IndexMember(Struct, frozen=True, kw_only=True):
    """An entry of an index; `manifest`: the image's manifest, None for anything but an image."""

    entry: IndexEntry
    manifest: Manifest | None


def read_image(found: Manifest, holder: Holder) -> Image:
    """Read the image with the manifest `found`.

    Raises VerificationError where `found` is not the manifest of an image.
    """
    with _naming(found, holder):
        descriptor = Descriptor.from_json(parse_manifest(found.data)["config"])
    config = holder.get_blob(descriptor)
    with _naming(found, holder):
        return Image.parse(found.data, config)


@contextmanager
def _naming(found: Manifest, holder: Holder) -> Iterator[None]:
    """Name the document `found` in each VerificationError that the block raises."""
    try:
        yield
    except VerificationError as error:
        raise VerificationError(f"{holder.name}@{found.digest}: {error}") from error


def _entries(index: Manifest, holder: Holder) -> list[IndexEntry]:
    with _naming(index, holder):
        return entries(index.data)


def _is_artifact(found: Manifest, holder: Holder) -> bool:
    with _naming(found, holder):
        return is_artifact(found.data)


def best(index: Manifest, rank: Rank, holder: Holder) -> Manifest | None:
    """Find the manifest of the image in `index` that `rank` prefers, the first among equals.

    Entries that state their platform are considered first; the others are read only where no stated
    platform suits. Raises RefusedError where `holder` lacks a document that is read,
    VerificationError for indexes that are nested too deeply.
    """
    return _best(index, rank, holder, DEEPEST)


def _best(index: Manifest, rank: Rank, holder: Holder, levels: int) -> Manifest | None:
    if not levels:
        raise _too_deep(index, holder)
    ranked: list[tuple[int, IndexEntry]] = []
    silent: list[IndexEntry] = []
    for entry in filter(lambda one: one.is_image, _entries(index, holder)):
        if entry.platform is None:
            silent.append(entry)
        elif (place := rank(entry.platform)) is not None:
            ranked.append((place, entry))
    ranked.sort(key=lambda pair: pair[0])
    for entry in (*(entry for _, entry in ranked), *silent):
        digest = entry.descriptor.digest
        found = holder.get_manifest(str(digest))
        if found is None:
            raise RefusedError(f"{holder.name}: the registry lacks {digest}, which an index names")
        if found.media_type in INDEXES:
            found = _best(found, rank, holder, levels - 1)
        elif _is_artifact(found, holder) or (
            entry.platform is None and rank(read_image(found, holder).platform) is None
        ):
            continue
        if found:
            return found
    return None


def listed(index: Manifest, holder: Holder) -> list[IndexMember]:
    """List all entries of `index` and of the indexes below it, in order, each once.

    An image of an inner index that states no platform gets that of the outer index's entry. Raises
    VerificationError where `holder` lacks an image, where its size is not the one that the entry
    states (containerd does not pull such an image), and for indexes that are nested too deeply.
    """
    found: dict[Digest, IndexMember] = {}
    for one in _listed(index, None, holder, DEEPEST):
        found.setdefault(one.entry.descriptor.digest, one)
        if len(found) > MOST:
            raise _too_deep(index, holder)
    return list(found.values())


def _listed(
    index: Manifest, said: Platform | None, holder: Holder, levels: int
) -> Iterator[IndexMember]:
    if not levels:
        raise _too_deep(index, holder)
    for entry in _entries(index, holder):
        if not entry.is_image:
            yield IndexMember(entry=entry, manifest=None)
            continue
        digest = entry.descriptor.digest
        manifest = holder.get_manifest(str(digest))
        if manifest is None:
            raise VerificationError(
                f"{holder.name}: the registry lacks {digest}, which an index names"
            )
        if len(manifest.data) != entry.descriptor.size:
            raise VerificationError(
                f"{holder.name}@{index.digest} states {entry.descriptor.size} bytes for {digest}, "
                f"which has {len(manifest.data)}"
            )
        known = entry.platform or said
        if manifest.media_type in INDEXES:
            yield from _listed(manifest, known, holder, levels - 1)
        elif _is_artifact(manifest, holder):
            yield IndexMember(entry=entry, manifest=None)
        else:
            yield IndexMember(entry=entry.saying(known) if known else entry, manifest=manifest)


def _too_deep(index: Manifest, holder: Holder) -> VerificationError:
    return VerificationError(
        f"{holder.name}@{index.digest} has indexes nested more than {DEEPEST} deep, "
        f"or more than {MOST} images"
    )
