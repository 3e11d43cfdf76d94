"""List the tags of a repository, with digest, platforms, size and date of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from regpush.concurrency import Cancellation, parallel
from regpush.digest import INDEXES, Digest
from regpush.errors import RefusedError, VerificationError
from regpush.history.previous import Seen, natural
from regpush.image.image import Image, is_artifact
from regpush.registry.images import listed, read_image
from regpush.registry.repository import Manifest, Repository

_AT_ONCE = 12
_ATTACHED = ("sha256-", "sha512-")
"""Prefixes of tags that hold signatures or lists of referrers (cosign; distribution-spec,
"Referrers Tag Schema")."""


class Tag(Struct, frozen=True, kw_only=True):
    """A tag, and the image or index that it names.

    `size`: bytes of layers and configs of all images as transferred, each blob counted once.
    `created`: the newest creation date in the images' configs; empty if none states one. `problem`:
    why no image could be read; empty if one was read.
    """

    name: str
    digest: Digest | None = None
    media_type: str = ""
    platforms: tuple[str, ...] = ()
    size: int = 0
    created: str = ""
    problem: str = ""

    def to_json(self) -> Mapping[str, Any]:
        """Return one element of `tags` in the JSON report of `regpush tags`."""
        return {
            "tag": self.name,
            "digest": str(self.digest) if self.digest else None,
            "media_type": self.media_type,
            "platforms": list(self.platforms),
            "size": self.size,
            "created": self.created or None,
            **({"problem": self.problem} if self.problem else {}),
        }


class Tags(Struct, frozen=True, kw_only=True):
    """The tags of a repository, sorted by name with 1.10 after 1.9.

    `complete`: False if the repository has more tags than were read.
    """

    tags: tuple[Tag, ...]
    complete: bool


def list_tags(repository: Repository, cancel: Cancellation) -> Tags:
    """Read at most 1,000 tags of `repository`, and the image of each.

    Tags that hold signatures or lists of referrers are left out. A tag whose image cannot be read
    has a `problem`. Raises RefusedError if no such repository exists, AuthError, TransientError and
    CancelledError.
    """
    seen = Seen(repository)
    known = repository.all_tags()
    names = [name for name in known.names if not name.startswith(_ATTACHED)]
    ordered = sorted(names, key=natural)
    tags = parallel(_AT_ONCE, ordered, lambda name: _tag(name, seen), cancel) if ordered else []
    return Tags(tags=tuple(tags), complete=known.complete)


def _tag(name: str, seen: Seen) -> Tag:
    try:
        found = seen.get_manifest(name)
    except (RefusedError, VerificationError) as error:
        return Tag(name=name, problem=str(error))
    if found is None:
        return Tag(name=name, problem="the registry lists the tag but has no manifest for it")
    try:
        images = [read_image(one, seen) for one in _manifests(found, seen)]
    except (RefusedError, VerificationError) as error:
        return Tag(name=name, digest=found.digest, media_type=found.media_type, problem=str(error))
    return Tag(
        name=name,
        digest=found.digest,
        media_type=found.media_type,
        platforms=tuple(dict.fromkeys(str(image.platform) for image in images)),
        size=_size(images),
        created=max(map(_created, images), default=""),
        problem="" if images else "not an image",
    )


def _manifests(found: Manifest, seen: Seen) -> list[Manifest]:
    if found.media_type in INDEXES:
        return [one.manifest for one in listed(found, seen) if one.manifest]
    return [] if is_artifact(found.data) else [found]


def _size(images: Sequence[Image]) -> int:
    blobs = {
        blob.digest: blob.size
        for image in images
        for blob in (image.config_descriptor, *(layer.descriptor for layer in image.layers))
    }
    return sum(blobs.values())


def _created(image: Image) -> str:
    created = json.loads(image.config).get("created")
    return created if isinstance(created, str) else ""
