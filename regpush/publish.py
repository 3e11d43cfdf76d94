"""The end of a push: config, manifest by digest, and tags when all else stands.

Nothing is tagged before every blob is in the registry and the manifest was confirmed by it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from regpush.digest import Digest
from regpush.errors import CancelledError, VerificationError
from regpush.events import Listener, TagMoved
from regpush.image import Image
from regpush.registry.client import Repository


def push_config(image: Image, repository: Repository) -> None:
    """Send the config of `image` unless it is there."""
    config = image.config_descriptor
    with repository.upload() as upload:
        if not repository.has_blob(config):
            upload.put(config, lambda: iter((image.config,)))


def push_manifest(image: Image, repository: Repository) -> None:
    """Send the manifest by its digest, which the registry confirms, or else is asked for.

    Raises VerificationError where it then holds anything else.
    """
    digest = image.descriptor.digest
    told = repository.put_manifest(image.manifest, image.descriptor.media_type, str(digest))
    if told != digest:
        verify(repository, str(digest), digest)


def move_tags(
    image: Image,
    repository: Repository,
    tags: Sequence[str],
    there: Collection[str],
    notify: Listener,
) -> None:
    """Let `tags` name `image`, but those of `there`, which do already; read each back.

    Raises CancelledError naming the tags that may have moved.
    """
    digest = image.descriptor.digest
    begun: list[str] = []
    for tag in tags:
        if tag not in there:
            begun.append(tag)
            try:
                repository.put_manifest(image.manifest, image.descriptor.media_type, tag)
                verify(repository, tag, digest)
            except CancelledError as error:
                raise CancelledError(
                    f"cancelled while tags were moved: {', '.join(begun)} may name {digest}"
                ) from error
        changed = tag in begun
        notify(TagMoved(image=repository.name, tag=tag, digest=str(digest), changed=changed))


def verify(repository: Repository, reference: str, digest: Digest) -> None:
    """Raise VerificationError unless `reference` is `digest` in the registry."""
    got = repository.head_manifest(reference)
    if got != digest:
        raise VerificationError(
            f"{repository.name}: {reference} reads back as {got or 'nothing'} after {digest} "
            "was pushed; did someone else push the same tag?"
        )
