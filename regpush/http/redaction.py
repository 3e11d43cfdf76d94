"""Removes our secrets from servers' messages: some servers repeat what they were sent."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from regpush.errors import printable

_MASK = "***"
_TELLING = 4
"""A secret that is cut off at the end of a text is hidden if this many of its characters or more
are shown; fewer tell nothing."""

_PLAIN = frozenset({"digest", "mount", "from", "n", "last", "scope", "service", "artifactType"})
"""Query parameters that grant no access: those of the distribution specification and of requests
for tokens."""

_URL_LIMIT = 300


class Redactor:
    """Knows the secrets that a run has sent so far, and removes them from texts. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: tuple[str, ...] = ()

    def add(self, secrets: Iterable[str]) -> None:
        """Remove `secrets` from all texts from now on.

        A secret of several lines is found in a text too that has a space for each line break.
        """
        added = [form for s in secrets for form in (s, printable(" ".join(s.split()))) if form]
        with self._lock:
            # The longest first: one may be a part of another.
            known = dict.fromkeys([*self._secrets, *added])
            self._secrets = tuple(sorted(known, key=len, reverse=True))

    def text(self, text: str) -> str:
        """Return `text` with every secret masked, also one that is cut off at the end of `text`.

        Messages are shortened before they are redacted, so a secret may be cut.
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


def shown_url(url: str, redactor: Redactor) -> str:
    """Return `url` for messages: shortened, without query parameters that may grant access.

    The state of an upload session is such a parameter: with it anybody can continue the upload.
    """
    path, mark, query = url.partition("?")
    fields = []
    for field in query.split("&"):
        name, equals, _ = field.partition("=")
        fields.append(field if name in _PLAIN else f"{name if equals else ''}{equals}{_MASK}")
    text = f"{path}{mark}{'&'.join(fields)}" if query else path
    text = text if len(text) <= _URL_LIMIT else f"{text[: _URL_LIMIT - 1]}…"
    return redactor.text(printable(text))
