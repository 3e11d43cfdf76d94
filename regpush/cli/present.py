"""Where the outcome of a command is shown: the one place that decides between text and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from regpush.cli.console import print_json, print_lines, tell, write_file
from regpush.cli.flags import Format, SendingFlags
from regpush.cli.rendering import Line, json_text

OnStdout = Annotated[Format, typer.Option("--format", help="On stdout: text or json.")]


@dataclass(frozen=True, slots=True)
class Presenter:
    """What a command writes on stdout, in one format."""

    format: Format

    def result(self, report: Mapping[str, Any], lines: Callable[[], Iterable[Line]]) -> None:
        """Print the outcome: `report` as JSON, or `lines` for people."""
        if self.format is Format.JSON:
            print_json(report)
        else:
            print_lines(*lines())

    def meanwhile(self, *lines: Line) -> None:
        """Print lines while the command works; for readers of JSON only the result is printed."""
        if self.format is Format.TEXT:
            print_lines(*lines)


def check_files(flags: SendingFlags) -> None:
    """Raise UsageError for files that cannot be written: better before a push than after."""
    for path in filter(None, (flags.metadata_file, flags.digest_file)):
        write_file(path, "a", "")


def save(report: Mapping[str, Any], flags: SendingFlags) -> None:
    """Write `report`, and its digest if there is one, where that was asked for."""
    if flags.metadata_file:
        write_file(flags.metadata_file, "w", json_text(report, indent=1) + "\n")
    if flags.digest_file and report["digest"]:
        write_file(flags.digest_file, "w", f"{report['digest']}\n")


def sum_up(report: Mapping[str, Any], summary: Sequence[Line], flags: SendingFlags) -> None:
    """Tell on stderr how it went, and leave the report in the files that were asked for."""
    if flags.sums_up and summary:
        tell(*summary)
    save(report, flags)


def sent(report: Mapping[str, Any], summary: Sequence[Line], flags: SendingFlags) -> None:
    """Show the outcome of a command that sends: files, stderr, and the reference on stdout."""
    sum_up(report, summary, flags)
    Presenter(flags.format).result(report, lambda: [report["ref"]])
