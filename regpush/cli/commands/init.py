"""`regpush init`: write a first configuration file."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from regpush.cli.configured import load
from regpush.cli.console import tell, write_file
from regpush.cli.keys import settings
from regpush.errors import UsageError, printable
from regpush.project.configuration import FILE, loads
from regpush.project.init import ignore_file, starter
from regpush.project.survey import look

_IGNORE = ".regpushignore"


def init(
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite an existing regpush.toml.")
    ] = False,
) -> None:
    """Write a commented regpush.toml, guessed from the files in this directory."""
    if os.path.lexists(FILE) and not force:
        raise UsageError(f"{FILE} already exists; --force overwrites it")
    if not force and (there := load(None)) and there.path == "pyproject.toml":
        raise UsageError(
            "pyproject.toml has a table [tool.regpush], which a regpush.toml would replace; "
            "--force writes it anyway"
        )
    found = look(".")
    text = starter(found)
    settings(loads(FILE, text), found.name)  # raises UsageError if the text is not valid
    write_file(FILE, "w", text)
    if ignore := ignore_file(found):
        write_file(_IGNORE, "w", ignore)
        for line in found.dockerignore.left if found.dockerignore else ():
            tell(f"{_IGNORE}: the pattern {printable(line)} of .dockerignore was not converted")
        tell(f"wrote {_IGNORE}, converted from .dockerignore")
    for finding in found.findings:
        tell(f"found {finding.what} ({finding.where})")
    tell(f"wrote {FILE}; check it, then run: regpush plan {found.name}")
