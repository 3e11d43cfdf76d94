"""Print a command's result as text or JSON, and write its report to files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from msgspec import Struct

from regpush.cli.console import print_json, print_lines, tell, write_file
from regpush.cli.flags import Format, SendingFlags
from regpush.cli.rendering import Line, json_text

OnStdout = Annotated[Format, typer.Option("--format", help="Format of stdout: text or json.")]


class Presenter(Struct, frozen=True, eq=False):
    """Prints a command's result to stdout in the format that `--format` selects."""

    format: Format

    def result(self, report: Mapping[str, Any], lines: Callable[[], Iterable[Line]]) -> None:
        """Print the result: for JSON `report`, for text the lines that `lines()` returns."""
        if self.format is Format.JSON:
            print_json(report)
        else:
            print_lines(*lines())

    def meanwhile(self, *lines: Line) -> None:
        """Print `lines` before the result is known; for JSON, print nothing."""
        if self.format is Format.TEXT:
            print_lines(*lines)


def check_files(flags: SendingFlags) -> None:
    """Raise UsageError if the file of --metadata-file or --digest-file cannot be written.

    Commands call this before they send anything, and write the files at the end.
    """
    for path in filter(None, (flags.metadata_file, flags.digest_file)):
        write_file(path, "a", "")


def save(report: Mapping[str, Any], flags: SendingFlags) -> None:
    """Write `report` to the file of --metadata-file, and its digest to that of --digest-file.

    A digest that a plan does not know is not written.
    """
    if flags.metadata_file:
        write_file(flags.metadata_file, "w", json_text(report, indent=1) + "\n")
    if flags.digest_file and report["digest"]:
        write_file(flags.digest_file, "w", f"{report['digest']}\n")


def sum_up(report: Mapping[str, Any], summary: Sequence[Line], flags: SendingFlags) -> None:
    """Write the lines `summary` to stderr, and `report` to --metadata-file and --digest-file.

    With -q or --progress none, stderr gets no summary.
    """
    if flags.sums_up and summary:
        tell(*summary)
    save(report, flags)


def sent(report: Mapping[str, Any], summary: Sequence[Line], flags: SendingFlags) -> None:
    """Report the result of a command that sent an image.

    Writes `summary` to stderr, `report` to --metadata-file and --digest-file, and the image's
    reference, or with --format json the report, to stdout.
    """
    sum_up(report, summary, flags)
    Presenter(flags.format).result(report, lambda: [report["ref"]])
