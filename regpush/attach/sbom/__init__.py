"""SBOMs in SPDX and CycloneDX: they list the components of an image, known from its closure.

The libraries for both formats are the extra `regpush[sbom]`, imported when an SBOM is written.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from msgspec import Struct

from regpush.attach.sbom.bill import Bill
from regpush.digest import Digest
from regpush.errors import RefusedError, UsageError
from regpush.options import Sbom
from regpush.registry.referrers import Attachment, fetch, list_referrers
from regpush.registry.repository import Repository

__all__ = ["FORMATS", "Bill", "BillFormat", "attached", "writer"]


class BillFormat(Struct, frozen=True, kw_only=True):
    """An SBOM format.

    `title`: the file name in the annotation of the attached document. `module`: the module of this
    package that writes the format, by a function of the module's name.
    """

    media_type: str
    title: str
    module: str


FORMATS = {
    Sbom.SPDX: BillFormat(
        media_type="application/spdx+json", title="sbom.spdx.json", module="spdx"
    ),
    Sbom.CYCLONEDX: BillFormat(
        media_type="application/vnd.cyclonedx+json", title="sbom.cdx.json", module="cyclonedx"
    ),
}


def writer(sbom: Sbom) -> Callable[[Bill], Attachment]:
    """Return a function that turns a bill of components into an SBOM of the format `sbom`.

    Raises UsageError if the library for the format is not installed; pushes therefore call this
    before they send anything.
    """
    form = FORMATS[sbom]
    try:
        module = import_module(f"regpush.attach.sbom.{form.module}")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--sbom {sbom.value} needs the library '{error.name}': pip install 'regpush[sbom]'"
        ) from error
    write = cast("Callable[[Bill], bytes]", getattr(module, form.module))

    def written(bill: Bill) -> Attachment:
        return Attachment(media_type=form.media_type, data=write(bill), title=form.title)

    return written


def attached(repository: Repository, subject: Digest, wanted: Sbom | None) -> Attachment:
    """Return the SBOM attached to the manifest `subject`, in the format `wanted` or in any format.

    Of several SBOMs, returns the last that the registry lists: registries append new referrers.
    Raises RefusedError if the registry lists none.
    """
    forms = [FORMATS[wanted]] if wanted else list(FORMATS.values())
    types = [form.media_type for form in forms]
    found = [one for one in list_referrers(repository, subject) if one.artifact_type in types]
    if not found:
        kind = f"{wanted.value} SBOM" if wanted else "SBOM"
        raise RefusedError(
            f"{repository.name}@{subject} has no {kind} attached; push with --sbom to attach one"
        )
    return fetch(repository, found[-1])
