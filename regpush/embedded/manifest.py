"""What a manifest that is being pushed must hold, and what it points to: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regpush.digest import INDEXES, MANIFESTS, Descriptor, Digest
from regpush.embedded.errors import Code, RequestError
from regpush.errors import VerificationError, printable

MAX_SIZE = 4 * 1024 * 1024  # bytes; distribution-spec, "Pushing Manifests"


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """What must be in the repository before the manifest."""

    blobs: tuple[Digest, ...] = ()
    manifests: tuple[Digest, ...] = ()


def references(data: bytes, content_type: str) -> References:
    """What manifest `data`, sent as `content_type`, points to.

    Its subject is not among it, for that may come later. Raises RequestError
    (MANIFEST_INVALID).
    """
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _invalid("it is not JSON") from error
    if not isinstance(manifest, dict):
        raise _invalid("it is not a JSON object")
    if content_type not in (*MANIFESTS, *INDEXES):
        raise _invalid(f"Content-Type '{printable(content_type[:200])}' is no image or index")
    if manifest.get("mediaType", content_type) != content_type:
        raise _invalid(f"its mediaType is not its Content-Type, '{content_type}'")
    if manifest.get("schemaVersion") != 2:
        raise _invalid("its schemaVersion is not 2")
    try:
        if content_type in INDEXES:
            children = (Descriptor.from_json(c) for c in _list(manifest, "manifests"))
            return References(manifests=tuple(child.digest for child in children))
        config = Descriptor.from_json(manifest.get("config"))
        # A layer with `urls` is fetched from there (image-spec, descriptor.md).
        layers = (
            Descriptor.from_json(layer)
            for layer in _list(manifest, "layers")
            if not (isinstance(layer, dict) and layer.get("urls"))
        )
        return References(blobs=(config.digest, *(layer.digest for layer in layers)))
    except VerificationError as error:
        raise _invalid(str(error)) from error


def _list(manifest: Mapping[str, Any], key: str) -> list[object]:
    value = manifest.get(key)
    if not isinstance(value, list):
        raise _invalid(f"its '{key}' are not a list")
    return value


def _invalid(why: str) -> RequestError:
    return RequestError(Code.MANIFEST_INVALID, f"manifest invalid: {why}")
