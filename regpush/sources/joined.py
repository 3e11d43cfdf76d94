"""Join several targets into one closure: store paths, and what Nix and Guix build."""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Sequence
from dataclasses import replace

from regpush.closure import Wishes
from regpush.errors import UsageError, printable
from regpush.options import NixOptions, SourceOptions
from regpush.settings import StoreLocation, chroot_stores
from regpush.sources import guix, store
from regpush.sources.nix.cache import Caches
from regpush.sources.prefixes.guix import Packages
from regpush.sources.prefixes.store import Stored
from regpush.sources.source import Asked, Found, InStore, Meaning, Whole
from regpush.sources.store_item import StoreItem
from regpush.sources.store_part import StorePart


def joined(meant: Sequence[Meaning], asked: Asked) -> Found:
    """Make one closure of targets that are store paths or that Nix or Guix builds.

    Returns a phrase that describes the targets in messages, and the closure. Raises UsageError for
    any other target, SourceError, CancelledError.
    """
    stores = (*_named_store(asked.options.nix), *asked.stores)
    caches = functools.cache(lambda: Caches.of(asked.options.nix.caches, asked.workshop))

    def locate(path: str) -> StorePart:
        return store.locate(StoreItem(*posixpath.split(path)), stores, caches)

    made = [one.parts(asked, locate) for one in map(_in_store, meant)]
    parts = [part for one in made for part in one.parts]
    kind, found = store.closure_of(store.main_first(parts), asked.workshop)
    return kind, replace(
        found,
        provenance=next((one.provenance for one in reversed(made) if one.provenance), ()),
        system=_built_for(meant, asked.options) or found.system,
        wishes=Wishes(find_entrypoint=made[0].find_entrypoint),
    )


def _in_store(one: Meaning) -> InStore:
    if isinstance(one, Whole):
        raise UsageError(
            f"{printable(one.path)} cannot be combined with other targets: only store paths, Guix "
            "packages, nix: and guix: targets can; push it by itself"
        )
    return one


def _named_store(options: NixOptions) -> tuple[StoreLocation, ...]:
    """Return the store that `--store` names; empty where its URL does not name a local store."""
    return chroot_stores(options.store) if options.store else ()


def _built_for(meant: Sequence[Meaning], options: SourceOptions) -> str | None:
    """Return the system, in Nix's form, that the user asked to build all targets for.

    None where the user named no system, or where a target is an existing store path.
    """
    if any(isinstance(one, Stored) for one in meant):
        return None
    if options.guix.target and any(isinstance(one, Packages) for one in meant):
        return guix.system_of(options.guix.target)
    return options.system
