"""The files in which a command that sends something leaves its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regpush.cli.console import write_file
from regpush.cli.flags import SendingFlags
from regpush.cli.rendering import json_text


def check_files(flags: SendingFlags) -> None:
    """Raise UsageError for files that cannot be written: better before than after."""
    for path in filter(None, (flags.metadata_file, flags.digest_file)):
        write_file(path, "a", "")


def save(report: Mapping[str, Any], flags: SendingFlags) -> None:
    """Write `report`, and its digest if there is one, where that was asked for."""
    if flags.metadata_file:
        write_file(flags.metadata_file, "w", json_text(report, indent=1) + "\n")
    if flags.digest_file and report["digest"]:
        write_file(flags.digest_file, "w", f"{report['digest']}\n")
