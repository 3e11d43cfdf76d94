"""Package URLs, encoded and normalised by the purl project's own library."""

from __future__ import annotations

from packageurl import PackageURL

from regpush.attach.sbom.bill import Purl


def parse(purl: Purl) -> PackageURL:
    """The library's record of `purl`."""
    return PackageURL(
        type=purl.kind,
        namespace=purl.namespace or None,
        name=purl.name,
        version=purl.version or None,
        qualifiers=dict(purl.qualifiers),
    )
