"""Targets, as the user named them, become a closure.

The order in which a name is understood is that of docs/guide/targets.md: a prefix, then
an existing path (a store path or a link into a store, a closure file, a directory), then a
package, where Guix is on the PATH.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import replace

from regpush.closure import Closure
from regpush.errors import UsageError, printable
from regpush.events import Note, TargetResolved
from regpush.options import SourceOptions
from regpush.platform import Platform
from regpush.settings import StoreLocation
from regpush.sources import guix, prefixes
from regpush.sources.identity import forget, identify, remember
from regpush.sources.link_root import link_roots
from regpush.sources.path import mode_of
from regpush.sources.prefixes import dir  # noqa: A004  # named like its prefix
from regpush.sources.prefixes.guix import Packages
from regpush.sources.prefixes.store import Stored
from regpush.sources.programs import run_on
from regpush.sources.source import Asked, Meaning, Whole
from regpush.sources.stats import Stats
from regpush.sources.store_item import find, is_whole_store
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop

__all__ = ["Stats", "Workshop", "forget", "identify", "link_roots", "remember", "resolve", "run_on"]


def resolve(
    targets: Sequence[str],
    options: SourceOptions,
    stores: tuple[StoreLocation, ...],
    *,
    platform: Platform | None = None,
    workshop: Workshop,
    surroundings: Surroundings | None = None,
) -> Closure:
    """The closure that `targets` name; who listens to the workshop learns what it was taken for.

    Several targets, all in stores, make one closure; packages of Guix, one profile. Without any,
    the options name its packages. `stores` are where stores may be described, likeliest first.
    `platform` is what it is wanted for, None if nobody said: what is built on demand is built for
    it, and what is there already is taken as it is. `surroundings`: for targets with a lock file.
    A directory is listed, and `identify` finds out what is in it; of a store only the database is
    read. Raises UsageError for a target that is nothing known, and for a file of an app's own
    code whose name says that it is a secret; SourceError for what cannot be built, read, or is
    not valid, CancelledError.
    """
    if options.system is None and platform and not options.guix.target:
        options = replace(options, system=platform.system)
    asked = Asked(
        options=options,
        stores=stores,
        platform=platform,
        workshop=workshop,
        surroundings=surroundings,
    )
    match _with_one_profile([_meaning(target, asked) for target in targets], asked):
        case []:
            raise UsageError("nothing to push: name a directory, a store path or a package")
        case [Whole() as one]:
            kind, found = one.closure(asked)
        case several:
            # It imports what reads stores and calls Nix: 12 ms that a directory needs not wait for.
            from regpush.sources.joined import joined

            kind, found = joined(several, asked)
    size = sum(item.size for item in found.items)
    workshop.notify(
        TargetResolved(target=" ".join(targets), kind=kind, items=len(found.items), size=size)
    )
    return found


def _meaning(target: str, asked: Asked) -> Meaning:
    """What kind of thing `target` is. Raises UsageError, SourceError."""
    if target == "-":
        return _archive(target, asked)
    prefix, colon, rest = target.partition(":")
    if colon and (source := prefixes.find(prefix)):
        return source.understand(rest, asked)
    if not os.path.lexists(target) and guix.is_specification(target) and guix.has_guix():
        return Packages((target,))
    return _existing(target, asked)


def _existing(path: str, asked: Asked) -> Meaning:
    if item := find(path, asked.stores):
        return Stored(item)
    mode = mode_of(path)
    if not stat.S_ISDIR(mode):
        return _file(path, mode, asked)
    if is_whole_store(path, asked.stores):
        raise UsageError(f"{printable(path)} is a whole store; name an item in it")
    for name in ("flake.nix", "default.nix"):
        if os.path.isfile(os.path.join(path, name)):
            said = f"{printable(path)} has a {name}, but is pushed as it is; nix:{printable(path)} "
            asked.workshop.notify(Note(message=said + "builds it and pushes the result"))
            break
    return dir.understand(path, asked)


def _file(path: str, mode: int, asked: Asked) -> Meaning:
    # What lists a closure is read with what reads stores: 12 ms that directories need not wait for.
    from regpush.sources import closure_file, file
    from regpush.sources.prefixes import closure

    if stat.S_ISREG(mode) and closure_file.looks_like_one(path):
        return closure.understand(path, asked)
    if stat.S_ISFIFO(mode) or (stat.S_ISREG(mode) and file.is_archive(path)):
        return _archive(path, asked)
    return Whole(path, lambda asked: file.resolve(path, asked.options))


def _archive(path: str, asked: Asked) -> Meaning:
    from regpush.sources.prefixes import tar  # few pushes are of one

    return tar.understand(path, asked)


def _with_one_profile(meant: Sequence[Meaning], asked: Asked) -> list[Meaning]:
    """`meant` with all Guix packages joined at the first one: they make one profile."""
    names = tuple(name for one in meant if isinstance(one, Packages) for name in one.names)
    profile: list[Meaning] = [Packages(names)]
    at = next((i for i, one in enumerate(meant) if isinstance(one, Packages)), None)
    if at is None:
        return [*(profile if asked.options.guix.names_packages else ()), *meant]
    others = [one for one in meant[at:] if not isinstance(one, Packages)]
    return [*meant[:at], *profile, *others]
