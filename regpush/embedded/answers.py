"""Error replies of the embedded registry (distribution-spec, "Error Codes")."""

from __future__ import annotations

from collections.abc import Mapping

# The HTTP status of each error code. PAGINATION_NUMBER_INVALID, RANGE_INVALID and TAG_INVALID are
# codes of CNCF distribution; the other codes are in the specification.
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
    """Raised to answer a request with an error body; never raised out of this package.

    `code`: an error code of the distribution-spec. `status`: the HTTP status of the reply; the
    code's usual status unless given. `headers`: further headers of the reply.
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
        """Return the body of the reply, in the form of the distribution-spec ("Error Codes")."""
        return {"errors": [{"code": self.code, "message": str(self), "detail": None}]}
