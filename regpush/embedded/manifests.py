"""Parse and check manifests and indexes that are pushed to the embedded registry. Pure."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from regpush.digest import DOCKER_INDEX, DOCKER_MANIFEST, INDEXES, MANIFESTS, Descriptor, Digest
from regpush.embedded.answers import ApiError
from regpush.errors import VerificationError

SIZE_LIMIT = 4 * 1024 * 1024  # bytes; distribution-spec, Pushing Manifests

# Manifests of these types must have the property `mediaType`; for OCI types it is optional.
_TYPE_REQUIRED = (DOCKER_MANIFEST, DOCKER_INDEX)


class References(Struct, frozen=True, kw_only=True):
    """The digests that a manifest or index names.

    The repository must have `blobs` and `children`, the manifests of an index, before the document
    is pushed. The subject may be pushed later (distribution-spec, Pushing Manifests with Subject).
    """

    blobs: tuple[Digest, ...] = ()
    children: tuple[Digest, ...] = ()
    subject: Digest | None = None


def read_references(content: bytes, media_type: str) -> References:
    """Check that `content` is a manifest or index of `media_type`; return the digests it names.

    Blobs that no registry distributes are left out. Raises ApiError MANIFEST_INVALID.
    """
    if media_type not in MANIFESTS + INDEXES:
        raise _invalid(f"this registry accepts no manifests of the type '{media_type[:100]}'")
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        raise _invalid("the manifest is not JSON") from None
    if not isinstance(manifest, dict):
        raise _invalid("the manifest is not a JSON object")
    if manifest.get("schemaVersion") != 2:
        raise _invalid("schemaVersion is not 2")
    stated = manifest.get("mediaType")
    if stated != media_type and (stated is not None or media_type in _TYPE_REQUIRED):
        raise _invalid("Content-Type and the manifest's mediaType differ")
    try:
        subject = None
        if "subject" in manifest:
            subject = Descriptor.from_json(manifest["subject"]).digest
        if media_type in INDEXES:
            listed = _descriptors(manifest, "manifests")
            return References(children=tuple(d.digest for d in listed), subject=subject)
        config = Descriptor.from_json(manifest.get("config"))
        layers = _descriptors(manifest, "layers")
    except VerificationError as error:
        raise _invalid(str(error)) from None
    return References(
        blobs=(config.digest, *(layer.digest for layer in layers if not _is_foreign(layer))),
        subject=subject,
    )


def describe_referrer(content: bytes, descriptor: Descriptor) -> dict[str, Any]:
    """Return the entry of a manifest in a list of referrers (distribution-spec, Listing Referrers).

    The entry is `descriptor` with the artifact type and annotations of `content`, the manifest's
    bytes. They must have passed `read_references`.
    """
    manifest = json.loads(content)
    config = manifest.get("config") or {}
    described = descriptor.to_json()
    artifact_type = manifest.get("artifactType") or config.get("mediaType")
    if artifact_type:
        described["artifactType"] = artifact_type
    if annotations := manifest.get("annotations"):
        described["annotations"] = annotations
    return described


def _descriptors(manifest: dict[str, object], key: str) -> tuple[Descriptor, ...]:
    listed = manifest.get(key)
    if not isinstance(listed, list):
        raise VerificationError(f"'{key}' is not a list")
    return tuple(Descriptor.from_json(value) for value in listed)


def _is_foreign(layer: Descriptor) -> bool:
    """Return whether the media type of `layer` forbids its distribution (image-spec, layer.md).

    Registries need not hold such layers.
    """
    return ".nondistributable." in layer.media_type or ".foreign." in layer.media_type


def _invalid(message: str) -> ApiError:
    return ApiError("MANIFEST_INVALID", message)
