"""The commands that look back: why layers went, what was pushed, how strategies would do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from regpush.cli.access import AccessFlags
from regpush.cli.console import (
    OnStdout,
    print_document,
    print_json,
    print_lines,
    read_password,
    stoppable,
    width,
    write_file,
)
from regpush.cli.flags import Format, Progress, with_flags
from regpush.cli.rendering import json_text
from regpush.errors import UsageError, printable

if TYPE_CHECKING:
    from regpush.closure import Closure
    from regpush.events import Listener
    from regpush.history.comparison import Comparison
    from regpush.image.image import Image
    from regpush.options import RegistryOptions
    from regpush.platform import Platform
    from regpush.reference import Reference
    from regpush.registry.client import Repository

_PREFIXES = ("dir", "store", "closure", "nix", "guix", "python", "node")


class SbomFormat(StrEnum):
    """A format of SBOMs that there may be."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"


PlatformFlag = Annotated[str | None, typer.Option("--platform", help="Which image of several.")]
MaxLayers = Annotated[int, typer.Option("--max-layers", help="Layers at most, 1 to 127.")]


@with_flags
def why(
    flags: AccessFlags,
    old: Annotated[str, typer.Argument(metavar="OLD", help="An image.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="A later image.", show_default=False)],
    platform: PlatformFlag = None,
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Explain which package caused each upload between two images of a registry."""
    from regpush.cli import table
    from regpush.cli.progress import showing
    from regpush.history import comparison

    if _is_target(new):
        raise UsageError(
            f"why compares two images, and {printable(new)} is a target: "
            f"regpush plan {printable(new)} --to {printable(old)} says what a push would send"
        )
    registry = flags.access(read_password(flags.username, flags.password_stdin))
    with showing(Progress.AUTO, flags.voice, sys.stderr) as notify:
        before = _image(old, registry, platform, notify)
        found = comparison.of_images(before, _image(new, registry, platform, notify))
    _show(found, format, table.comparison(found, width()))


@with_flags
def history(
    flags: AccessFlags,
    reference: Annotated[str, typer.Argument(metavar="REPOSITORY", show_default=False)],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="A file instead of stdout.")
    ] = None,
    platform: PlatformFlag = None,
) -> None:
    """Write what was pushed to a repository as a history file, for `regpush simulate`."""
    from regpush.cli.progress import showing
    from regpush.commands.inspect import inspect_all
    from regpush.commands.recount import Found, recount

    registry = flags.access(read_password(flags.username, flags.password_stdin))
    with (
        showing(Progress.AUTO, flags.voice, sys.stderr) as notify,
        _opened(reference, registry, notify) as at,
    ):
        parsed, repository = at
        images = [
            Found(image=one.image, created=one.created)
            for one in inspect_all(parsed, repository, _platform(platform), notify)
        ]
        told = recount(parsed.name.last, images, _known_here)
    if not told.pushes:
        raise UsageError(f"{printable(reference)}: no image says what its layers hold")
    if output:
        write_file(output, "w", f"{json_text(told.to_json(), indent=0)}\n")
    else:
        print_json(told.to_json(), indent=0)


@with_flags
def sbom(
    flags: AccessFlags,
    reference: Annotated[str, typer.Argument(metavar="REF", show_default=False)],
    platform: PlatformFlag = None,
    format: Annotated[  # noqa: A002  the flag's name
        SbomFormat | None,
        typer.Option(help="Only this. Default: what there is.", show_default=False),
    ] = None,
) -> None:
    """Print the SBOM that is attached to an image (`regpush TARGET --sbom`)."""
    from regpush.attach import sbom as sboms
    from regpush.cli.progress import showing
    from regpush.commands.inspect import inspect
    from regpush.options import Sbom

    registry = flags.access(read_password(flags.username, flags.password_stdin))
    with (
        showing(Progress.NONE, flags.voice, sys.stderr) as notify,
        _opened(reference, registry, notify) as at,
    ):
        parsed, repository = at
        image = inspect(parsed, repository, _platform(platform)).image
        wanted = Sbom(format.value) if format else None
        found = sboms.attached(repository, image.descriptor.digest, wanted)
    print_document(found.data)


def simulate(
    path: Annotated[
        str,
        typer.Argument(metavar="HISTORY.json", help="See `regpush history`.", show_default=False),
    ],
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", help="Strategy; repeatable. Default: all.", show_default=False),
    ] = None,
    max_layers: MaxLayers = 64,
    plans_out: Annotated[
        str | None,
        typer.Option(help="Write the plans here, a JSON line a push; for one strategy."),
    ] = None,
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Score layer strategies on a history of versions: bytes sent, to the least possible."""
    from regpush.cli import table
    from regpush.commands import simulate as simulating
    from regpush.commands.history import History
    from regpush.layering.strategies import STRATEGIES

    names = layers or list(STRATEGIES)
    if plans_out and len(names) != 1:
        raise UsageError("--plans-out takes the plans of one strategy: name it with --layers")
    told = History.parse(_read(path))
    scores = {}
    for name in names:
        plans = list(simulating.plans(told, name, max_layers))
        scores[name] = simulating.score(told, plans)
        if plans_out:
            write_file(
                plans_out,
                "w",
                "".join(json.dumps({"layers": plan}) + "\n" for plan in plans),
            )
    if format is Format.JSON:
        value = {
            "history": told.name,
            "max_layers": max_layers,
            "strategies": {name: score.to_json() for name, score in scores.items()},
        }
        print_json({"schema": 1, **value})
    else:
        print_lines(*table.scores(scores))


def _show(found: Comparison, format: Format, lines: Sequence[str]) -> None:  # noqa: A002  as above
    if format is Format.JSON:
        print_json(found.to_json())
    else:
        print_lines(*lines)


@contextmanager
def _opened(
    text: str, registry: RegistryOptions, notify: Listener
) -> Iterator[tuple[Reference, Repository]]:
    from regpush.reference import Reference
    from regpush.registry.client import Access, Client
    from regpush.settings import Settings

    parsed = Reference.parse(text)
    settings = Settings.from_environ(os.environ)
    with stoppable() as cancel, Client(registry, settings, notify=notify, cancel=cancel) as client:
        yield parsed, client.repository(parsed, Access.PULL)


def _image(text: str, registry: RegistryOptions, platform: str | None, notify: Listener) -> Image:
    from regpush.commands.inspect import inspect

    with _opened(text, registry, notify) as (parsed, repository):
        return inspect(parsed, repository, _platform(platform)).image


def _platform(text: str | None) -> Platform | None:
    from regpush.platform import Platform

    return Platform.parse(text) if text else None


def _is_target(text: str) -> bool:
    from regpush.platform import has_placeholders

    # A path that is not there may be one that a binary cache has.
    named = text.partition(":")[0] in _PREFIXES or text.startswith(("/", "./", "../"))
    return named or os.path.lexists(text) or has_placeholders(text)


def _known_here(paths: Sequence[str]) -> Closure | None:
    """The closure of store paths where a store of this machine knows them all."""
    from regpush.closure import Closure, Item
    from regpush.errors import SourceError
    from regpush.settings import Settings
    from regpush.sources import store

    stores = Settings.from_environ(os.environ).stores
    items: dict[str, Item] = {}
    for path in paths:
        found = store.find(path, stores)
        if found is None:
            return None
        try:
            part = store.locate(found, stores)
        except (SourceError, UsageError):
            return None
        items |= {item.path: item for item in part.items}
    return Closure.build(tuple(paths), tuple(items.values())) if items else None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read {printable(path)}: {reason}") from error
