"""Image indexes and their entries: reads those of any tool, and writes regpush's own. Pure.

OCI image-spec, image-index.md; Docker's manifest lists have the same form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from regpush.digest import (
    CONFIGS,
    INDEXES,
    MANIFESTS,
    OCI_INDEX,
    Descriptor,
    Digest,
    canonical_json,
)
from regpush.errors import VerificationError
from regpush.image.image import annotations_of, json_list, json_object
from regpush.options import ImageOptions
from regpush.platform import Platform

_ATTESTATION = "vnd.docker.reference.type"
_ATTESTED = "vnd.docker.reference.digest"
"""Annotations by which BuildKit marks an attestation, and the image that it belongs to."""


class IndexEntry(Struct, frozen=True, kw_only=True):
    """One entry of an index: `content` is its JSON, unchanged.

    `platform`: None where the entry states none; then only the config of the image states it.
    `is_image`: whether the entry may lead to an image, or an index of images; False for
    attestations, other artifacts, and entries with a malformed platform.
    """

    descriptor: Descriptor
    platform: Platform | None
    is_image: bool
    content: Mapping[str, Any]

    @classmethod
    def of(cls, descriptor: Descriptor, platform: Platform) -> IndexEntry:
        """Make the entry for an image of regpush with the descriptor `descriptor`."""
        bare = replace(descriptor, annotations=()).to_json()
        content = {**bare, "platform": _spelt(platform).to_json()}
        return cls(descriptor=descriptor, platform=platform, is_image=True, content=content)

    @property
    def is_index(self) -> bool:
        """Whether the entry refers to another index."""
        return self.descriptor.media_type in INDEXES

    @property
    def attested(self) -> Digest | None:
        """The digest of the image that this attestation describes; None for other entries."""
        if not self.descriptor.annotation(_ATTESTATION):
            return None
        try:
            return Digest.parse(self.descriptor.annotation(_ATTESTED))
        except VerificationError:
            return None

    def saying(self, platform: Platform) -> IndexEntry:
        """Return this entry with `platform` added, unless it states a platform itself."""
        if self.platform:
            return self
        content = {**self.content, "platform": _spelt(platform).to_json()}
        return replace(self, platform=platform, content=content)


def _spelt(platform: Platform) -> Platform:
    """Return `platform` in Go's spelling; an explicit variant such as arm64/v8 is kept."""
    normal = platform.normal
    same = (platform.os, platform.architecture) == (normal.os, normal.architecture)
    return platform if same else normal


def entries(index: bytes) -> list[IndexEntry]:
    """Read the entries of an index, in their order.

    Raises VerificationError where one is malformed.
    """
    return [_entry(value) for value in json_list(json_object(index, "index"), "manifests")]


def _entry(value: object) -> IndexEntry:
    descriptor = Descriptor.from_json(value)
    content: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    said = content.get("platform")
    if isinstance(said, Mapping) and not (said.get("os") or said.get("architecture")):
        said = None
    platform = Platform.of_json(said) if isinstance(said, Mapping) else None
    artifact = content.get("artifactType")
    return IndexEntry(
        descriptor=descriptor,
        platform=platform,
        is_image=descriptor.media_type in MANIFESTS + INDEXES
        and (said is None or platform is not None)
        and not descriptor.annotation(_ATTESTATION)
        and (not artifact or artifact in CONFIGS),
        content=content,
    )


def platforms_said(index: bytes) -> list[Platform]:
    """Return the platforms that the entries of an index state, in order.

    Raises VerificationError for a malformed index.
    """
    return [one.platform for one in entries(index) if one.is_image and one.platform]


def build_index(children: Sequence[IndexEntry], options: ImageOptions) -> bytes:
    """Make the JSON of an index of `children`, in their order, with the annotations in `options`.

    Equal arguments give equal bytes.
    """
    annotations = annotations_of(options)
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [child.content for child in children],
            **({"annotations": annotations} if annotations else {}),
        }
    )
