"""SBOMs in SPDX 2.3 JSON, written by the library of the SPDX project.

SPDX specification 2.3, clauses 6, 7 and 11. Licenses are NOASSERTION: regpush does not examine
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC

from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)

from regpush import __version__
from regpush.attach.sbom.bill import Bill, Component, Purl, Purpose, image_purl
from regpush.attach.sbom.purl import parse
from regpush.digest import Digest

_DOCUMENT = "SPDXRef-DOCUMENT"
_IMAGE = "SPDXRef-image"
_BASE = "SPDXRef-base"
_PURPOSES = {
    Purpose.APPLICATION: PackagePurpose.APPLICATION,
    Purpose.LIBRARY: PackagePurpose.LIBRARY,
    Purpose.FILES: PackagePurpose.FILE,
}


def spdx(bill: Bill) -> bytes:
    """Return `bill` as an SPDX JSON document in UTF-8; equal bills give equal bytes."""
    document = Document(
        CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id=_DOCUMENT,
            name=bill.name,
            document_namespace=f"https://{bill.name}/spdx/{bill.uuid}",
            creators=[Actor(ActorType.TOOL, f"regpush-{__version__}")],
            created=bill.created.astimezone(UTC).replace(tzinfo=None),
        ),
        packages=[*_images(bill), *map(_package, bill.components)],
        relationships=list(_relationships(bill)),
    )
    converter = DocumentConverter()  # type: ignore[no-untyped-call]  # defaults alone, untyped
    return json.dumps(converter.convert(document), separators=(",", ":")).encode()


def _images(bill: Bill) -> Iterator[Package]:
    yield _image(_IMAGE, bill.name, bill.digest, f"platform: {bill.platform}")
    if base := bill.ancestor:
        comment = "the base image; its packages are not listed in this document"
        yield _image(_BASE, base.name, base.digest, comment)


def _image(spdx_id: str, name: str, digest: Digest, comment: str) -> Package:
    return Package(
        spdx_id=spdx_id,
        name=name,
        version=str(digest),
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm[digest.algorithm.upper()], digest.hex)],
        license_concluded=SpdxNoAssertion(),
        license_declared=SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        external_references=[_reference(image_purl(name, digest))],
        primary_package_purpose=PackagePurpose.CONTAINER,
        comment=comment,
    )


def _package(component: Component) -> Package:
    nar = [one.nar_hash for one in component.identities if one.nar_hash]
    # Identities that only regpush can compute stand in a comment, not among the checksums.
    own = [str(one) for one in component.identities if one.digest != one.nar_hash]
    return Package(
        spdx_id=_id(component.ref),
        name=component.name,
        version=component.version or None,
        file_name=component.path,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[
            *(Checksum(ChecksumAlgorithm[one.algorithm.upper()], one.hex) for one in nar),
            *(
                Checksum(ChecksumAlgorithm[name.upper()], digits)
                for name, digits in component.hashes
                if name.upper() in ChecksumAlgorithm.__members__
            ),
        ],
        license_concluded=SpdxNoAssertion(),
        license_declared=SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        external_references=[_reference(component.purl)] if component.purl else [],
        primary_package_purpose=_PURPOSES[component.purpose],
        comment=f"identity: {' '.join(own)}" if own else None,
    )


def _relationships(bill: Bill) -> Iterator[Relationship]:
    yield Relationship(_DOCUMENT, RelationshipType.DESCRIBES, _IMAGE)
    if bill.ancestor:
        yield Relationship(_IMAGE, RelationshipType.DESCENDANT_OF, _BASE)
    for component in bill.components:
        yield Relationship(_IMAGE, RelationshipType.CONTAINS, _id(component.ref))
    for ref in bill.roots:
        yield Relationship(_IMAGE, RelationshipType.DEPENDS_ON, _id(ref))
    for component in bill.components:
        for ref in component.depends_on:
            yield Relationship(_id(component.ref), RelationshipType.DEPENDS_ON, _id(ref))


def _reference(purl: Purl) -> ExternalPackageRef:
    return ExternalPackageRef(
        ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", parse(purl).to_string()
    )


def _id(ref: str) -> str:
    return f"SPDXRef-{ref}"
