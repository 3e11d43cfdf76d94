"""Credentials: from flags, from the files other tools write, from credential helpers.

The files are Docker's `config.json` and containers' `auth.json` (containers-auth.json(5));
the helpers speak the protocol of docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from regpush.errors import UsageError, printable
from regpush.options import RegistryOptions
from regpush.reference import DOCKER_HUB
from regpush.registry.protocol import parse_json

_HELPER_TIMEOUT_S = 60.0
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_NOT_FOUND = "credentials not found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user's name and password, or an identity token; `source` says where they stood."""

    source: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        user = self.username or "<token>"
        pair = f"{user}:{self.identity_token or self.password}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        basic = self.basic.removeprefix("Basic ")
        return tuple(s for s in (self.password, self.identity_token, basic) if s)


def from_options(options: RegistryOptions) -> Credentials | None:
    """What the flags say. Raises UsageError where they say half."""
    if options.username is None and options.password is None:
        return None
    if not options.username or options.password is None:
        raise UsageError("--username and --password-stdin are only of use together")
    return Credentials(
        source="the command line", username=options.username, password=options.password
    )


def from_files(files: Iterable[str], registry: str, repository: str) -> Credentials | None:
    """What the first of `files` that knows `registry` says; missing files are passed over.

    Raises UsageError naming the file that cannot be read, or the helper that fails.
    """
    for path in files:
        config = _load(path)
        if config and (found := _look_up(config, path, registry, repository)):
            return found
    return None


def _load(path: str) -> Mapping[str, object]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot read the credentials in {printable(path)}: {why}") from error
    if not data.strip():
        return {}
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        # The decoder's own exception holds the whole file: it must not be chained.
        raise _malformed(path, f"it is not valid JSON{where}") from None
    if not isinstance(config, dict):
        raise _malformed(path, "it is not a JSON object")
    return config


def _malformed(path: str, why: str) -> UsageError:
    return UsageError(f"cannot read the credentials in {printable(path)}: {why}")


def _look_up(
    config: Mapping[str, object], path: str, registry: str, repository: str
) -> Credentials | None:
    wanted = _keys(registry, repository)
    entries = _section(config, "auths", path)
    known = {_normalise(key): (key, entry) for key, entry in entries.items()}
    for key in wanted:
        if key in known and (found := _inline(*known[key], path)):
            return found
    helpers = {_normalise(k): v for k, v in _section(config, "credHelpers", path).items()}
    helper = next((helpers[key] for key in wanted if key in helpers), config.get("credsStore"))
    if not helper:
        return None
    if not isinstance(helper, str) or "/" in helper:
        raise _malformed(path, f"the credential helper for {registry} is not a name")
    return _ask_helper(helper, _HUB_KEY if registry == DOCKER_HUB else registry, path)


def _section(config: Mapping[str, object], name: str, path: str) -> Mapping[str, object]:
    section = config.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise _malformed(path, f"'{name}' is not a JSON object")
    return section


def _keys(registry: str, repository: str) -> list[str]:
    """The keys that fit, the most specific first: `host/a/b`, `host/a`, `host`."""
    parts = [registry.lower(), *repository.split("/")]
    return ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _normalise(key: str) -> str:
    """`https://host/v1/` and its like are `host`; `host/namespace` stays."""
    scheme, mark, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    host = DOCKER_HUB if host.lower() in _HUB_HOSTS else host.lower()
    path = path.strip("/")
    # Docker never wrote a path that meant one, containers never writes a scheme.
    if (mark and scheme) or path in ("v1", "v2"):
        path = ""
    return f"{host}/{path}" if path else host


def _inline(key: str, entry: object, path: str) -> Credentials | None:
    if not isinstance(entry, dict):
        raise _malformed(path, f"the entry '{printable(key)}' is not a JSON object")
    texts = {}
    for name in ("auth", "username", "password", "identitytoken"):
        value = entry.get(name) or ""
        if not isinstance(value, str):
            raise _malformed(path, f"'{name}' of '{printable(key)}' is not a string")
        texts[name] = value
    username, password = texts["username"], texts["password"]
    if texts["auth"]:
        username, password = _decode(texts["auth"], key, path)
    if not texts["identitytoken"] and not (username and password):
        return None
    return Credentials(
        source=printable(path),
        username=username,
        password=password,
        identity_token=texts["identitytoken"],
    )


def _decode(auth: str, key: str, path: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(auth, validate=True).decode().rstrip("\0")
    except (binascii.Error, ValueError):
        text = ""
    username, colon, password = text.partition(":")
    if not colon:
        # Not chained: the exception would quote what it could not decode.
        raise _malformed(path, f"'auth' of '{printable(key)}' is not base64 of user:password")
    return username, password


def _ask_helper(helper: str, server: str, path: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    named = f"the credential helper {printable(program)}, named in {printable(path)},"
    try:
        done = subprocess.run(
            [program, "get"],
            input=f"{server}\n".encode(),
            capture_output=True,
            timeout=_HELPER_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{named} gave no answer in {_HELPER_TIMEOUT_S:g} s") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise UsageError(f"{named} does not run: {(why or str(error)).lower()}") from error
    if done.returncode:
        # By protocol the reason stands on standard output; a secret is there only on success.
        said = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
        if _NOT_FOUND in said.lower():
            return None
        first = printable(said.splitlines()[0][:200]) if said else "no reason given"
        raise UsageError(f"{named} failed: {first}")
    reply = parse_json(done.stdout)
    username = reply.get("Username") if isinstance(reply, dict) else None
    secret = reply.get("Secret") if isinstance(reply, dict) else None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise UsageError(f"{named} answered something other than a user name and a secret")
    if not secret:
        return None
    if username == "<token>":
        return Credentials(source=printable(program), identity_token=secret)
    return Credentials(source=printable(program), username=username, password=secret)
