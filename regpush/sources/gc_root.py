"""Protect store items from their store's garbage collector while they are pushed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import posixpath
from collections.abc import Iterable

from regpush.sources.database import Database
from regpush.sources.path_info import PathInfo
from regpush.sources.tools import ToolError, Workshop, find_program


def keep(infos: Iterable[PathInfo], database: Database, workshop: Workshop) -> None:
    """Protect store paths from garbage collection until the push ends.

    `infos`: valid paths in the store of `database`. First a link is created in the store's
    `gcroots/auto`, to a link in the scratch directory, as an indirect root (Nix manual, "Garbage
    Collector Roots"; Guix's daemon is derived from Nix's). Where the user lacks permission for
    that, `nix-store` or `guix` is asked to create a root. Where both fail, the paths stay
    unprotected; if one is then collected, reading it raises SourceError. Raises CancelledError.
    """
    known = {info.path: info for info in infos}
    referred = {reference for info in known.values() for reference in info.references}
    for path in sorted(known.keys() - referred):
        link = workshop.path(f"root-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}")
        if not os.path.lexists(link) and not _by_hand(path, link, database, workshop):
            _by_daemon(known[path], link, database, workshop)


def _by_hand(path: str, link: str, database: Database, workshop: Workshop) -> bool:
    state = posixpath.dirname(posixpath.dirname(os.path.abspath(database.path)))
    name = hashlib.sha256(os.fsencode(link)).hexdigest()[:32]
    root = posixpath.join(state, "gcroots", "auto", name)
    os.symlink(path, link)
    try:
        os.symlink(link, root)
    except OSError:
        os.unlink(link)
        return False
    workshop.at_end(functools.partial(_unlink, root))
    return True


def _by_daemon(info: PathInfo, link: str, database: Database, workshop: Workshop) -> None:
    if database.is_nix():
        if find_program("nix-store"):
            with contextlib.suppress(ToolError):
                # Nix may use another store here; it must not download the path into that store.
                only = ("--option", "substitute", "false")
                workshop.ask("nix-store", "--add-root", link, "--realise", *only, info.path)
    elif find_program("guix") and all(map(os.path.exists, (info.deriver, info.path))):
        # `guix build --root` registers a derivation's outputs as roots (Guix manual, "Invoking guix
        # build"). Guix takes a second to start, and the push does not wait for it.
        workshop.start("guix", "build", f"--root={link}", info.deriver)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
