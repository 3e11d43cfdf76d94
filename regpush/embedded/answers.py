"""Error replies of the API: distribution-spec, Error Codes."""

from __future__ import annotations

from collections.abc import Mapping

# The codes of the specification, and the three that clients know from CNCF distribution:
# PAGINATION_NUMBER_INVALID, RANGE_INVALID and TAG_INVALID.
_STATUS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,  # like CNCF distribution; the specification allows 404 too
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "PAGINATION_NUMBER_INVALID": 400,
    "RANGE_INVALID": 416,
    "SIZE_INVALID": 400,
    "TAG_INVALID": 400,
    "UNSUPPORTED": 405,
}


class ApiError(Exception):
    """A request that is answered with an error body; it never leaves this package.

    `code` is one of the error codes; `status`: the HTTP status, the code's usual one unless given.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = _STATUS[code] if status is None else status
        self.headers = dict(headers or {})

    def to_json(self) -> dict[str, object]:
        """Return the error body that the specification defines."""
        return {"errors": [{"code": self.code, "message": str(self), "detail": None}]}
