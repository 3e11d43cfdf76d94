"""`regpush schema`: print the JSON Schema of the reports that `--format json` prints."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Annotated, Any

import typer

from regpush.cli.console import print_json
from regpush.errors import UsageError, printable


def schema(
    command: Annotated[
        str | None,
        typer.Argument(
            metavar="[COMMAND]", help="Command whose report to describe. Default: all commands."
        ),
    ] = None,
) -> None:
    """Print the JSON Schema (draft 2020-12) of the reports of `--format json`."""
    print_json(of(command), indent=1)


def of(command: str | None) -> dict[str, Any]:
    """Return the JSON Schema of the report of `command`, or of all reports for None.

    Raises UsageError for a command without a report.
    """
    text = files("regpush").joinpath("report.schema.json").read_text("utf-8")
    whole: dict[str, Any] = json.loads(text)
    if command is None:
        return whole
    definitions = whole["x-commands"]
    if command not in definitions:
        known = ", ".join(definitions)
        raise UsageError(f"'{printable(command)}' prints no JSON report; these do: {known}")
    del whole["anyOf"]
    report = f"#/$defs/{definitions[command]}"
    return {**whole, "title": f"JSON report of regpush {command}", "$ref": report}
