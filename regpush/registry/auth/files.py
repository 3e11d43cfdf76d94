"""Files with logins: Docker's `config.json` and containers' `auth.json`.

Both have one format (containers-auth.json(5)); unknown members are kept.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from regpush.errors import UsageError, printable
from regpush.reference import DOCKER_HUB
from regpush.registry.auth.keys import docker_key, normalise
from regpush.registry.auth.record import Credentials

_DOCKER_FILE = "config.json"
_SIZE_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthFile:
    """The content of a file with logins; `path` names it in messages.

    Every method raises UsageError for malformed content; the message names the file and quotes
    nothing of it.
    """

    path: str
    content: Mapping[str, object] = field(repr=False)

    @classmethod
    def load(cls, path: str) -> AuthFile:
        """Read the file `path`; a file that is missing or empty has no logins."""
        try:
            with open(path, "rb") as file:
                data = file.read(_SIZE_LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            data = b""
        except (OSError, ValueError) as error:
            why = (getattr(error, "strerror", None) or str(error)).lower()
            raise _malformed(path, why) from error
        return cls.parse(data, path)

    @classmethod
    def parse(cls, data: bytes, path: str) -> AuthFile:
        """Read the bytes of a file with logins; `path` names it in messages."""
        if not data.strip():
            return cls(path=path, content={})
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as error:
            where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
            # The decoder's own exception holds the whole file: it must not be chained.
            raise _malformed(path, f"it is not valid JSON{where}") from None
        if not isinstance(content, dict):
            raise _malformed(path, "it is not a JSON object")
        return cls(path=path, content=content)

    def helper(self, key: str) -> str | None:
        """Return the name of the credential helper for `key`, a registry or a `registry/path`.

        None without a helper. `credsStore`, the helper for all registries, is not used for a path.
        """
        own = {normalise(key): value for key, value in self._section("credHelpers").items()}
        for_all = None if "/" in key else self.content.get("credsStore")
        # An empty name means that the file itself holds the login, whatever `credsStore` says.
        helper = own.get(key.lower(), for_all)
        if not helper:
            return None
        if not isinstance(helper, str) or "/" in helper:
            raise _malformed(self.path, f"the credential helper for {key} is not a name")
        return helper

    def login(self, key: str) -> Credentials | None:
        """Return the login that the file itself holds under the key `key`, in normal form."""
        for own, entry in self._section("auths").items():
            if normalise(own) == key and (found := self._inline(own, entry)):
                return found
        return None

    def knows(self, registry: str) -> bool:
        """Whether the file has an entry for `registry` as a whole, also one that names a helper."""
        own = registry.lower()
        sections = (self._section("auths"), self._section("credHelpers"))
        return any(normalise(key) == own for section in sections for key in section)

    def with_login(self, registry: str, username: str, password: str) -> AuthFile:
        """Return the file with this login for `registry`, in place of any earlier one."""
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        return self._with_entry(registry, {"auth": pair})

    def with_mark(self, registry: str) -> AuthFile:
        """Return the file with an empty entry for `registry`.

        Docker writes such an entry when a helper keeps the login.
        """
        return self._with_entry(registry, {})

    def without_login(self, registry: str) -> AuthFile:
        """Return the file without an entry for `registry`; entries of its namespaces stay."""
        entries = self._section("auths")
        kept = {k: v for k, v in entries.items() if normalise(k) != registry.lower()}
        return replace(self, content={**self.content, "auths": kept}) if kept != entries else self

    def dump(self) -> bytes:
        """Return the bytes of the file, indented like Docker's."""
        return (json.dumps(self.content, indent="\t", ensure_ascii=False) + "\n").encode()

    def _with_entry(self, registry: str, entry: Mapping[str, str]) -> AuthFile:
        entries = self._section("auths")
        same = [key for key in entries if normalise(key) == registry.lower()]
        key = self._key(registry)
        key = key if key in same or not same else same[0]
        # Other spellings of the registry are removed, since they might be read instead.
        kept = {k: v for k, v in entries.items() if k == key or k not in same}
        return replace(self, content={**self.content, "auths": {**kept, key: entry}})

    def _key(self, registry: str) -> str:
        if os.path.basename(self.path) == _DOCKER_FILE:
            return docker_key(registry)
        return DOCKER_HUB if registry == DOCKER_HUB else registry

    def _section(self, name: str) -> Mapping[str, object]:
        section = self.content.get(name)
        if section is None:
            return {}
        if not isinstance(section, dict):
            raise _malformed(self.path, f"'{name}' is not a JSON object")
        return section

    def _inline(self, key: str, entry: object) -> Credentials | None:
        if not isinstance(entry, dict):
            raise _malformed(self.path, f"the entry '{printable(key)}' is not a JSON object")
        texts = {}
        for name in ("auth", "username", "password", "identitytoken", "registrytoken"):
            value = entry.get(name) or ""
            if not isinstance(value, str):
                raise _malformed(self.path, f"'{name}' of '{printable(key)}' is not a string")
            texts[name] = value
        username, password = texts["username"], texts["password"]
        if texts["auth"]:
            username, password = self._decode(texts["auth"], key)
        tokens = texts["identitytoken"], texts["registrytoken"]
        if not any(tokens) and not (username and password):
            return None
        return Credentials(
            source=printable(self.path),
            username=username,
            password=password,
            identity_token=tokens[0],
            registry_token=tokens[1],
        )

    def _decode(self, auth: str, key: str) -> tuple[str, str]:
        try:
            # GNU base64 breaks lines at 76 columns, and Docker passes over line ends. Padding may
            # be missing (go-containerregistry, authn.go, decodeDockerConfigFieldAuth).
            joined = "".join(auth.split()).rstrip("=")
            padded = joined + "=" * (-len(joined) % 4)
            text = base64.b64decode(padded, validate=True).decode().rstrip("\0")
        except (binascii.Error, ValueError):
            text = ""
        username, colon, password = text.partition(":")
        if not colon:
            # Not chained: the exception would quote what it could not decode.
            what = f"'auth' of '{printable(key)}' is not base64 of user:password"
            raise _malformed(self.path, what)
        return username, password


def _malformed(path: str, why: str) -> UsageError:
    return UsageError(f"cannot read the credentials in {printable(path)}: {why}")
