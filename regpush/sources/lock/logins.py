"""Logins for package indexes; each is for one origin (RFC 6454) and no other."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from regpush.errors import RefusedError, UsageError, printable
from regpush.http.address import Origin
from regpush.http.netrc import login
from regpush.settings import Settings


def without_login(url: str) -> tuple[str, str, str]:
    """Split `url` into the URL without user information, the user name and the password.

    Raises UsageError, which does not quote the text, where it is no URL.
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        plain = parts._replace(netloc=host).geturl()
        Origin.of(plain)
    except (ValueError, RefusedError):
        raise UsageError("an index, or a file of the lock, has no http or https address") from None
    return plain, unquote(parts.username or ""), unquote(parts.password or "")


@dataclass(frozen=True, slots=True)
class _Login:
    """An Authorization header for everything below `path`; `secrets`: the secret parts of it."""

    path: str
    authorization: str
    secrets: tuple[str, ...]


class Logins:
    """The logins of a push by origin; `.netrc` is read when a login is needed."""

    def __init__(self, netrc_file: str | None) -> None:
        self._netrc_file = netrc_file
        self._by_origin: dict[Origin, list[_Login]] = {}

    @classmethod
    def of(cls, settings: Settings, urls: Iterable[str], names: Mapping[str, str]) -> Logins:
        """Collect logins from `urls`, the environment, and the indexes `names` (URLs by name).

        The first for an origin counts. Raises UsageError for a text that is no URL.
        """
        logins = cls(settings.netrc_file)
        for url in (*urls, *settings.indexes.urls):
            logins.add(*without_login(url))
        # uv reference, "Environment variables": the name in capitals, all else as underscores.
        spelled = {
            "".join(c if c.isalnum() else "_" for c in name.upper()): url
            for name, url in names.items()
        }
        for name, user, password in settings.indexes.logins:
            if name in spelled:
                logins.add(without_login(spelled[name])[0], user, password)
        for url in names.values():
            logins.add(*without_login(url))
        return logins

    def add(self, url: str, user: str, password: str) -> None:
        """Add a login for the origin of `url`, if one is given; an earlier one takes precedence."""
        if user or password:
            self._by_origin.setdefault(Origin.of(url), []).append(_basic(user, password))

    def add_header(self, url: str, authorization: str, secret: str) -> None:
        """Add an Authorization header for everything below `url`; an earlier one takes precedence.

        Raises UsageError where `url` is no URL.
        """
        plain = without_login(url)[0]
        login = _Login(urlsplit(plain).path.rstrip("/") + "/", authorization, (secret,))
        self._by_origin.setdefault(Origin.of(plain), []).append(login)

    def authorization(self, url: str) -> tuple[str, tuple[str, ...]]:
        """Find the Authorization header for `url`, empty without one, and its secret parts."""
        origin, path = Origin.of(url), urlsplit(url).path
        known = [one for one in self._by_origin.get(origin, ()) if path.startswith(one.path)]
        if known:
            found = max(known, key=lambda one: len(one.path))
            return found.authorization, found.secrets
        pair = login(self._netrc_file, [origin.host]) if self._netrc_file else None
        if not pair:
            return "", ()
        found = _basic(*pair)
        return found.authorization, found.secrets


def _basic(user: str, password: str) -> _Login:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return _Login("/", f"Basic {pair}", tuple(filter(None, (pair, password))))


def described(url: str) -> str:
    """Return the host of `url`, for people."""
    return printable(urlsplit(url).netloc.rpartition("@")[2])
