"""Digests, descriptors and media types. OCI image-spec, descriptor.md and media-types.md."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from regpush.errors import VerificationError, printable

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"

OCI_LAYERS = {
    DOCKER_LAYER: OCI_LAYER,
    DOCKER_LAYER_GZIP: OCI_LAYER_GZIP,
    DOCKER_LAYER_ZSTD: OCI_LAYER_ZSTD,
}
"""The OCI media type for each of Docker's layer media types; layers of both have equal bytes."""

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_INDEX)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_DIGEST = re.compile(r"(sha256|sha512):([0-9a-f]+)", re.ASCII)


class Digest(Struct, frozen=True, order=True):
    """A content digest by an algorithm that the specification registers.

    `str()` gives `algorithm:hex`.
    """

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Read `algorithm:hex`. Raises VerificationError for anything else."""
        match = _DIGEST.fullmatch(text) if isinstance(text, str) else None
        if match is None or len(match[2]) != _HEX_LENGTH[match[1]]:
            raise VerificationError(f"not a digest: '{printable(str(text)[:200])}'")
        return cls(match[1], match[2])

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Compute the sha256 of `data`."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        """The first twelve hex digits, as other tools show digests to people."""
        return self.hex[:12]


class Descriptor(Struct, frozen=True, kw_only=True):
    """A typed reference to a blob or manifest; `size` is bytes as transferred."""

    media_type: str
    digest: Digest
    size: int
    annotations: tuple[tuple[str, str], ...] = field(default=())

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Descriptor:
        """Make the descriptor of `data`."""
        return cls(media_type=media_type, digest=Digest.of(data), size=len(data))

    @classmethod
    def from_json(cls, value: object) -> Descriptor:
        """Read a descriptor object. Raises VerificationError where a field is missing or wrong."""
        if not isinstance(value, dict):
            raise VerificationError("a descriptor is not a JSON object")
        media_type, size = value.get("mediaType"), value.get("size")
        if not isinstance(media_type, str):
            raise VerificationError(f"the descriptor of {_named(value)} has no mediaType")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
            raise VerificationError(f"the descriptor of {_named(value)} has no valid size")
        annotations = value.get("annotations") or {}
        if not isinstance(annotations, Mapping):
            raise VerificationError(
                f"the descriptor of {_named(value)} has annotations that are not a JSON object"
            )
        return cls(
            media_type=media_type,
            digest=Digest.parse(value.get("digest")),
            size=size,
            annotations=tuple(sorted((k, v) for k, v in annotations.items() if isinstance(v, str))),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as a JSON object, per the image-spec."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return value

    def annotation(self, key: str) -> str | None:
        """Return the value of the annotation `key`, or None."""
        return dict(self.annotations).get(key)


def _named(descriptor: Mapping[str, Any]) -> str:
    return printable(str(descriptor.get("digest") or "an unnamed blob")[:100])


def canonical_json(value: Any) -> bytes:
    """Return JSON in ASCII with sorted keys and without blanks: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
