"""The commands that push a target, or say what a push would do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from regpush.cli.access import Voice
from regpush.cli.console import print_json, print_lines, read_password, stoppable, tell, width
from regpush.cli.flags import Flags, Format, with_flags
from regpush.cli.outcome import check_files, save
from regpush.quantities import parse_size

if TYPE_CHECKING:
    from regpush.report import PushResult

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET...",
        help="A directory, a store path or a link to one (./result), a closure file, nix:.#app, "
        "packages of Guix, or an app of regpush.toml.",
        show_default=False,
    ),
]


@with_flags
def push(flags: Flags, target: Targets = None) -> None:
    """Push TARGET to a registry. The default command: `regpush TARGET --to REF`."""
    password = read_password(flags.username, flags.password_stdin)
    result = push_and_tell(target or [], flags, password)
    if flags.format is Format.JSON:
        print_json(result.to_json())
    else:
        print_lines(result.ref)


@with_flags
def plan(
    flags: Flags,
    target: Targets = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Pack what would be sent, to know its size and digest."),
    ] = False,
    link: Annotated[
        str | None,
        typer.Option("--link", help="Say how long it takes on a link, such as 100mbit."),
    ] = None,
) -> None:
    """Say what a push would send and why, and send nothing."""
    from regpush.cli import table
    from regpush.flow import pipeline
    from regpush.flow.budget import check_plan
    from regpush.quantities import Link

    over = Link.parse(link) if link else None
    password = read_password(flags.username, flags.password_stdin)
    result = _flow(partial(pipeline.plan, exact=exact), target or [], flags, password)
    save(result.to_json(), flags)
    if flags.format is Format.JSON:
        print_json({**result.to_json(), **table.on_link(result, over)})
    else:
        lines = [*table.styled(table.layers(result, width())), table.summary(result)]
        print_lines(*lines, *([table.duration(result, over)] if over else []))
    if flags.max_upload is not None:
        check_plan(result, parse_size(flags.max_upload))


def push_and_tell(targets: list[str], flags: Flags, password: str | None) -> PushResult:
    """Push, and say how it went on stderr and in the files that were asked for."""
    from regpush.cli import table
    from regpush.flow import pipeline

    result = _flow(pipeline.push, targets, flags, password)
    if flags.sums_up:
        shown = table.layers if flags.voice > Voice.USUAL else table.changes
        rows = table.styled(shown(result, width()))
        tell(*rows, *table.destinations(result), table.summary(result))
    save(result.to_json(), flags)
    return result


def _flow(
    work: Callable[..., PushResult], targets: list[str], flags: Flags, password: str | None
) -> PushResult:
    """Run `push` or `plan` as the flags say, stoppable and shown."""
    from regpush.cli.progress import showing

    options = flags.options(password)
    check_files(flags)
    with stoppable() as cancel, showing(flags.progress, flags.voice, sys.stderr) as notify:
        return work(targets, to=flags.to, options=options, notify=notify, cancel=cancel)
