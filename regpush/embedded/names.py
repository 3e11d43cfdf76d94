"""Names and digests out of a request, checked before any of them touches a path."""

from __future__ import annotations

from typing import NewType

from regpush.digest import Digest
from regpush.embedded.answers import ApiError
from regpush.errors import UsageError, VerificationError
from regpush.reference import Reference

RepositoryName = NewType("RepositoryName", str)
Tag = NewType("Tag", str)

_ANY = Reference(registry="localhost", repository="any")


def parse_repository(text: str) -> RepositoryName:
    """A repository name as the specification has it. Raises ApiError NAME_INVALID."""
    try:
        valid = Reference.parse(f"localhost/{text}").repository == text
    except UsageError:
        valid = False
    if not valid:
        raise ApiError("NAME_INVALID", "not a repository name")
    return RepositoryName(text)


def parse_digest(text: str | None) -> Digest:
    """A digest of sha256 or sha512. Raises ApiError DIGEST_INVALID."""
    try:
        return Digest.parse(text)
    except VerificationError as error:
        raise ApiError("DIGEST_INVALID", str(error)) from None


def parse_tag_or_digest(text: str) -> Tag | Digest:
    """What a manifest is asked for by. Raises ApiError DIGEST_INVALID or TAG_INVALID."""
    if ":" in text:
        return parse_digest(text)
    try:
        _ANY.with_tag(text)
    except UsageError as error:
        raise ApiError("TAG_INVALID", str(error)) from None
    return Tag(text)
