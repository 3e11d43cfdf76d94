"""Output of a command's result: the one place that decides between text and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from regpush.cli.console import print_json, print_lines, tell, write_file
from regpush.cli.flags import Format, SendingFlags
from regpush.cli.rendering import Line, json_text

OnStdout = Annotated[Format, typer.Option("--format", help="Format of stdout: text or json.")]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Presenter:
    """The output of a command on stdout, in one format."""

    format: Format

    def result(self, report: Mapping[str, Any], lines: Callable[[], Iterable[Line]]) -> None:
        """Print the result: `report` as JSON, or `lines` as text."""
        if self.format is Format.JSON:
            print_json(report)
        else:
            print_lines(*lines())

    def meanwhile(self, *lines: Line) -> None:
        """Print lines while the command runs; with JSON only the result is printed."""
        if self.format is Format.TEXT:
            print_lines(*lines)


def check_files(flags: SendingFlags) -> None:
    """Raise UsageError if a file of --metadata-file or --digest-file cannot be written.

    It is called before a push, since the files are written after it.
    """
    for path in filter(None, (flags.metadata_file, flags.digest_file)):
        write_file(path, "a", "")


def save(report: Mapping[str, Any], flags: SendingFlags) -> None:
    """Write `report` to --metadata-file, and its digest, if known, to --digest-file."""
    if flags.metadata_file:
        write_file(flags.metadata_file, "w", json_text(report, indent=1) + "\n")
    if flags.digest_file and report["digest"]:
        write_file(flags.digest_file, "w", f"{report['digest']}\n")


def sum_up(report: Mapping[str, Any], summary: Sequence[Line], flags: SendingFlags) -> None:
    """Write the summary to stderr, and the report to the files of the flags."""
    if flags.sums_up and summary:
        tell(*summary)
    save(report, flags)


def sent(report: Mapping[str, Any], summary: Sequence[Line], flags: SendingFlags) -> None:
    """Output the result of a command that sends: files, stderr, and the reference on stdout."""
    sum_up(report, summary, flags)
    Presenter(flags.format).result(report, lambda: [report["ref"]])
