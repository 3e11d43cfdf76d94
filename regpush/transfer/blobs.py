"""Blobs from one repository to another: found there, mounted, or passed through.

A blob that passes through is neither unpacked nor stored: its bytes are sent as they are received,
and verified. A broken connection on either side is resumed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from msgspec import Struct

from regpush.concurrency import Cancellation
from regpush.digest import Descriptor
from regpush.errors import UsageError, printable
from regpush.events import Action
from regpush.registry.repository import Repository

_FOREIGN = (
    "application/vnd.docker.image.rootfs.foreign",
    "application/vnd.oci.image.layer.nondistributable",
)

Progress = Callable[[Descriptor, int], None]
"""Called repeatedly with the bytes of a blob that were sent in this attempt."""


class Passage(Struct, frozen=True, kw_only=True, eq=False):
    """The repositories that blobs are brought from and to; `slots`: how many at a time."""

    source: Repository
    target: Repository
    slots: threading.Semaphore
    cancel: Cancellation
    progress: Progress

    @property
    def mountable_from(self) -> str | None:
        """Return the source's path if both repositories are of one registry; else None."""
        source = self.source.name
        return source.path if source.is_beside(self.target.name) else None


def check_distributable(descriptors: Sequence[Descriptor], image: str) -> None:
    """Raise UsageError for foreign layers, which registries do not hold.

    Their licence may forbid to redistribute them.
    """
    for descriptor in descriptors:
        if descriptor.media_type.startswith(_FOREIGN):
            raise UsageError(
                f"{image} has a foreign layer ({printable(descriptor.media_type)}), which "
                "registries do not hold, and whose licence may forbid copying; "
                "choose an image without one"
            )


def bring(descriptor: Descriptor, passage: Passage) -> Action:
    """Make sure that the target holds the blob; returns the action that this took.

    A mount that is refused, for any reason, becomes a transfer. Raises VerificationError where the
    source's bytes are not those of `descriptor`, and what both repositories raise.
    """
    if passage.target.has_blob(descriptor):
        return Action.REUSED
    if (path := passage.mountable_from) and passage.target.mount_blob(descriptor, path):
        return Action.MOUNTED
    return send(descriptor, passage)


def send(descriptor: Descriptor, passage: Passage) -> Action:
    """Send the blob from the source, even where the target says that it has the blob.

    Raises VerificationError where the source's bytes are not those of `descriptor`, and what both
    repositories raise.
    """

    def opened() -> Iterator[bytes]:
        with closing(passage.source.read_blob(descriptor)) as blocks:
            for block in blocks:
                passage.cancel.check()
                yield block

    def told(sent: int, size: int | None) -> None:  # noqa: ARG001  the descriptor has it
        passage.progress(descriptor, sent)

    with passage.slots:
        passage.target.put_blob(descriptor, opened, told)
    return Action.UPLOADED
