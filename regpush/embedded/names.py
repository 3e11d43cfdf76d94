"""Repository names, tags and digests, checked before they name a file."""

from __future__ import annotations

from typing import NewType

from regpush.digest import Digest
from regpush.embedded.errors import Code, RequestError
from regpush.errors import UsageError, VerificationError, printable
from regpush.reference import Reference

# Checked by the functions below: without `..`, an empty component or a leading `_` or `.`.
Name = NewType("Name", str)
Tag = NewType("Tag", str)

_ANY = Reference(registry="localhost", repository="any")


def parse_name(text: str) -> Name:
    """A repository name. Raises RequestError (NAME_INVALID)."""
    try:
        reference = Reference.parse(f"{_ANY.registry}/{text}")
    except UsageError:
        reference = None
    # A tag or digest in `text` would have been read as one.
    if reference is None or reference.repository != text:
        raise RequestError(Code.NAME_INVALID, f"not a repository name: '{printable(text[:300])}'")
    return Name(text)


def parse_digest(text: str | None) -> Digest:
    """A digest. Raises RequestError (DIGEST_INVALID), also where there is none."""
    if text is None:
        raise RequestError(Code.DIGEST_INVALID, "the parameter 'digest' is missing")
    try:
        return Digest.parse(text)
    except VerificationError as error:
        raise RequestError(Code.DIGEST_INVALID, str(error)) from error


def parse_manifest_reference(text: str) -> Digest | Tag:
    """What stands behind `/manifests/`. Raises RequestError (DIGEST_INVALID, TAG_INVALID)."""
    if ":" in text:
        return parse_digest(text)
    try:
        _ANY.with_tag(text)
    except UsageError as error:
        raise RequestError(Code.TAG_INVALID, str(error)) from error
    return Tag(text)
