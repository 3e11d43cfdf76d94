"""Read npm's configuration: package registries, logins, proxies and cache folder.

npm documentation, "npmrc" and "config"; `npm-registry-fetch` (`lib/auth.js`) for logins.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from regpush.errors import SourceError, UsageError, printable
from regpush.settings import NpmSettings, ProxySettings
from regpush.sources.lock.logins import Logins

_REGISTRY = "https://registry.npmjs.org/"
_VARIABLE = re.compile(r"(?<!\\)(\\*)\$\{([^${}]+)\}")
_KEY = re.compile(r"npm_config_(.+)", re.IGNORECASE | re.DOTALL)
_LOGIN = ("_authToken", "_auth", "username", "_password")
_LARGEST = 1 << 20
_NOTHING = ("", "null", "false", "undefined")
"""Values of a key that mean the same as a missing key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Npmrc:
    """The configuration of npm for a project.

    `values`: the value of each key; several values of a key that ends in `[]` are joined by
    newlines. `variables`: the environment variables.
    """

    values: Mapping[str, str] = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, folder: str, settings: NpmSettings) -> Npmrc:
        """Read npm's configuration for the project in `folder`.

        A key is taken from `npm_config_…` environment variables, else from the project's `.npmrc`,
        else from the user's, else from the global one. Raises SourceError for a file that cannot be
        read.
        """
        variables = settings.variables
        values: dict[str, str] = {}
        for path in (settings.global_file, settings.user_file, os.path.join(folder, ".npmrc")):
            if path:
                values.update(_joined(_read(path, variables)))
        for name, value in variables.items():
            if (match := _KEY.fullmatch(name)) and value:
                values[_normal(match[1])] = value
        values.setdefault("cache", settings.cache or "")
        return cls(values=values, variables=variables)

    @property
    def cache(self) -> str | None:
        """The folder of npm's cache of tarballs (`_cacache`), None where no cache is known."""
        path = self.values.get("cache")
        return os.path.join(os.path.expanduser(path), "_cacache") if path else None

    def registry(self, name: str) -> str:
        """Return the URL, with a slash at its end, of the registry that has the package `name`."""
        scope = name.partition("/")[0] if name.startswith("@") else ""
        scoped = self.values.get(f"{scope.lower()}:registry") if scope else None
        return (scoped or self.values.get("registry") or _REGISTRY).rstrip("/") + "/"

    def tarball(self, name: str, version: str) -> str:
        """Return the URL that a package's tarball usually has in its registry.

        It is used where the lock file states no URL.
        """
        return f"{self.registry(name)}{name}/-/{name.rpartition('/')[2]}-{version}.tgz"

    def with_registry_host(self, url: str) -> str:
        """Return a lock file's `url` with the configured registry's host, where npm replaces it.

        npm documentation, "replace-registry-host": by default only the host of npm's own registry
        is replaced.
        """
        try:
            host, ours = urlsplit(url), urlsplit(self.registry(""))
            said = self.values.get("replace-registry-host", "npmjs")
        except ValueError:
            return url
        replaced = urlsplit(_REGISTRY).hostname if said == "npmjs" else said
        if said == "never" or (said != "always" and host.hostname != replaced):
            return url
        path = host.path if host.path.startswith(ours.path) else ours.path + host.path.lstrip("/")
        return host._replace(scheme=ours.scheme, netloc=ours.netloc, path=path).geturl()

    @property
    def proxies(self) -> ProxySettings | None:
        """The proxy that npm's configuration sets for all requests, None where it sets none.

        `npm-registry-fetch`, `lib/index.js`.
        """
        url = self.value("https-proxy") or self.value("proxy")
        if not url:
            return None
        environment = self.variables.get("NO_PROXY") or self.variables.get("no_proxy", "")
        bypass = self.values.get("noproxy") or environment
        return ProxySettings(http=url, https=url, bypass=bypass)

    def value(self, key: str) -> str:
        """Return the value of `key`, empty where it is not set."""
        said = self.values.get(key, "")
        return "" if said in _NOTHING else said

    def places(self, names: Iterable[str]) -> list[str]:
        """List the registries, as `//HOST/PATH/`, that have a key with one of `names`."""
        found = (key.rpartition(":") for key in self.values if key.startswith("//"))
        return list(dict.fromkeys(place for place, _, name in found if name in names))

    def unset_variables(self) -> list[str]:
        """List the environment variables that logins in `.npmrc` refer to and that are not set."""
        quoted = (
            match[2]
            for key, value in self.values.items()
            if key.startswith("//")
            for match in _VARIABLE.finditer(value)
        )
        return list(dict.fromkeys(quoted))

    def add_to(self, logins: Logins) -> None:
        """Add each login of the configuration to `logins`, for the URLs of its host and path."""
        plain = {
            urlsplit(value).netloc
            for key, value in self.values.items()
            if key.endswith("registry") and value.startswith("http://")
        }
        known = list(self._logins())
        for place, authorization, secret in known:
            host = place.strip("/").partition("/")[0]
            logins.add_header(f"https:{place}", authorization, secret)
            if host in plain:
                logins.add_header(f"http:{place}", authorization, secret)
        for origin, (authorization, secret) in self._of_hosts(known):
            logins.add_header(origin, authorization, secret)

    def _of_hosts(
        self, logins: Sequence[tuple[str, str, str]]
    ) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield the URL of each host that has one registry with a login, and that login.

        A login is its Authorization header and the header's secret part. npm sends a registry's
        login also with requests for tarballs elsewhere on the registry's host, where for instance
        GitLab's registry of a group has them (`npm-registry-fetch`, `lib/auth.js`).
        """
        found: dict[str, set[tuple[str, str]]] = {}
        for key, value in self.values.items():
            if key != "registry" and not key.endswith(":registry"):
                continue
            scheme, _, rest = value.partition("://")
            rest = f"//{rest.rstrip('/')}/"
            fitting = [one for one in logins if rest.startswith(f"{one[0].rstrip('/')}/")]
            if fitting and scheme in ("http", "https"):
                host = rest[2:].partition("/")[0]
                own = max(fitting, key=lambda one: len(one[0]))
                found.setdefault(f"{scheme}://{host}/", set()).add(own[1:])
        for origin, several in found.items():
            if len(several) == 1:
                yield origin, several.pop()

    def _said(self, key: str) -> str:
        """Return the value of `key`; empty where it refers to a variable that is not set."""
        value = self.values.get(key, "")
        return "" if _VARIABLE.search(value) else value

    def _logins(self) -> Iterator[tuple[str, str, str]]:
        """Yield each login: `//host/path/`, the Authorization header, and the header's secret part.

        Raises UsageError for a `_password` that is not base64.
        """
        for place in self.places(_LOGIN):
            said = {name: self._said(f"{place}:{name}") for name in _LOGIN}
            if said["_authToken"]:
                yield place, f"Bearer {said['_authToken']}", said["_authToken"]
            elif said["_auth"]:
                yield place, f"Basic {said['_auth']}", said["_auth"]
            elif said["username"] and said["_password"]:
                pair = _pair(place, said["username"], said["_password"])
                yield place, f"Basic {pair}", pair


def _pair(place: str, user: str, encoded: str) -> str:
    try:
        password = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(
            f".npmrc: {printable(place)}:_password is not base64; 'npm login' writes it"
        ) from None
    return base64.b64encode(user.encode() + b":" + password).decode()


def _normal(key: str) -> str:
    """Convert `key`, the text after `npm_config_` in a variable's name, into a key of `.npmrc`."""
    return key if key.startswith("//") else (key[0] + key[1:].replace("_", "-")).lower()


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the last value of each key; for a key that ends in `[]`, all values by lines."""
    found: dict[str, str] = {}
    for key, value in pairs:
        found[key] = f"{found[key]}\n{value}" if key.endswith("[]") and key in found else value
    return found


def _read(path: str, variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the keys and values of the `.npmrc` file at `path`; nothing where it is missing.

    The syntax is that of npm's package `ini`. Raises SourceError where the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(_LARGEST)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return
    except OSError as error:
        raise SourceError(f"cannot read {printable(path)}: {error.strerror}") from error
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith((";", "#", "[")):
            continue
        key, value = key.strip(), value.strip()
        if value[:1] in ("'", '"') and value[:1] == value[-1:] and len(value) > 1:
            value = value[1:-1]
        else:
            value = re.split(r"(?<!\\)[;#]", value)[0].strip()
        yield _expanded(key, variables), _expanded(value, variables)


def _expanded(text: str, variables: Mapping[str, str]) -> str:
    """Replace each `${NAME}` in `text` by the variable's value.

    A variable that is not set stays as it is, or becomes empty where it is written `${NAME?}`.
    """

    def value(match: re.Match[str]) -> str:
        name = match[2].removesuffix("?")
        missing = "" if name != match[2] else f"${{{name}}}"
        return match[1] + variables.get(name, missing)

    return _VARIABLE.sub(value, text)
