"""A target, as the user named it, becomes a closure.

The order in which a name is understood is that of design.md, "Interfaces": a prefix, then
an existing path: a store path or a link into a store, a closure file, a directory.
"""

from __future__ import annotations

import os
import stat
from typing import TypeAlias

from regpush.cancel import Cancellation
from regpush.closure import Closure
from regpush.errors import UsageError, printable
from regpush.events import Listener, TargetResolved
from regpush.filesystem import unreadable
from regpush.options import SourceOptions
from regpush.platform import Platform
from regpush.settings import StoreLocation
from regpush.sources import closure_file, directory, store
from regpush.sources.identity import forget, identify, remember
from regpush.sources.stats import Stats

__all__ = ["Stats", "forget", "identify", "remember", "resolve"]

_Found: TypeAlias = tuple[str, Closure]
"""What kind of thing a target is, for people, and its closure."""


def resolve(
    target: str,
    options: SourceOptions,
    stores: tuple[StoreLocation, ...],
    *,
    platform: Platform | None = None,
    notify: Listener,
    cancel: Cancellation,
) -> Closure:
    """The closure that `target` names; `notify` learns what it was taken for.

    `stores` are where stores may be described, likeliest first. `platform` is what it is
    wanted for, None if nobody said: what is built on demand is built for it (`Platform.system`),
    and what is there already is taken as it is. A directory is listed, and
    `identify` finds out what is in it; of a store only the database is read. Raises
    UsageError for a target that is nothing known, and for a file of an app's own code whose
    name says that it is a secret; SourceError for what cannot be read or is not valid,
    CancelledError.
    """

    def from_directory(path: str) -> _Found:
        if not stat.S_ISDIR(_mode(path)):
            raise UsageError(f"{printable(path)} is not a directory")
        return "directory", directory.resolve(path, options, notify=notify, cancel=cancel)

    def from_store(path: str) -> _Found:
        item = store.find(path, stores)
        if item is None:
            raise UsageError(f"{printable(path)} neither lies in a store nor links to one")
        return store.resolve(item, stores)

    def from_closure_file(path: str) -> _Found:
        if not stat.S_ISREG(_mode(path)):
            raise UsageError(f"{printable(path)} is not a file")
        return "closure file", closure_file.resolve(path, stores, cancel.check)

    def from_existing_path(path: str) -> _Found:
        if store.find(path, stores):
            return from_store(path)
        mode = _mode(path)
        if stat.S_ISREG(mode) and closure_file.looks_like_one(path):
            return from_closure_file(path)
        if not stat.S_ISDIR(mode):
            raise UsageError(
                f"{printable(path)} is a file, but none that lists a closure; name a directory, "
                "a store path, a link into a store or a closure file"
            )
        if store.is_whole_store(path, stores):
            raise UsageError(f"{printable(path)} is a whole store; name an item in it")
        return from_directory(path)

    prefix, colon, rest = target.partition(":")
    match prefix if colon else "":
        case "dir":
            kind, closure = from_directory(rest)
        case "store":
            kind, closure = from_store(rest)
        case "closure":
            kind, closure = from_closure_file(rest)
        case "nix" | "guix":
            raise UsageError(
                f"{prefix}: targets are not supported by this version; "
                f"build first{f' for {platform}' if platform else ''} and push ./result"
            )
        case _:
            kind, closure = from_existing_path(target)
    size = sum(item.size for item in closure.items)
    notify(TargetResolved(target=target, kind=kind, items=len(closure.items), size=size))
    return closure


def _mode(path: str) -> int:
    """The file mode of what `path` leads to. Raises UsageError if that is nothing."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        what = "a link to nothing" if os.path.islink(path) else "not there"
        raise UsageError(
            f"target '{printable(path)}' is {what}; looked for a directory, a store path, a "
            f"link into a store or a closure file, from {printable(os.getcwd())}"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
