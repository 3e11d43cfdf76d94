"""SBOMs in CycloneDX 1.6 JSON (ECMA-424), written by the library of the CycloneDX project.

Licenses and suppliers are unknown to regpush and left out, which the format allows.
"""

from __future__ import annotations

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component as Described
from cyclonedx.model.component import ComponentType, Pedigree
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6

from regpush import __version__
from regpush.attach.sbom.bill import Bill, Component, Purpose, image_purl
from regpush.attach.sbom.purl import parse
from regpush.closure import Identity
from regpush.digest import Digest
from regpush.image.image import Ancestor

_ALGORITHMS = {"sha256": HashAlgorithm.SHA_256, "sha512": HashAlgorithm.SHA_512}
_TYPES = {
    Purpose.APPLICATION: ComponentType.APPLICATION,
    Purpose.LIBRARY: ComponentType.LIBRARY,
    Purpose.FILES: ComponentType.FILE,
}


def cyclonedx(bill: Bill) -> bytes:
    """Return `bill` as a CycloneDX JSON document in UTF-8; equal bills give equal bytes."""
    refs = {one.ref: BomRef(one.ref) for one in bill.components}
    image = BomRef("image")
    graph = [
        Dependency(image, [Dependency(refs[ref]) for ref in bill.roots]),
        *(
            Dependency(refs[one.ref], [Dependency(refs[ref]) for ref in one.depends_on])
            for one in bill.components
        ),
    ]
    bom = Bom(
        serial_number=bill.uuid,
        metadata=BomMetaData(
            timestamp=bill.created,
            tools=ToolRepository(
                components=[
                    Described(type=ComponentType.APPLICATION, name="regpush", version=__version__)
                ]
            ),
            component=Described(
                type=ComponentType.CONTAINER,
                bom_ref=image,
                name=bill.name,
                version=str(bill.digest),
                purl=parse(bill.purl),
                hashes=[_hash(bill.digest)],
                properties=[Property(name="regpush:platform", value=bill.platform)],
                pedigree=_pedigree(bill.ancestor) if bill.ancestor else None,
            ),
        ),
        components=[_described(one, refs[one.ref]) for one in bill.components],
        dependencies=graph,
    )
    return JsonV1Dot6(bom).output_as_string().encode()


def _pedigree(base: Ancestor) -> Pedigree:
    return Pedigree(
        ancestors=[
            Described(
                type=ComponentType.CONTAINER,
                name=base.name,
                version=str(base.digest),
                purl=parse(image_purl(base.name, base.digest)),
                hashes=[_hash(base.digest)],
            )
        ]
    )


def _described(component: Component, ref: BomRef) -> Described:
    nar = [one.nar_hash for one in component.identities if one.nar_hash]
    return Described(
        type=_TYPES[component.purpose],
        bom_ref=ref,
        name=component.name,
        version=component.version or None,
        purl=parse(component.purl) if component.purl else None,
        hashes=[
            *map(_hash, nar),
            *(
                HashType(alg=_ALGORITHMS[name], content=digits)
                for name, digits in component.hashes
                if name in _ALGORITHMS
            ),
        ],
        properties=[
            Property(name="regpush:path", value=component.path),
            *map(_identity, component.identities),
        ],
    )


def _hash(digest: Digest) -> HashType:
    return HashType(alg=_ALGORITHMS[digest.algorithm], content=digest.hex)


def _identity(identity: Identity) -> Property:
    return Property(name="regpush:identity", value=str(identity))
