"""`regpush doctor`: check step by step whether this machine can push to a repository."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import Annotated

import typer

from regpush.cli.access import AccessFlags, Voice
from regpush.cli.colour import Style
from regpush.cli.connection import access
from regpush.cli.console import fail, stoppable, width
from regpush.cli.flags import Format, Progress, with_flags
from regpush.cli.present import OnStdout, Presenter
from regpush.cli.progress import showing
from regpush.cli.rendering import Line, Span
from regpush.commands.doctor import Step, Verdict, examine
from regpush.errors import printable
from regpush.reference import Reference
from regpush.settings import Settings

_NAME = 11
_WORD = 7


@with_flags
def doctor(
    flags: AccessFlags,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF", help="Destination of a push: registry/repository.", show_default=False
        ),
    ],
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Check, step by step, whether this machine can push to REF.

    No tag is moved and no blob is added: opened uploads are deleted, or left to expire where
    deleting needs more rights. The exit code is that of the first failed step: 3 for credentials, 4
    for a refusal, 5 for the network.
    """
    options, parsed = access(flags), Reference.parse(reference)
    presenter = Presenter(format)

    def found(step: Step) -> None:
        loud = step.verdict in (Verdict.FAILED, Verdict.WARNING)
        if loud or flags.voice is not Voice.QUIET:
            presenter.meanwhile(*_rows(step))

    with (
        stoppable() as cancel,
        showing(Progress.NONE, flags.voice, sys.stderr) as notify,
    ):
        diagnosis = examine(
            parsed,
            options=options,
            settings=Settings.from_environ(os.environ),
            notify=notify,
            cancel=cancel,
            found=found,
        )
    presenter.result(diagnosis.to_json(), list)
    if failed := [step.name for step in diagnosis.steps if step.exit_code]:
        raise typer.Exit(
            fail(f"{reference}: failed steps: {', '.join(failed)}", diagnosis.exit_code)
        )


def _rows(step: Step) -> list[Line]:
    """Format the result of a step as a line; on a terminal, wrapped with a hanging indent."""
    sign, style = _sign(step.verdict)
    # A no-break space, at which textwrap does not break the line.
    spent = f"  ({step.seconds * 1000:.0f}\u00a0ms)" if step.seconds >= 0.0005 else ""
    columns = width() if sys.stdout.isatty() else 1000
    indent = len(sign) + 1 + _NAME + 2
    text = printable(step.detail) + spent
    lines = textwrap.wrap(text, max(columns - indent - 1, 20), break_on_hyphens=False) or [""]
    first, *rest = (line.replace("\u00a0", " ") for line in lines)
    head = (Span(sign, style), f" {step.name:<{_NAME}}  {first}")
    return [head, *(" " * indent + line for line in rest)]


def _sign(verdict: Verdict) -> tuple[str, Style]:
    style = {
        "ok": Style.GOOD,
        "warning": Style.WARNING,
        "failed": Style.BAD,
        "skipped": Style.FAINT,
    }[verdict.value]
    signs = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "–"}  # noqa: RUF001  a dash
    drawn = sys.stdout.isatty() and "utf" in (sys.stdout.encoding or "").lower()
    return (signs[verdict.value] if drawn else f"{verdict.value:<{_WORD}}"), style
