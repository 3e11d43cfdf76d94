"""`regpush history`: write a history file of the pushes to a repository, for `regpush simulate`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from regpush.cli.access import AccessFlags
from regpush.cli.connection import PlatformFlag, access, connected, platform_of
from regpush.cli.console import print_json, write_file
from regpush.cli.flags import Progress, with_flags
from regpush.cli.rendering import json_text
from regpush.closure import Closure, Item
from regpush.commands.inspect import inspect_all
from regpush.commands.recount import Found, recount
from regpush.errors import SourceError, UsageError, printable
from regpush.reference import Reference
from regpush.settings import Settings
from regpush.sources import store
from regpush.sources.store_item import find


@with_flags
def history(
    flags: AccessFlags,
    reference: Annotated[str, typer.Argument(metavar="REPOSITORY", show_default=False)],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Write to this file instead of stdout.")
    ] = None,
    platform: PlatformFlag = None,
) -> None:
    """Write the pushes to a repository as a history file, for `regpush simulate`."""
    options, parsed = access(flags), Reference.parse(reference)
    with connected(options, flags.voice, Progress.AUTO) as at:
        images = [
            Found(image=one.image, created=one.created)
            for one in inspect_all(parsed, at.repository(parsed), platform_of(platform), at.notify)
        ]
        told = recount(parsed.name.last, images, _known_here)
    if not told.pushes:
        raise UsageError(f"no image in {printable(reference)} was pushed by regpush")
    if output:
        write_file(output, "w", f"{json_text(told.to_json(), indent=0)}\n")
    else:
        print_json(told.to_json(), indent=0)


def _known_here(paths: Sequence[str]) -> Closure | None:
    """Return the closure of the store paths `paths`.

    None if the stores of this machine lack one of them.
    """
    stores = Settings.from_environ(os.environ).stores
    items: dict[str, Item] = {}
    for path in paths:
        found = find(path, stores)
        if found is None:
            return None
        try:
            part = store.locate(found, stores)
        except (SourceError, UsageError):
            return None
        items |= {item.path: item for item in part.items}
    return Closure.build(tuple(paths), tuple(items.values())) if items else None
