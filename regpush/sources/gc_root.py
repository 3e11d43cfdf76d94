"""Store items that are being pushed are kept from the garbage collector of their store."""

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
    """Let nothing of `infos`, valid in the store of `database`, be collected before the push ends.

    As well as the user may: by an indirect root, a link in the store's `gcroots/auto` to one in
    the scratch directory, which alone makes it a root (Nix manual, "Garbage Collector Roots";
    Guix's daemon is of that descent); else by the store's daemon. Without the right to either
    nothing is kept, and a path that goes is an error when it is read. Raises CancelledError.
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
                # What is not valid in the store that Nix means here is not to be fetched for it.
                only = ("--option", "substitute", "false")
                workshop.ask("nix-store", "--add-root", link, "--realise", *only, info.path)
    elif find_program("guix") and all(map(os.path.exists, (info.deriver, info.path))):
        # Roots are for what derivations build (Guix manual, "Invoking guix build"). Guix takes
        # a second to start: nobody waits.
        workshop.start("guix", "build", f"--root={link}", info.deriver)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
