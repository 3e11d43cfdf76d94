"""Images in registries: read whole, and found in nested indexes.

An index may name indexes, images whose platform only their config states, attestations and other
artifacts (image-spec, image-index.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from regpush.digest import INDEXES, Descriptor, Digest
from regpush.errors import RefusedError, VerificationError
from regpush.image.image import Image, is_artifact, parse_manifest
from regpush.image.index import IndexEntry, entries
from regpush.platform import Platform
from regpush.reference import RepositoryName
from regpush.registry.repository import Manifest

DEEPEST = 4
"""Levels of nested indexes that are read, at most."""

MOST = 1000
"""Documents of one image or index that are read, at most."""

Rank = Callable[[Platform], int | None]
"""How well a platform suits: 0 is best, None is not at all."""


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
        """Read a small blob."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexMember:
    """An entry of an index; `manifest`: the image's manifest, None for anything but an image."""

    entry: IndexEntry
    manifest: Manifest | None


def read_image(found: Manifest, holder: Holder) -> Image:
    """Read the image with the manifest `found`.

    Raises VerificationError for another document.
    """
    config = Descriptor.from_json(parse_manifest(found.data)["config"])
    return Image.parse(found.data, holder.get_blob(config))


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
    for entry in filter(lambda one: one.is_image, entries(index.data)):
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
        elif is_artifact(found.data) or (
            entry.platform is None and rank(read_image(found, holder).platform) is None
        ):
            continue
        if found:
            return found
    return None


def listed(index: Manifest, holder: Holder) -> list[IndexMember]:
    """List all entries of `index` and of the indexes below it, in order, each once.

    An image of an inner index that states no platform gets that of the outer index's entry. Raises
    VerificationError where `holder` lacks an image or has it in another size than the entry states,
    which containerd does not pull, and for indexes that are nested too deeply.
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
    for entry in entries(index.data):
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
        elif is_artifact(manifest.data):
            yield IndexMember(entry=entry, manifest=None)
        else:
            yield IndexMember(entry=entry.saying(known) if known else entry, manifest=manifest)


def _too_deep(index: Manifest, holder: Holder) -> VerificationError:
    return VerificationError(
        f"{holder.name}@{index.digest} names too many other indexes and images"
    )
