"""Turn the targets that the user named into one closure.

A target is interpreted in the order of docs/guide/targets.md: a prefix; an existing path (a store
path or a link into a store, a closure file, an archive, a program, a directory); a package, where
Guix is on the PATH.
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
from regpush.sources import prefixes
from regpush.sources.path import mode_of
from regpush.sources.prefixes import dir  # noqa: A004  # named like its prefix
from regpush.sources.source import Asked, Meaning, Whole
from regpush.sources.store_item import find, is_whole_store
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop


def resolve(
    targets: Sequence[str],
    options: SourceOptions,
    stores: tuple[StoreLocation, ...],
    *,
    platform: Platform | None = None,
    workshop: Workshop,
    surroundings: Surroundings | None = None,
) -> Closure:
    """Make the closure that `targets` name; a TargetResolved event tells kind and size.

    Several targets must all consist of store paths. They make one closure, and packages of Guix
    among them make one profile. Without targets, the packages that the options name are used.
    `stores`: stores and their databases, likeliest first. `platform`: what the image is for, None
    where the user named none; Nix and Guix build for it, while existing files are used as they are.
    `surroundings`: how other hosts are reached, for targets with a lock file. A directory is only
    listed, and `identify` reads its files; of a store only the database is read. Raises UsageError
    for a target that is not recognised, and for a file of an app's own code whose name marks it as
    a secret; SourceError for what cannot be built or read, or is not a valid store path;
    CancelledError.
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
    meant = [_meaning(target, asked) for target in targets]
    if options.guix.names_packages or not all(isinstance(one, Whole) for one in meant):
        from regpush.sources.prefixes.guix import with_one_profile  # a directory has no packages

        meant = with_one_profile(meant, asked)
    match meant:
        case []:
            raise UsageError("nothing to push: name a directory, a store path or a package")
        case [Whole() as one]:
            kind, found = one.closure(asked)
        case several:
            # Its imports, for stores and Nix, take 12 ms, which a push of a directory saves.
            from regpush.sources.joined import joined

            kind, found = joined(several, asked)
    size = sum(item.size for item in found.items)
    workshop.notify(
        TargetResolved(target=" ".join(targets), kind=kind, items=len(found.items), size=size)
    )
    return found


def _meaning(target: str, asked: Asked) -> Meaning:
    """Interpret one target. Raises UsageError, SourceError."""
    if target == "-":
        return _archive(target, asked)
    prefix, colon, rest = target.partition(":")
    if colon and (source := prefixes.find(prefix)):
        return source.understand(rest, asked)
    if not os.path.lexists(target):
        from regpush.sources import guix  # most targets are paths

        if guix.is_specification(target) and guix.has_guix():
            from regpush.sources.prefixes.guix import Packages  # most targets are paths

            return Packages((target,))
    return _existing(target, asked)


def _existing(path: str, asked: Asked) -> Meaning:
    if item := find(path, asked.stores):
        from regpush.sources.prefixes.store import Stored  # a directory does without stores

        return Stored(item)
    mode = mode_of(path)
    if not stat.S_ISDIR(mode):
        return _file(path, mode, asked)
    if is_whole_store(path, asked.stores):
        raise UsageError(f"{printable(path)} is a whole store; name an item in it")
    for name in ("flake.nix", "default.nix"):
        if os.path.isfile(os.path.join(path, name)):
            said = f"{printable(path)} has a {name}, but is pushed as a directory; "
            said += f"nix:{printable(path)} builds it and pushes the result"
            asked.workshop.notify(Note(message=said))
            break
    return dir.understand(path, asked)


def _file(path: str, mode: int, asked: Asked) -> Meaning:
    # Imports of the code for stores take 12 ms, which a push of a directory saves.
    from regpush.sources import closure_file, file
    from regpush.sources.prefixes import closure  # few targets are such files

    if stat.S_ISREG(mode) and closure_file.looks_like_one(path):
        return closure.understand(path, asked)
    if stat.S_ISFIFO(mode) or (stat.S_ISREG(mode) and file.is_archive(path)):
        return _archive(path, asked)
    return Whole(path, lambda asked: file.resolve(path, asked.options))


def _archive(path: str, asked: Asked) -> Meaning:
    from regpush.sources.prefixes import tar  # few targets are archives

    return tar.understand(path, asked)
