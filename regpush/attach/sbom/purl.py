"""Encode package URLs (ECMA-427), with the library of the purl project."""

from __future__ import annotations

import re

from packageurl import PackageURL

from regpush.attach.sbom.bill import Purl

_NAMELESS = re.compile(r"\A[\s/]*\Z")


def parse(purl: Purl) -> PackageURL:
    """Convert `purl` to the library's PackageURL; never raises.

    Names may come from untrusted files. The library would raise for an empty name and for a lone
    surrogate: an empty name becomes `unknown`, a surrogate is escaped.
    """
    return PackageURL(
        type=purl.kind,
        namespace=_without_surrogates(purl.namespace) or None,
        name=_NAMELESS.sub("unknown", _without_surrogates(purl.name)),
        version=_without_surrogates(purl.version) or None,
        qualifiers={key: _without_surrogates(value) for key, value in purl.qualifiers},
    )


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
