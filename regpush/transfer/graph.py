"""The documents and blobs that an image or index names, directly or not.

A document is read by its references, whatever its media type, so that artifacts of unknown types
are complete too (image-spec, manifest.md and image-index.md). Referrers, which name it by
`subject`, are not included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from regpush.concurrency import Cancellation, parallel
from regpush.digest import INDEXES, MANIFESTS, Descriptor, Digest
from regpush.errors import UsageError, VerificationError, printable
from regpush.reference import RepositoryName
from regpush.registry.images import DEEPEST, MOST
from regpush.registry.repository import Manifest, Repository
from regpush.transfer.blobs import check_distributable

_ASKERS = 12


class ImageGraph(Struct, frozen=True, kw_only=True):
    """The documents and blobs that an image or index refers to, each once.

    `documents`: manifests and indexes, in the order in which a registry accepts them.
    """

    documents: tuple[Manifest, ...] = ()
    blobs: tuple[Descriptor, ...] = ()


def follow(
    top: Manifest, source: Repository, held: Callable[[Digest], bool], cancel: Cancellation
) -> ImageGraph:
    """Collect all that `top` in `source` refers to, without documents that are `held` elsewhere.

    What a held document names is left out too: a registry holds what its documents name. Raises
    UsageError for what cannot be copied, VerificationError where `source` lacks a part.
    """
    levels: list[list[Manifest]] = []
    blobs: dict[Digest, Descriptor] = {}
    seen = {top.digest}
    level = [top]
    while level:
        levels.append(level)
        named: dict[Digest, Descriptor] = {}
        for document in level:
            content = _content(document, source.name)
            blobs |= {blob.digest: blob for blob in _blobs(content, source.name)}
            named |= {child.digest: child for child in _descriptors(content, "manifests")}
        children = [child for digest, child in named.items() if digest not in seen]
        seen |= named.keys()
        if len(levels) > DEEPEST or len(seen) > MOST:
            raise UsageError(
                f"{source.name}@{top.digest} has indexes nested more than {DEEPEST} deep, or names "
                f"more than {MOST} indexes and images"
            )

        def read(child: Descriptor) -> Manifest | Descriptor | None:
            return None if held(child.digest) else _read(child, source)

        found = parallel(_ASKERS, children, read, cancel) if children else []
        blobs |= {one.digest: one for one in found if isinstance(one, Descriptor)}
        level = [one for one in found if isinstance(one, Manifest)]
    documents = [document for level in reversed(levels) for document in level]
    return ImageGraph(documents=tuple(documents), blobs=tuple(blobs.values()))


def _read(child: Descriptor, source: Repository) -> Manifest | Descriptor:
    """Read the document `child`; where no document has that digest, return `child`, a blob.

    Raises VerificationError where `child` has the type of a document and the source lacks it.
    """
    found = source.get_manifest(str(child.digest))
    if found:
        return found
    if child.media_type in MANIFESTS + INDEXES:
        raise VerificationError(
            f"{source.name} lacks {child.digest}, which an index there names; to leave it out, "
            "take one image of several: --platform"
        )
    return child


def check_schema(document: Manifest, repository: RepositoryName) -> None:
    """Raise UsageError for an obsolete format, VerificationError for anything but a document."""
    _content(document, repository)


def _content(document: Manifest, repository: RepositoryName) -> Mapping[str, Any]:
    name = f"{repository}@{document.digest}"
    try:
        content = json.loads(document.data)
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"{name} is not JSON") from error
    if not isinstance(content, Mapping):
        raise VerificationError(f"{name} is not a JSON object")
    version = content.get("schemaVersion")
    if version == 1:
        raise UsageError(
            f"{name} is an image of schema 1, which registries have given up: it must be "
            "converted first, by docker pull and docker push"
        )
    if version != 2:
        kind = printable(document.media_type)[:100] or "it has no media type"
        raise UsageError(f"{name} is neither an image nor an index: {kind}")
    return content


def _blobs(content: Mapping[str, Any], repository: RepositoryName) -> Sequence[Descriptor]:
    layers = _descriptors(content, "layers")
    check_distributable(layers, str(repository))
    config = content.get("config")
    first = [Descriptor.from_json(config)] if config is not None else []
    return [*first, *layers, *_descriptors(content, "blobs")]


def _descriptors(content: Mapping[str, Any], key: str) -> list[Descriptor]:
    listed = content.get(key) or []
    if not isinstance(listed, list):
        raise VerificationError(f"'{key}' is not a JSON list")
    return [Descriptor.from_json(value) for value in listed]
