"""Why a request is refused, in the words of the distribution-spec ("Error Codes")."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """The spec's error codes, as far as this registry has use for them."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    PAGINATION_NUMBER_INVALID = "PAGINATION_NUMBER_INVALID"  # distribution's, not the spec's
    SIZE_INVALID = "SIZE_INVALID"
    TAG_INVALID = "TAG_INVALID"  # of the first editions of the spec
    UNKNOWN = "UNKNOWN"  # distribution's, not the spec's
    UNSUPPORTED = "UNSUPPORTED"


class RequestError(Exception):
    """A request that cannot be served, and why.

    It becomes an answer to the client and never reaches a user of regpush, and so stands
    outside the tree of `regpush.errors`.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class TooLargeError(RequestError):
    """A manifest beyond what this registry takes."""


class OutOfOrderError(RequestError):
    """A chunk that does not continue its upload, of which `size` bytes have arrived."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(Code.BLOB_UPLOAD_INVALID, message)
        self.size = size
