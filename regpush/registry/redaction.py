"""Taking our secrets out of what servers say: some throw back what they were sent."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from regpush.errors import printable

_MASK = "***"
_TELLING = 4
"""Characters of a secret's beginning that are too many to be shown."""


class Redactor:
    """The secrets that a run has sent so far. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: tuple[str, ...] = ()

    def add(self, secrets: Iterable[str]) -> None:
        """Hide `secrets` from now on, also where they were made to fit on one line."""
        added = [form for s in secrets for form in (s, printable(" ".join(s.split()))) if form]
        with self._lock:
            # The longest first: one may be a part of another.
            known = dict.fromkeys([*self._secrets, *added])
            self._secrets = tuple(sorted(known, key=len, reverse=True))

    def text(self, text: str) -> str:
        """`text` without any secret, and without the beginning of one at its end.

        Messages are shortened before they come here.
        """
        secrets = self._secrets
        for secret in secrets:
            text = text.replace(secret, _MASK)
        end = text.removesuffix("…")
        for secret in secrets:
            for length in range(min(len(secret), len(end)) - 1, _TELLING - 1, -1):
                if end.endswith(secret[:length]):
                    return end[:-length] + _MASK
        return text
