"""Package URLs, encoded and normalised by the purl project's own library."""

from __future__ import annotations

from packageurl import PackageURL

from regpush.attach.sbom.bill import Purl


def parse(purl: Purl) -> PackageURL:
    """The library's record of `purl`, whatever stands in it.

    Names come from files and annotations of strangers, and the library raises for an empty one
    and for what UTF-8 cannot say: such a name is `unknown`, such a character escaped.
    """
    return PackageURL(
        type=purl.kind,
        namespace=_said(purl.namespace) or None,
        name=_said(purl.name).strip(" /") or "unknown",
        version=_said(purl.version) or None,
        qualifiers={key: _said(value) for key, value in purl.qualifiers},
    )


def _said(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
