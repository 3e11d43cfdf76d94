"""Waiting in tests: until something is true, and no longer than a busy machine may need for it."""

from __future__ import annotations

import time
from collections.abc import Callable

HANG_S = 120.0
"""Seconds after which a test says that something hangs. What takes a second alone takes tens of
seconds beside other work; a time-out of this length tells nothing about speed."""


def wait_until(true: Callable[[], object], what: str) -> None:
    """Look at `true` until it is; after `HANG_S` seconds the test fails, and names `what`."""
    end = time.monotonic() + HANG_S
    while not true():
        assert time.monotonic() < end, f"waited {HANG_S:.0f} s for {what}"
        time.sleep(0.01)
