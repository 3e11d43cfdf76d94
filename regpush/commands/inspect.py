"""Read images from a registry, with the items that their annotations list for each layer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from regpush.digest import INDEXES, Digest
from regpush.errors import RefusedError, UsageError, VerificationError
from regpush.events import Listener, Note
from regpush.history import layout
from regpush.history.previous import natural
from regpush.image.image import Image
from regpush.platform import Platform
from regpush.reference import Reference
from regpush.registry.images import listed, read_image
from regpush.registry.referrers import Referrer, list_referrers
from regpush.registry.repository import Repository
from regpush.transfer.choice import choose, find


class Index(Struct, frozen=True, kw_only=True):
    """An index that lists an inspected image.

    `referrers`: referrers of the index, not of its images.
    """

    digest: Digest
    media_type: str
    referrers: tuple[Referrer, ...] = ()

    def to_json(self) -> Mapping[str, Any]:
        """Return the object `index` in the JSON report of an image that the index lists."""
        return {
            "digest": str(self.digest),
            "media_type": self.media_type,
            "referrers": [referrer.to_json() for referrer in self.referrers],
        }


class Inspection(Struct, frozen=True, kw_only=True):
    """An image in a registry, with the reference by which the user named it.

    `referrers`: empty until `with_referrers` reads them. `index`: the index that `reference` names;
    None if it names the image directly.
    """

    reference: Reference
    image: Image
    referrers: tuple[Referrer, ...] = ()
    index: Index | None = None

    @property
    def created(self) -> str:
        """The property `created` of the image's config, unchanged; empty if missing."""
        return str(json.loads(self.image.config).get("created") or "")

    def to_json(self) -> Mapping[str, Any]:
        """Return the JSON report of `regpush inspect` for one image, lowest layer first."""
        image = self.image
        config = json.loads(image.config)
        manifest = json.loads(image.manifest)
        return {
            "schema": 1,
            "ref": str(self.reference.with_digest(image.descriptor.digest)),
            "digest": str(image.descriptor.digest),
            "media_type": image.descriptor.media_type,
            "platform": str(image.platform),
            "created": config.get("created"),
            "annotations": manifest.get("annotations") or {},
            "config": config.get("config") or {},
            "layers": [
                {
                    "digest": str(layer.descriptor.digest),
                    "media_type": layer.descriptor.media_type,
                    "size": layer.descriptor.size,
                    "diff_id": str(layer.diff_id),
                    "uncompressed_size": layer.uncompressed_size,
                    "recipe": str(layer.recipe) if layer.recipe else None,
                    "items": list(layer.items),
                    **({"base": True} if number < image.base_layers else {}),
                }
                for number, layer in enumerate(image.layers)
            ],
            "referrers": [referrer.to_json() for referrer in self.referrers],
            **({"index": self.index.to_json()} if self.index else {}),
        }


def inspect(reference: Reference, repository: Repository, platform: Platform | None) -> Inspection:
    """Read the image that `reference` names; if it names an index, its image for `platform`.

    Raises RefusedError if the registry lacks the image, UsageError if an index has several images
    and `platform` is None, VerificationError for an artifact that is no image.
    """
    found = find(reference, repository)
    manifest = choose(found, reference, platform, repository)
    return Inspection(reference=reference, image=read_image(manifest, repository))


def inspect_each(
    reference: Reference, repository: Repository, platform: Platform | None
) -> list[Inspection]:
    """Read the image that `reference` names; if it names an index, all its images.

    With `platform`, reads only the image for that platform. Raises RefusedError if the registry
    lacks the manifest or index, UsageError if the index has no image for `platform`,
    VerificationError for an artifact that is no image, and for an index without images or with an
    image that the registry lacks.
    """
    found = find(reference, repository)
    within = None
    if found.media_type in INDEXES:
        within = Index(digest=found.digest, media_type=found.media_type)
    if platform or not within:
        manifests = [choose(found, reference, platform, repository)]
    else:
        manifests = [one.manifest for one in listed(found, repository) if one.manifest]
    if not manifests:
        raise VerificationError(f"{reference} is an index without images")
    return [
        Inspection(reference=reference, image=read_image(one, repository), index=within)
        for one in manifests
    ]


def with_referrers(found: Sequence[Inspection], repository: Repository) -> list[Inspection]:
    """Return the images `found`, all of one reference, with their referrers and their index's.

    `referrers` stays empty if the registry refuses to list referrers.
    """
    within = found[0].index
    if within:
        within = replace(within, referrers=_referrers(within.digest, repository))
    return [
        replace(
            one,
            referrers=_referrers(one.image.descriptor.digest, repository),
            index=within,
        )
        for one in found
    ]


def _referrers(subject: Digest, repository: Repository) -> tuple[Referrer, ...]:
    try:
        return list_referrers(repository, subject)
    except (RefusedError, VerificationError):
        return ()


def inspect_all(
    reference: Reference, repository: Repository, platform: Platform | None, notify: Listener
) -> list[Inspection]:
    """Read the images at all tags of a repository, each once, ordered by creation date.

    Images with equal dates, such as reproducible images, are ordered by the serial number of the
    push that their config records, then by tag, with 1.10 after 1.9. A tag that cannot be read as
    an image is left out, with a note.
    """
    found: dict[Digest, tuple[tuple[str, int, list[tuple[int, int, str]]], Inspection]] = {}
    for tag in sorted(repository.all_tags().names, key=natural):
        if tag.startswith(("sha256-", "sha512-")):
            continue  # such tags hold lists of referrers and signatures
        try:
            one = inspect(reference.with_tag(tag), repository, platform)
            carried = layout.read(one.image)
        except (RefusedError, UsageError, VerificationError) as error:
            notify(Note(message=f"the tag {tag} is left out: {error}"))
            continue
        serial = carried.memory.own.serial if carried else 0
        found.setdefault(one.image.descriptor.digest, ((one.created, serial, natural(tag)), one))
    return [one for _, one in sorted(found.values(), key=lambda pair: pair[0])]
