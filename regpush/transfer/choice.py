"""Choosing the image of one platform from an index."""

from __future__ import annotations

from regpush.digest import INDEXES
from regpush.errors import RefusedError, UsageError, VerificationError
from regpush.image.image import Image
from regpush.image.index import entries, platforms_said
from regpush.platform import Platform
from regpush.reference import Reference
from regpush.registry.images import Holder, best
from regpush.registry.repository import Manifest


def find(reference: Reference, holder: Holder) -> Manifest:
    """Fetch the manifest that `reference` names, by its digest if it has one.

    Raises RefusedError where the registry has none.
    """
    version = str(reference.digest) if reference.digest else reference.tag or "latest"
    found = holder.get_manifest(version)
    if found is None:
        raise RefusedError(f"no such image: {reference}")
    return found


def choose(
    found: Manifest, reference: Reference, platform: Platform | None, holder: Holder
) -> Manifest:
    """Return `found`, or if that is an index, its image for `platform`.

    `reference`: the name for messages. Raises UsageError where no platform is given, or none fits;
    RefusedError where the registry lacks what the index names; VerificationError for an index
    without images.
    """
    if found.media_type not in INDEXES:
        return found
    image = best(found, lambda one: one.rank(platform), holder) if platform else None
    if image is None:
        if not any(entry.is_image for entry in entries(found.data)):
            raise VerificationError(f"{reference} is an index without images")
        known = list(dict.fromkeys(map(str, platforms_said(found.data))))
        where = f"{platform} is not one of them; " if platform else ""
        raise UsageError(
            f"{reference} is an image for several platforms; {where}say which: "
            f"--platform {' or '.join(known) or 'os/architecture'}"
        )
    return image


def check_platform(image: Image, reference: Reference, platform: Platform) -> None:
    """Raise UsageError where `image`, named by `reference`, does not run on `platform`."""
    if image.platform.rank(platform) is None:
        raise UsageError(f"{reference} is for {image.platform}, not for {platform}")
