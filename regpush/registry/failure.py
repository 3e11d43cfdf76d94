"""What a registry's refusal means for us: status first, then the code (distribution-spec)."""

from __future__ import annotations

from regpush.errors import (
    AuthError,
    RefusedError,
    RegpushError,
    TransientError,
    VerificationError,
)
from regpush.registry.protocol import Problem
from regpush.registry.retry import RETRY_STATUSES, RetryableError

_NEW_SESSION = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID"})
_DAMAGED = frozenset({"DIGEST_INVALID", "SIZE_INVALID"})
_BLOB_MISSING = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})


def failure(
    status: int, problem: Problem, *, doing: str, retry_after_s: float | None = None
) -> RegpushError:
    """The error for a reply that was not the one hoped for; a RetryableError if it may pass.

    `doing` names repository and task: "HOST/REPOSITORY: upload sha256:…".
    """
    codes = set(problem.codes)
    said = f"the registry answered {status}"
    if words := problem.words or ", ".join(problem.codes):
        said += f" ({words})"
    if status in RETRY_STATUSES:
        waiting = f"; it asks to wait {retry_after_s:.0f} s" if retry_after_s else ""
        return RetryableError(f"{doing}: {said}{waiting}", retry_after_s=retry_after_s)
    if status == 401:
        return AuthError(f"{doing}: {said}")
    if status == 403:
        return RefusedError(f"{doing}: not allowed: {said}")
    if status == 413:
        return RefusedError(
            f"{doing}: too large for the registry, or for a proxy before it: {said}"
        )
    if "NAME_UNKNOWN" in codes:
        return RefusedError(f"{doing}: the repository does not exist; create it first: {said}")
    if codes & _BLOB_MISSING:
        return TransientError(f"{doing}: a blob it names has gone; push again: {said}")
    if codes & _DAMAGED:
        return VerificationError(f"{doing}: what arrived is not what was sent: {said}")
    if codes & _NEW_SESSION or status == 416:
        return RetryableError(f"{doing}: the upload was lost: {said}")
    if status >= 500:
        return TransientError(f"{doing}: {said}")
    if status < 400:
        return RefusedError(f"{doing}: {said}, which makes no sense; is it a registry?")
    return RefusedError(f"{doing}: {said}")
