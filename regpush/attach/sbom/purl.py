"""Package URLs, encoded and normalised by the purl project's own library."""

from __future__ import annotations

import re

from packageurl import PackageURL

from regpush.attach.sbom.bill import Purl

_NAMELESS = re.compile(r"\A[\s/]*\Z")


def parse(purl: Purl) -> PackageURL:
    """Convert `purl` to the library's record; never raises.

    Names come from files and annotations of strangers, and the library raises for an empty name and
    for lone surrogates: an empty name becomes `unknown`, a surrogate is escaped.
    """
    return PackageURL(
        type=purl.kind,
        namespace=_said(purl.namespace) or None,
        name=_NAMELESS.sub("unknown", _said(purl.name)),
        version=_said(purl.version) or None,
        qualifiers={key: _said(value) for key, value in purl.qualifiers},
    )


def _said(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
