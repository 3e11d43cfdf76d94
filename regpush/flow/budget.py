"""`--max-upload`: the most that a push may send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from regpush.errors import BudgetExceededError
from regpush.events import Action
from regpush.pack.recipe import Placed
from regpush.transfer.fanout import FanOut


class Foreseen(Protocol):
    """A report with the sizes of layers."""

    def bytes_of(self, action: Action) -> int:
        """Bytes of the layers with the given `action`."""


def check_budget(placed: Sequence[Placed], fan: FanOut, limit: int) -> None:
    """Raise BudgetExceededError where the layers to upload have more than `limit` bytes.

    Each counts as often as it must be sent, whatever the number of platforms.
    """
    sent = {one.layer.descriptor for one in placed if one.action is Action.UPLOADED}
    _check(sum(blob.size * fan.copies([blob]) for blob in sent), limit)


def check_plan(plan: Foreseen, limit: int) -> None:
    """Like `check_budget`, for a plan, whose sizes may be estimates."""
    _check(plan.bytes_of(Action.UPLOADED), limit)


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise BudgetExceededError(
            f"{size} bytes of layers would be sent, and --max-upload allows {limit}; "
            "regpush plan lists them"
        )
