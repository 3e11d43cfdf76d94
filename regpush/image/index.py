"""An index and its entries: read as others write them, and written. Pure.

OCI image-spec, image-index.md; Docker's manifest lists have the same form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regpush.digest import CONFIGS, INDEXES, MANIFESTS, OCI_INDEX, Descriptor, Digest
from regpush.errors import VerificationError
from regpush.image.image import annotations_of, canonical, json_list, json_object
from regpush.options import ImageOptions
from regpush.platform import Platform

_ATTESTATION = "vnd.docker.reference.type"
_ATTESTED = "vnd.docker.reference.digest"
"""Annotations by which BuildKit lists an attestation beside the image that it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One entry of an index: `content` is its JSON as it stands there.

    `platform`: None where it says none, so that only the image itself tells. `is_image`:
    whether an image, or an index of images, may be behind it; not behind attestations, other
    artifacts, and what says a platform that makes no sense.
    """

    descriptor: Descriptor
    platform: Platform | None
    is_image: bool
    content: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, descriptor: Descriptor, platform: Platform) -> IndexEntry:
        """The entry of an image of ours, which says what it runs on."""
        bare = replace(descriptor, annotations=()).to_json()
        content = {**bare, "platform": _spelt(platform).to_json()}
        return cls(descriptor=descriptor, platform=platform, is_image=True, content=content)

    @property
    def is_index(self) -> bool:
        """Whether it is an index in its turn."""
        return self.descriptor.media_type in INDEXES

    @property
    def attested(self) -> Digest | None:
        """The digest of the image that an attestation is about; None for what is none."""
        if not self.descriptor.annotation(_ATTESTATION):
            return None
        try:
            return Digest.parse(self.descriptor.annotation(_ATTESTED))
        except VerificationError:
            return None

    def saying(self, platform: Platform) -> IndexEntry:
        """The entry itself where it says what it runs on, else with `platform` added."""
        if self.platform:
            return self
        content = {**self.content, "platform": _spelt(platform).to_json()}
        return replace(self, platform=platform, content=content)


def _spelt(platform: Platform) -> Platform:
    """The platform in Go's spelling; one that has it already keeps a variant like arm64/v8."""
    normal = platform.normal
    same = (platform.os, platform.architecture) == (normal.os, normal.architecture)
    return platform if same else normal


def entries(index: bytes) -> list[IndexEntry]:
    """The entries of an index, in their order. Raises VerificationError."""
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
    """What the entries of an index say that their images run on. Raises VerificationError."""
    return [one.platform for one in entries(index) if one.is_image and one.platform]


def build_index(children: Sequence[IndexEntry], options: ImageOptions) -> bytes:
    """An index of `children`, in their order. Equal arguments give equal bytes.

    It has the annotations of the images.
    """
    annotations = annotations_of(options)
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [child.content for child in children],
            **({"annotations": annotations} if annotations else {}),
        }
    )
