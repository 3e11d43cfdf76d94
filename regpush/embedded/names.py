"""Parse the repository names, tags and digests in request URLs, before they become file paths."""

from __future__ import annotations

from typing import NewType

from regpush.digest import Digest
from regpush.embedded.answers import ApiError
from regpush.errors import UsageError, VerificationError, printable
from regpush.reference import Reference

RepositoryName = NewType("RepositoryName", str)
Tag = NewType("Tag", str)

_ANY = Reference(registry="localhost", repository="any")


def parse_repository(text: str) -> RepositoryName:
    """Parse a repository name (distribution-spec, `<name>`). Raises ApiError NAME_INVALID."""
    try:
        valid = Reference.parse(f"localhost/{text}").repository == text
    except UsageError:
        valid = False
    if not valid:
        raise ApiError("NAME_INVALID", f"'{printable(text[:100])}' is not a repository name")
    return RepositoryName(text)


def parse_digest(text: str | None) -> Digest:
    """Parse a digest of sha256 or sha512. Raises ApiError DIGEST_INVALID."""
    try:
        return Digest.parse(text)
    except VerificationError as error:
        raise ApiError("DIGEST_INVALID", str(error)) from None


def parse_tag_or_digest(text: str) -> Tag | Digest:
    """Parse the tag or digest of a manifest. Raises ApiError DIGEST_INVALID or TAG_INVALID."""
    if ":" in text:
        return parse_digest(text)
    try:
        _ANY.with_tag(text)
    except UsageError as error:
        raise ApiError("TAG_INVALID", str(error)) from None
    return Tag(text)
