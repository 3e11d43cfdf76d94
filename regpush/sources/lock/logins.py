"""Logins for package indexes; a login is sent to one origin (scheme, host, port: RFC 6454) only."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from regpush.errors import RefusedError, UsageError, printable
from regpush.http.address import Origin
from regpush.http.netrc import login
from regpush.settings import Settings


def without_login(url: str) -> tuple[str, str, str]:
    """Split `url` into the URL without its login, the user name and the password.

    User name and password are empty where `url` has none. Raises UsageError where `url` is no http
    or https URL; its message does not quote `url`, which may contain a password.
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        plain = parts._replace(netloc=host).geturl()
        Origin.of(plain)
    except (ValueError, RefusedError):
        raise UsageError(
            "the address of a package index, or of a file in the lock file, is not a valid http or "
            "https URL"
        ) from None
    return plain, unquote(parts.username or ""), unquote(parts.password or "")


class _Login(Struct, frozen=True):
    """An Authorization header for the URLs of one origin whose path begins with `path`.

    `secrets`: the parts of the header that no output may contain.
    """

    path: str
    authorization: str
    secrets: tuple[str, ...]


class Logins:
    """The logins for package indexes in one push.

    `netrc_file`: searched for a host that has no other login, None for no such file.
    """

    def __init__(self, netrc_file: str | None) -> None:
        self._netrc_file = netrc_file
        self._by_origin: dict[Origin, list[_Login]] = {}

    @classmethod
    def of(cls, settings: Settings, urls: Iterable[str], names: Mapping[str, str]) -> Logins:
        """Collect logins from `urls`, from the environment, and from the project's named indexes.

        `names`: URLs of the project's package indexes by name; an environment variable of uv with
        that name gives the login. If an origin has several logins, the first is used, in the order
        `urls`, `settings.indexes.urls`, uv's variables, the URLs of `names`. Raises UsageError for
        a text that is no URL.
        """
        logins = cls(settings.netrc_file)
        for url in (*urls, *settings.indexes.urls):
            logins.add(*without_login(url))
        # uv reference, "Environment variables": UV_INDEX_<NAME>_USERNAME has the index's name in
        # capitals, with an underscore for each character that is no letter or digit.
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
        """Add a login for the origin of `url`; does nothing where `user` and `password` are empty.

        A login that was added earlier for that origin takes precedence.
        """
        if user or password:
            self._by_origin.setdefault(Origin.of(url), []).append(_basic(user, password))

    def add_header(self, url: str, authorization: str, secret: str) -> None:
        """Add an Authorization header for all URLs below `url`; `secret` is its secret part.

        A header that was added earlier for the same path takes precedence. Raises UsageError where
        `url` is no URL.
        """
        plain = without_login(url)[0]
        login = _Login(urlsplit(plain).path.rstrip("/") + "/", authorization, (secret,))
        self._by_origin.setdefault(Origin.of(plain), []).append(login)

    def authorization(self, url: str) -> tuple[str, tuple[str, ...]]:
        """Return the Authorization header for `url` and the header's secret parts.

        The header is empty where no login is known, neither here nor in the `.netrc` file. The
        login with the longest matching path is used.
        """
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
    """Return host and port of `url` without its login, printable, for messages."""
    return printable(urlsplit(url).netloc.rpartition("@")[2])
