"""Turn the targets that the user named into one closure.

A target is one of these, in the order of docs/guide/targets.md: a text with a prefix (`nix:.#app`);
an existing path (a store path or a link into a store, a closure file, an archive, a program, a
directory); the name of a Guix package, where Guix is on the PATH.
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
    """Make the closure of `targets`, and report its kind and size as a TargetResolved event.

    Several targets must all be store paths or targets that Nix or Guix builds; Guix packages among
    them make one profile. Without targets, the Guix packages that the options name are used. The
    files of a directory are listed and not read (`identify` reads them); of a store only the
    database is read.

    `stores`: Nix and Guix stores with their databases, likeliest first. `platform`: the image's
    platform, None where the user named none; Nix and Guix build for it, while existing files are
    used as they are. `surroundings`: how other hosts are reached, for a project with a lock file.

    Raises UsageError for a target that is not recognised, and for a file of an app's own code whose
    name marks it as a secret; SourceError for a target that cannot be built or read, or is not a
    valid store path; CancelledError.
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
        from regpush.sources.prefixes.guix import with_one_profile  # a directory does not need it

        meant = with_one_profile(meant, asked)
    match meant:
        case []:
            raise UsageError(
                "no target is given: name a directory, a project, a store path or a package to push"
            )
        case [Whole() as one]:
            kind, found = one.closure(asked)
        case several:
            # Importing the code for stores and Nix takes 12 ms, which a push of a directory saves.
            from regpush.sources.joined import joined

            kind, found = joined(several, asked)
    size = sum(item.size for item in found.items)
    workshop.notify(
        TargetResolved(target=" ".join(targets), kind=kind, items=len(found.items), size=size)
    )
    return found


def _meaning(target: str, asked: Asked) -> Meaning:
    """Find out what kind of target `target` is.

    Raises UsageError for a target that is not recognised, SourceError if it cannot be read.
    """
    if target == "-":
        return _archive(target, asked)
    prefix, colon, rest = target.partition(":")
    if colon and (source := prefixes.find(prefix)):
        return source.understand(rest, asked)
    if not os.path.lexists(target):
        from regpush.sources import guix  # a target that is a path does not need it

        if guix.is_specification(target) and guix.has_guix():
            from regpush.sources.prefixes.guix import Packages  # a path does not need it

            return Packages((target,))
    return _existing(target, asked)


def _existing(path: str, asked: Asked) -> Meaning:
    if item := find(path, asked.stores):
        from regpush.sources.prefixes.store import Stored  # a directory does not need it

        return Stored(item)
    mode = mode_of(path)
    if not stat.S_ISDIR(mode):
        return _file(path, mode, asked)
    if is_whole_store(path, asked.stores):
        raise UsageError(
            f"{printable(path)} is a whole store; name one path in it, such as "
            f"{printable(path)}/HASH-NAME"
        )
    for name in ("flake.nix", "default.nix"):
        if os.path.isfile(os.path.join(path, name)):
            said = f"{printable(path)} has a {name}, but its files are pushed as a directory; to "
            said += f"build it with Nix and push the result, name nix:{printable(path)}"
            asked.workshop.notify(Note(message=said))
            break
    return dir.understand(path, asked)


def _file(path: str, mode: int, asked: Asked) -> Meaning:
    # Importing the code for stores takes 12 ms, which a push of a directory saves.
    from regpush.sources import closure_file, file
    from regpush.sources.prefixes import closure  # a directory does not need it

    if stat.S_ISREG(mode) and closure_file.looks_like_one(path):
        return closure.understand(path, asked)
    if stat.S_ISFIFO(mode) or (stat.S_ISREG(mode) and file.is_archive(path)):
        return _archive(path, asked)
    return Whole(path, lambda asked: file.resolve(path, asked.options))


def _archive(path: str, asked: Asked) -> Meaning:
    from regpush.sources.prefixes import tar  # an import that other targets save

    return tar.understand(path, asked)
