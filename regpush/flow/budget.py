"""`--max-upload`: the most that a push may send."""

from __future__ import annotations

from regpush.errors import BudgetExceededError


def check_budget(size: int, limit: int) -> None:
    """Raise BudgetExceededError where `size`, the bytes of layers to upload, exceeds `limit`.

    The sizes of a plan may be estimates.
    """
    if size > limit:
        raise BudgetExceededError(
            f"{size} bytes of layers would be sent, and --max-upload allows {limit}; "
            "regpush plan lists them"
        )
