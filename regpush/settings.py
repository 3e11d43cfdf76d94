"""What this machine says: the environment, read once, by a pure function."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from regpush.errors import UsageError, printable

NIX_STORE = "/nix/store"
GUIX_STORE = "/gnu/store"


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A store by its logical root (`/gnu/store`) and the SQLite database that describes it."""

    logical: str
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The environment's part of a push.

    `cache_dir` is None where the machine has no place for one. `auth_files` are candidates,
    first match wins; missing ones are no error. `stores` are candidates as well.
    """

    cache_dir: str | None = None
    auth_files: tuple[str, ...] = ()
    ca_file: str | None = None
    stores: tuple[StoreLocation, ...] = ()
    source_date_epoch: int | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read `environ`. Raises UsageError where a variable makes no sense."""
        home = environ.get("HOME") or None
        return cls(
            cache_dir=_cache_dir(environ, home),
            auth_files=_auth_files(environ, home),
            ca_file=environ.get("SSL_CERT_FILE") or None,
            stores=_stores(environ),
            source_date_epoch=_epoch(environ.get("SOURCE_DATE_EPOCH", "")),
        )


def _cache_dir(environ: Mapping[str, str], home: str | None) -> str | None:
    if xdg := environ.get("XDG_CACHE_HOME"):
        return os.path.join(xdg, "regpush")
    return os.path.join(home, ".cache", "regpush") if home else None


def _auth_files(environ: Mapping[str, str], home: str | None) -> tuple[str, ...]:
    files = []
    if explicit := environ.get("REGISTRY_AUTH_FILE"):
        files.append(explicit)
    if docker := environ.get("DOCKER_CONFIG"):
        files.append(os.path.join(docker, "config.json"))
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        files.append(os.path.join(runtime, "containers", "auth.json"))
    if home:
        config = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
        files.append(os.path.join(config, "containers", "auth.json"))
        files.append(os.path.join(home, ".docker", "config.json"))
    return tuple(files)


def _stores(environ: Mapping[str, str]) -> tuple[StoreLocation, ...]:
    store = environ.get("NIX_STORE_DIR") or environ.get("NIX_STORE")
    nix_state = environ.get("NIX_STATE_DIR") or "/nix/var/nix"
    guix_state = environ.get("GUIX_STATE_DIRECTORY") or "/var/guix"
    guix_database = environ.get("GUIX_DATABASE_DIRECTORY") or os.path.join(guix_state, "db")
    nix = StoreLocation(store or NIX_STORE, os.path.join(nix_state, "db", "db.sqlite"))
    # Guix reads NIX_STORE_DIR too.
    guix = StoreLocation(store or GUIX_STORE, os.path.join(guix_database, "db.sqlite"))
    named_guix = environ.get("GUIX_STATE_DIRECTORY") or environ.get("GUIX_DATABASE_DIRECTORY")
    return (guix, nix) if named_guix and not environ.get("NIX_STATE_DIR") else (nix, guix)


def _epoch(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,11}", text, re.ASCII):
        raise UsageError(
            f"SOURCE_DATE_EPOCH is '{printable(text)}', not a count of seconds since 1970"
        )
    return int(text)
