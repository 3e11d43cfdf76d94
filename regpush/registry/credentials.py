"""Who we are at a registry, as other tools have stored it.

Docker's config.json and containers-auth.json(5): `auths`, `credHelpers`, `credsStore`. The
first file that knows the registry wins.
"""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from regpush.errors import UsageError, printable
from regpush.options import RegistryOptions
from regpush.reference import DOCKER_HUB, Reference
from regpush.settings import Settings

_HUB_KEY = "https://index.docker.io/v1/"
_IDENTITY_USER = "<token>"
_HELPER_TIMEOUT_S = 60.0
_MAX_FILE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user name and password, or an identity token to get access tokens for."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def secret(self) -> str:
        """What proves it: the identity token, or the password."""
        return self.identity_token or self.password

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        pair = f"{self.username}:{self.secret}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


def find_credentials(
    reference: Reference, options: RegistryOptions, settings: Settings
) -> Credentials | None:
    """Credentials for `reference`: the flags, else the first file that has some, else None.

    Raises UsageError for a file or helper that makes no sense, naming it.
    """
    if options.username is not None:
        if options.password is None:
            raise UsageError("a user name without a password: give --password-stdin as well")
        return Credentials(username=options.username, password=options.password)
    for path in settings.auth_files:
        config = _read(path)
        if config and (found := _in_config(path, config, reference)):
            return found
    return None


def _read(path: str) -> Mapping[str, Any] | None:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _bad(path, error.strerror or type(error).__name__) from error
    try:
        config = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        # Not chained: the parser's message quotes the file.
        raise _bad(path, "it is not JSON") from None
    if not isinstance(config, dict):
        raise _bad(path, "it is not a JSON object")
    return config


def _in_config(path: str, config: Mapping[str, Any], reference: Reference) -> Credentials | None:
    helpers = _object(path, config, "credHelpers")
    store = config.get("credsStore")
    for key in _helper_keys(reference):
        helper = helpers.get(key)
        if isinstance(helper, str) and helper:
            return _ask_helper(helper, key)
    if isinstance(store, str) and store:
        for key in _helper_keys(reference):
            if found := _ask_helper(store, key):
                return found
    auths = _object(path, config, "auths")
    for key in _keys(reference):
        entry = auths.get(key)
        if isinstance(entry, Mapping) and (found := _entry(path, key, entry)):
            return found
    return None


def _helper_keys(reference: Reference) -> tuple[str, ...]:
    return (_HUB_KEY, DOCKER_HUB) if reference.registry == DOCKER_HUB else (reference.registry,)


def _keys(reference: Reference) -> Iterator[str]:
    """The keys of `auths` that speak of `reference`, the most specific first."""
    parts = reference.name.split("/")
    for count in range(len(parts), 1, -1):
        yield "/".join(parts[:count])
    hosts = [reference.registry]
    if reference.registry == DOCKER_HUB:
        yield _HUB_KEY
        hosts += ["index.docker.io", "registry-1.docker.io"]
    for host in hosts:
        yield host
        for scheme in ("https", "http"):
            for path in ("", "/", "/v1", "/v1/", "/v2", "/v2/"):
                yield f"{scheme}://{host}{path}"


def _entry(path: str, key: str, entry: Mapping[str, Any]) -> Credentials | None:
    username, password = _text(entry, "username"), _text(entry, "password")
    if encoded := _text(entry, "auth"):
        try:
            pair = base64.b64decode(encoded, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise _bad(path, f"'auth' of '{printable(key)}' is not base64") from None
        username, colon, password = pair.rstrip("\0").partition(":")
        if not colon:
            raise _bad(path, f"'auth' of '{printable(key)}' is not user:password")
    token = _text(entry, "identitytoken")
    if not token and username == _IDENTITY_USER:
        token = password
    if not token and not (username and password):
        return None  # an empty entry marks a login that a helper keeps
    return Credentials(username=username or _IDENTITY_USER, password=password, identity_token=token)


def _ask_helper(helper: str, key: str) -> Credentials | None:
    """Run `docker-credential-HELPER get` (docker-credential-helpers' protocol)."""
    program = f"docker-credential-{helper}"
    if "/" in helper:
        raise UsageError(f"bad credential helper '{printable(helper)}': a name, not a path")
    try:
        done = subprocess.run(
            [program, "get"],
            input=key.encode(),
            capture_output=True,
            timeout=_HELPER_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError(f"the credential helper {printable(program)} is not on the PATH") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or "it did not answer"
        raise UsageError(f"cannot run the helper {printable(program)}: {reason}") from None
    if done.returncode != 0:
        if b"credentials not found" in done.stdout + done.stderr:
            return None
        words = printable((done.stderr or done.stdout)[:200].strip())
        raise UsageError(f"the credential helper {printable(program)} failed: {words}")
    try:
        answer = json.loads(done.stdout)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("Secret"), str):
        raise UsageError(f"the credential helper {printable(program)} did not answer in JSON")
    username, secret = _text(answer, "Username"), answer["Secret"]
    if username == _IDENTITY_USER:
        return Credentials(username=username, identity_token=secret)
    return Credentials(username=username, password=secret) if username else None


def _object(path: str, config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _bad(path, f"'{key}' is not a JSON object")
    return value


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _bad(path: str, why: str) -> UsageError:
    return UsageError(f"cannot use the credentials in {printable(path)}: {why}")
