"""The record of one login."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

from regpush.errors import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user's name and password, or a token; `source`: where they were found, for messages.

    `identity_token` is exchanged at a token server. `registry_token` was issued by such a server,
    and is sent to the registry unchanged.
    """

    source: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header for Basic authentication (RFC 7617)."""
        user = self.username or "<token>"
        pair = f"{user}:{self.identity_token or self.password}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The passwords and tokens, in all forms in which they are sent; none may be shown."""
        told = [self.password, self.identity_token, self.registry_token]
        told += [encode(secret) for secret in told for encode in (quote, quote_plus)]
        told.append(self.basic.removeprefix("Basic "))
        return tuple(dict.fromkeys(filter(None, told)))


def described(credentials: Credentials | None) -> str:
    """Return the user and the source of credentials, for messages; never a secret."""
    if credentials is None:
        return "none, anonymous"
    if credentials.registry_token:
        who = "a bearer token"
    elif credentials.identity_token:
        who = "an identity token"
    else:
        who = f"user '{printable(credentials.username)}'"
    return f"{who} from {credentials.source}"
