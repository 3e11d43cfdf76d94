"""Targets, as the user named them, become a closure.

The order in which a name is understood is that of docs/guide/targets.md: a prefix, then
an existing path (a store path or a link into a store, a closure file, a directory), then a
package, where Guix is on the PATH.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from regpush.closure import Closure, Wishes
from regpush.errors import UsageError, printable
from regpush.events import Note, TargetResolved
from regpush.files.filesystem import unreadable, working_directory
from regpush.options import GuixOptions, NixOptions, SourceOptions
from regpush.platform import Platform
from regpush.settings import StoreLocation, chroot_stores
from regpush.sources import closure_file, directory, file, guix, store
from regpush.sources.identity import forget, identify, remember
from regpush.sources.link_root import link_roots
from regpush.sources.nix.cache import Caches
from regpush.sources.programs import run_on
from regpush.sources.stats import Stats
from regpush.sources.store import NotValidError, Part, StoreItem
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop

__all__ = ["Stats", "Workshop", "forget", "identify", "link_roots", "remember", "resolve", "run_on"]

_Found: TypeAlias = tuple[str, Closure]
"""What kind of thing a target is, for people, and its closure."""


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
    meant = [_meaning(target, stores, workshop) for target in targets]
    match _with_one_profile(meant, options.guix):
        case []:
            raise UsageError("nothing to push: name a directory, a store path or a package")
        case [_Directory(path=path)]:
            kind, closure = _from_directory(path, options, workshop)
        case [_ClosureFile(path=path)]:
            kind, closure = _from_closure_file(path, stores, workshop)
        case [_File(path=path)]:
            kind, closure = file.resolve(path, options)
        case [_Locked(ecosystem="python", path=path)] if surroundings:
            kind, closure = _of_python(path, options, platform, workshop, surroundings)
        case [_Locked(ecosystem="node", path=path)] if surroundings:
            from regpush.sources.node import source as node  # few pushes are of it

            kind, closure = node.resolve(path, options, platform, workshop, surroundings)
        case several:
            kind, closure = _from_stores(several, options, stores, workshop)
    size = sum(item.size for item in closure.items)
    workshop.notify(
        TargetResolved(target=" ".join(targets), kind=kind, items=len(closure.items), size=size)
    )
    return closure


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str


@dataclass(frozen=True, slots=True)
class _ClosureFile:
    path: str


@dataclass(frozen=True, slots=True)
class _File:
    """A program, a script or a jar."""

    path: str


@dataclass(frozen=True, slots=True)
class _Locked:
    """A project with a lock file, or the lock file."""

    ecosystem: str
    path: str


@dataclass(frozen=True, slots=True)
class _Packages:
    """Packages of Guix, as specifications."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Installables:
    """What follows `nix:`."""

    text: str


_Meaning: TypeAlias = (
    _Directory | _ClosureFile | _File | _Locked | _Packages | _Installables | StoreItem
)


def _meaning(target: str, stores: tuple[StoreLocation, ...], workshop: Workshop) -> _Meaning:
    """What kind of thing `target` is. Raises UsageError, SourceError."""
    prefix, colon, rest = target.partition(":")
    match prefix if colon else "":
        case "dir":
            return _Directory(rest)
        case "store":
            item = store.find(rest, stores)
            if item is None:
                raise UsageError(f"{printable(rest)} neither lies in a store nor links to one")
            return item
        case "closure":
            return _ClosureFile(rest)
        case "python" | "node":
            return _Locked(prefix, rest or ".")
        case "nix":
            return _Installables(rest)
        case "guix":
            return _Packages(tuple(rest.split()))
    if not os.path.lexists(target) and guix.is_specification(target) and guix.has_guix():
        return _Packages((target,))
    return _existing(target, stores, workshop)


def _existing(path: str, stores: tuple[StoreLocation, ...], workshop: Workshop) -> _Meaning:
    if item := store.find(path, stores):
        return item
    mode = _mode(path)
    if stat.S_ISREG(mode) and closure_file.looks_like_one(path):
        return _ClosureFile(path)
    if not stat.S_ISDIR(mode):
        return _File(path)
    if store.is_whole_store(path, stores):
        raise UsageError(f"{printable(path)} is a whole store; name an item in it")
    for name in ("flake.nix", "default.nix"):
        if os.path.isfile(os.path.join(path, name)):
            said = f"{printable(path)} has a {name}, but is pushed as it is; nix:{printable(path)} "
            workshop.notify(Note(message=said + "builds it and pushes the result"))
            break
    return _Directory(path)


def _from_directory(path: str, options: SourceOptions, workshop: Workshop) -> _Found:
    if not stat.S_ISDIR(_mode(path)):
        raise UsageError(f"{printable(path)} is not a directory")
    notify, cancel = workshop.notify, workshop.cancel
    return "directory", directory.resolve(path, options, notify=notify, cancel=cancel)


def _from_closure_file(path: str, stores: tuple[StoreLocation, ...], workshop: Workshop) -> _Found:
    if not stat.S_ISREG(_mode(path)):
        raise UsageError(f"{printable(path)} is not a file")
    return "closure file", closure_file.resolve(path, stores, workshop)


def _of_python(
    path: str,
    options: SourceOptions,
    platform: Platform | None,
    workshop: Workshop,
    surroundings: Surroundings,
) -> _Found:
    # Its libraries are an extra, and few pushes are of it.
    from regpush.sources import python

    return python.resolve(path, options, platform, workshop, surroundings)


def _with_one_profile(meant: Sequence[_Meaning], options: GuixOptions) -> list[_Meaning]:
    """`meant` with all Guix packages joined at the first one: they make one profile."""
    names = tuple(name for one in meant if isinstance(one, _Packages) for name in one.names)
    profile: list[_Meaning] = [_Packages(names)]
    at = next((i for i, one in enumerate(meant) if isinstance(one, _Packages)), None)
    if at is None:
        return [*(profile if options.names_packages else ()), *meant]
    others = [one for one in meant[at:] if not isinstance(one, _Packages)]
    return [*meant[:at], *profile, *others]


def _from_stores(
    meant: Sequence[_Meaning],
    options: SourceOptions,
    stores: tuple[StoreLocation, ...],
    workshop: Workshop,
) -> _Found:
    """One closure of store items, and of what Nix and Guix make of the others."""
    stores = (*_named_store(options.nix), *stores)
    caches = functools.cache(lambda: Caches.of(options.nix.caches, workshop))

    def locate(path: str) -> Part:
        return store.locate(StoreItem(*posixpath.split(path)), stores, caches)

    parts: list[Part] = []
    wishes = Wishes()
    provenance: tuple[tuple[str, str], ...] = ()
    for one in meant:
        match one:
            case StoreItem():
                parts.append(store.locate(one, stores, caches))
            case _Installables(text=text):
                found, program = _of_nix(text, options, locate, workshop)
                wishes = wishes if parts else Wishes(find_entrypoint=program)
                parts += found
            case _Packages(names=names):
                built = guix.build(names, options.guix, options.system, workshop)
                parts.append(locate(built.profile))
                provenance = built.provenance
            case (
                _Directory(path=path)
                | _ClosureFile(path=path)
                | _File(path=path)
                | _Locked(path=path)
            ):
                raise UsageError(
                    f"{printable(path)} cannot be pushed together with others: several targets "
                    "are store paths, packages, nix: or guix: ones"
                )
    kind, closure = store.closure_of(store.main_first(parts), workshop)
    built_for = _built_for(meant, options)
    system = built_for or closure.system
    return kind, replace(closure, provenance=provenance, system=system, wishes=wishes)


def _named_store(options: NixOptions) -> tuple[StoreLocation, ...]:
    """Where the database of the store `--store` is, if that tells."""
    return chroot_stores(options.store) if options.store else ()


def _built_for(meant: Sequence[_Meaning], options: SourceOptions) -> str | None:
    """The system that everything was asked to be built for, whichever machine did it."""
    if any(isinstance(one, StoreItem) for one in meant):
        return None
    if options.guix.target and any(isinstance(one, _Packages) for one in meant):
        return guix.system_of(options.guix.target)
    return options.system


def _of_nix(
    text: str, options: SourceOptions, locate: Callable[[str], Part], workshop: Workshop
) -> tuple[list[Part], Callable[[], tuple[str, ...]]]:
    """What `text` after `nix:` names, and what finds the entry point of the first of it.

    It is built only if neither the store nor the binary caches have all of it.
    """
    from regpush.sources.nix import installables

    wanted = installables.parse(text, workshop)
    evaluated = installables.evaluate(wanted, options.nix, options.system, workshop)
    paths = list(dict.fromkeys(path for one in evaluated for path in one.paths))
    parts: list[Part] = []
    if all(paths):
        with contextlib.suppress(NotValidError):
            parts = [locate(path) for path in paths]
    if not parts:
        built = installables.build(evaluated, options.nix, workshop)
        order = {path: at for at, path in enumerate(paths)}
        parts = [locate(path) for path in sorted(built, key=lambda one: order.get(one, len(order)))]

    def program() -> tuple[str, ...]:
        meta = installables.meta_of(wanted[0], options.nix, options.system, workshop)
        outputs = dict(zip(evaluated[0].outputs, (part.root for part in parts), strict=False))
        place = outputs.get(meta.program_output) or parts[0].root
        return (f"{place}/bin/{meta.program}",) if meta.program else ()

    return parts, program


def _near(path: str) -> str:
    """A question after what `path` may have been meant for; empty where nothing is like it."""
    import difflib

    folder, name = os.path.split(path.rstrip("/"))
    try:
        names = os.listdir(folder or ".")
    except (OSError, ValueError):
        return ""
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    return f"; did you mean {printable(os.path.join(folder, found[0]))}?" if found else ""


def _from_here(path: str) -> str:
    return "" if os.path.isabs(path) else f", from {printable(working_directory())}"


def _mode(path: str) -> int:
    """The file mode of what `path` leads to. Raises UsageError if that is nothing."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        what = "a link to nothing" if os.path.islink(path) else "not there"
        maybe = guix.is_specification(path) and not os.path.islink(path)
        no_guix = "; for it to be a package, 'guix' must be on the PATH" if maybe else ""
        raise UsageError(
            f"target '{printable(path)}' is {what}; looked for a directory, a store path, a "
            f"link into a store or a closure file{_from_here(path)}{no_guix}"
            f"{_near(path)}"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
