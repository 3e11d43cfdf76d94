"""Attaching SBOM, provenance and signature, after the manifests and before the tags.

An attachment refers to a manifest and does not change it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from regpush.attach.provenance import provenance
from regpush.attach.signing import Signer, SigningPlace
from regpush.digest import Descriptor
from regpush.events import Note
from regpush.flow.assemble import Assembled
from regpush.flow.context import Run
from regpush.options import Sbom
from regpush.registry.referrers import Attachment, attach
from regpush.registry.repository import Manifest
from regpush.transfer.destinations import Destination

if TYPE_CHECKING:
    from regpush.attach.sbom import Bill


class Attachments(Struct, frozen=True, kw_only=True, eq=False):
    """The documents to attach: `write` makes the SBOM, `signer` signs; None if not asked for."""

    write: Callable[[Bill], Attachment] | None
    signer: Signer | None

    @classmethod
    def of(cls, run: Run) -> Attachments:
        """Decide which attachments the options ask for.

        Raises UsageError where a program or library that they need is missing.
        """
        asked = run.options.attach
        signer = write = None
        if asked.sign:
            signer = Signer.find(asked, run.settings.identity)
        if asked.sbom is not Sbom.NONE:
            from regpush.attach.sbom import writer  # 10 ms, for an SBOM alone

            write = writer(asked.sbom)
        return cls(write=write, signer=signer)

    def attach(self, images: Sequence[Assembled], whole: Manifest, run: Run) -> None:
        """Attach documents to each of `images`, and sign what tags will name, everywhere.

        All manifests were sent before. A document that is attached already is not sent again, and a
        manifest with a signature that verifies is not signed again. Raises a RegpushError.
        """
        for image in images:
            if documents := self._documents(image, run):
                for to in run.destinations:
                    _attach(documents, image.image.descriptor, to, run)
        if self.signer:
            for to in run.destinations:
                _sign(self.signer, images, whole, to, run)

    def _documents(self, image: Assembled, run: Run) -> list[Attachment]:
        """Make the SBOM and provenance of an image that the user asked for; both may be absent.

        Both documents name the main destination.
        """
        asked, name = run.options.attach, str(run.main.name)
        if self.write is None and not asked.provenance:
            return []
        closure = image.prepared.origin.closure.identified(image.identities)
        made: list[Attachment] = []
        if self.write:
            from regpush.attach.sbom import Bill  # 10 ms, for an SBOM alone

            made.append(self.write(Bill.of(closure, image.image, name)))
        if asked.provenance:
            checkout = run.settings.checkout
            made.append(provenance(closure, image.image, name, run.options, checkout))
        return made


def _sign(
    signer: Signer, images: Sequence[Assembled], whole: Manifest, to: Destination, run: Run
) -> None:
    options = run.registry
    main = to.reference.registry == run.main.reference.registry
    place = SigningPlace(
        reference=to.reference,
        options=options if main else options.elsewhere,
        client=run.client,
        notify=run.notify,
        cancel=run.cancel,
    )
    old = {one.image.descriptor.digest: to.name in one.standing for one in images}
    below = [digest for digest in old if digest != whole.digest]
    if below and not run.options.attach.sign_recursive:
        message = f"only the index is signed: --sign-recursive signs its {len(below)} images too"
        run.notify(Note(message=message))
        below = []
    for digest in (*below, whole.digest):
        # An index was not there before if one of its images was not.
        if old.get(digest, all(old.values())) and signer.is_signed(place, digest):
            run.notify(Note(message=f"{place.named(digest)} is signed already"))
        else:
            signer.sign(place, digest)


def _attach(
    documents: Sequence[Attachment], subject: Descriptor, to: Destination, run: Run
) -> None:
    for one in attach(to.repository, subject, documents, cancel=run.cancel):
        digest = one.descriptor.digest
        message = f"attached {one.artifact_type} {digest} to {to.name}@{subject.digest}"
        run.notify(Note(message=message))
