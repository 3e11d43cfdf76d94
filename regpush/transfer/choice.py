"""One image of several: what an index has for a platform."""

from __future__ import annotations

from collections.abc import Callable

from regpush.digest import INDEXES, Descriptor
from regpush.errors import RefusedError, UsageError
from regpush.image.image import Image, child_for, children, parse_manifest
from regpush.platform import Platform
from regpush.reference import Reference
from regpush.registry.client import Manifest, Repository

Ask = Callable[[str], Manifest | None]
"""A manifest by its tag or digest, None where there is none."""


def find(reference: Reference, ask: Ask) -> Manifest:
    """What `reference` names, by its digest if it has one. Raises RefusedError."""
    version = str(reference.digest) if reference.digest else reference.tag or "latest"
    found = ask(version)
    if found is None:
        raise RefusedError(f"no such image: {reference}")
    return found


def choose(found: Manifest, reference: Reference, platform: Platform | None, ask: Ask) -> Manifest:
    """`found`, or where it is an index, its image for `platform`; `reference` is its name.

    Raises UsageError where that is not said, or there is none; RefusedError where the
    registry lacks what the index names.
    """
    if found.media_type not in INDEXES:
        return found
    child = child_for(found.data, platform) if platform else None
    if child is None:
        known = [str(one) for one, _ in children(found.data)]
        where = f"{platform} is not one of them; " if platform else ""
        raise UsageError(
            f"{reference} is an image for several platforms; {where}say which: "
            f"--platform {' or '.join(known) or 'os/architecture'}"
        )
    image = ask(str(child.digest))
    if image is None:
        raise RefusedError(f"{reference}: the registry lacks {child.digest}")
    return image


def read_image(found: Manifest, repository: Repository) -> Image:
    """The image whose manifest `found` is. Raises VerificationError for what is no image."""
    config = Descriptor.from_json(parse_manifest(found.data)["config"])
    return Image.parse(found.data, repository.get_blob(config))


def check_platform(image: Image, reference: Reference, platform: Platform) -> None:
    """Raise UsageError where `image`, which `reference` names, is for another platform."""
    if not image.platform.runs(platform):
        raise UsageError(f"{reference} is for {image.platform}, not for {platform}")
