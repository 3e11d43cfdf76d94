"""Blobs from one repository to another: asked for, mounted, or passed through.

What passes through is never unpacked and never written anywhere: it goes out as it comes in,
verified on the way, and both ends go on where a connection broke.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from regpush.concurrency import Cancellation
from regpush.digest import Descriptor
from regpush.errors import UsageError, printable
from regpush.events import Action
from regpush.registry.client import Repository

_FOREIGN = (
    "application/vnd.docker.image.rootfs.foreign",
    "application/vnd.oci.image.layer.nondistributable",
)

Progress = Callable[[Descriptor, int], None]
"""Told, now and then, how many bytes of a blob have gone out in this attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """From where to where blobs go, and how many at a time: one turn of `slots` each."""

    source: Repository
    target: Repository
    slots: threading.Semaphore
    cancel: Cancellation
    progress: Progress

    @property
    def mountable_from(self) -> str | None:
        """The source's path, if it is of the target's registry, so that blobs can be mounted."""
        source = self.source.name
        return source.path if source.is_beside(self.target.name) else None


def check_distributable(descriptors: Sequence[Descriptor], image: str) -> None:
    """Raise UsageError where a layer may not be handed on, and lies at its maker's instead."""
    for descriptor in descriptors:
        if descriptor.media_type.startswith(_FOREIGN):
            raise UsageError(
                f"{image} has a foreign layer ({printable(descriptor.media_type)}), which "
                "registries do not hold, and whose licence may forbid copying; "
                "choose an image without one"
            )


def bring(descriptor: Descriptor, passage: Passage) -> Action:
    """See to it that the target has the blob; what that took.

    A mount that is refused, for whatever reason, becomes a transfer. Raises VerificationError
    where the source gives something else than `descriptor` says, and what both repositories
    raise.
    """
    if passage.target.has_blob(descriptor):
        return Action.REUSED
    if (path := passage.mountable_from) and passage.target.mount_blob(descriptor, path):
        return Action.MOUNTED
    return send(descriptor, passage)


def send(descriptor: Descriptor, passage: Passage) -> Action:
    """Send the blob from the source, whatever the target says it has. Raises as `bring`."""

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
