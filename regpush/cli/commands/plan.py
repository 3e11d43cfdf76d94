"""`regpush plan`: show which layers a push would send and why, without sending them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import regpush
from regpush.cli import table
from regpush.cli.access import option
from regpush.cli.console import read_password, width
from regpush.cli.flags import Flags, with_flags
from regpush.cli.present import Presenter, save
from regpush.cli.pushing import Targets, flow
from regpush.cli.rendering import Line
from regpush.events import Action
from regpush.quantities import Link, parse_size
from regpush.report import PushResult, check_budget


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class PlanFlags(Flags):
    """The flags of `push`, and two flags that only `plan` has."""

    exact: Annotated[
        bool,
        option(
            None, "Pack the layers that would be sent, to show exact sizes and digests.", "--exact"
        ),
    ] = False
    link: Annotated[
        str | None,
        option(
            None, "Show how long the upload would take at this speed, such as 100mbit.", "--link"
        ),
    ] = None


@with_flags
def plan(flags: PlanFlags, target: Targets = None) -> None:
    """Show what a push would send and why, without sending it."""
    over = Link.parse(flags.link) if flags.link else None
    password = read_password(flags.username, flags.password_stdin)
    result = flow(lambda: partial(regpush.plan, exact=flags.exact), target or [], flags, password)
    report = result.to_json()
    save(report, flags)
    Presenter(flags.format).result(
        {**report, **_on_link(result, over)}, lambda: _lines(result, over)
    )
    if flags.max_upload is not None:
        check_budget(result.bytes_of(Action.UPLOADED), parse_size(flags.max_upload))


def _lines(result: PushResult, over: Link | None) -> Iterator[Line]:
    yield from table.styled(table.layers(result, width()))
    yield table.summary(result)
    if over:
        yield _duration(result, over)


def _duration(result: PushResult, link: Link) -> str:
    """Return the sentence that tells how long the upload takes at the speed of `link`."""
    seconds = link.seconds(result.bytes_of(Action.UPLOADED))
    about = "about " if result.digest is None else ""
    return f"The upload takes {about}{_span(seconds)} at {link}, without other traffic."


def _on_link(result: PushResult, link: Link | None) -> dict[str, Any]:
    """Return the object `link` that `--link` adds to the JSON report; empty without the flag."""
    if link is None:
        return {}
    seconds = round(link.seconds(result.bytes_of(Action.UPLOADED)), 3)
    return {"link": {"bits_per_second": link.bits_per_second, "seconds": seconds}}


def _span(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
