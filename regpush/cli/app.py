"""Run a command line of regpush; each error becomes one line on stderr and an exit code."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from regpush import __version__
from regpush.cli.console import NOBODY_READS, OutputError, fail, give_up_stdout, print_lines
from regpush.cli.entries import ENTRIES, meant
from regpush.cli.group import Group
from regpush.cli.words import wrapped
from regpush.concurrency import exhausted
from regpush.errors import RegpushError, UsageError, similar
from regpush.files.filesystem import working_directory


def program() -> typer.Typer:
    """Return the typer program `regpush`, which imports a command's module when it is called."""
    app = typer.Typer(
        cls=Group,
        name="regpush",
        help="Push an application straight into an OCI registry as a layered image.\n\n"
        "`regpush TARGET --to REF` pushes; only what changed crosses the network.",
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    return app


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command line `arguments`, and return the exit code.

    An error is written to stderr as one line. `environ`: the environment variables.
    """
    words = wrapped(arguments) or ["--help"]
    try:
        code = program()(words, prog_name="regpush", standalone_mode=False, obj=environ)
    except RegpushError as error:
        advice = _explained(error, words) if isinstance(error, UsageError) else ""
        return fail(f"{error}{advice}", error.exit_code)
    except SystemExit as ended:
        # click and rich raise SystemExit for a closed stdout.
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        give_up_stdout()
        return NOBODY_READS
    except OutputError as error:
        give_up_stdout()
        return fail(str(error), UsageError.exit_code)
    except Exception as error:
        if lacking := exhausted(error):
            return fail(str(lacking), lacking.exit_code)
        if message := _usage(error):
            advice = _explained(error, words) or _see(error)
            return fail(f"{message}{advice}", UsageError.exit_code)
        if isinstance(error, FileNotFoundError) and (lost := _lost_directory()):
            return fail(str(lost), lost.exit_code)
        if environ.get("REGPUSH_DEBUG"):
            traceback.print_exc()
        return fail(
            f"a bug of regpush: {type(error).__name__}: {error}; "
            "REGPUSH_DEBUG=1 shows where, please report it",
            RegpushError.exit_code,
        )
    return code if isinstance(code, int) else 0


def _lost_directory() -> UsageError | None:
    """Return an error if the current directory was deleted; None if it exists."""
    try:
        working_directory()
    except UsageError as error:
        return error
    return None


def _explained(error: Exception, words: Sequence[str]) -> str:
    """Return `; did you mean X?` with the flag or command most similar to what the user wrote.

    Empty if none is similar.
    """
    name, ctx = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if isinstance(name, str) and ctx is not None:
        flags = [flag for one in ctx.command.get_params(ctx) for flag in one.opts]
        near = similar(name, flags)
        return f"; did you mean {near}?" if near else ""
    first = words[0] if words else ""
    if first in ENTRIES or first.startswith("-") or os.path.lexists(first):
        return ""
    near_command = meant(first)
    return f"; did you mean 'regpush {near_command}'?" if near_command else ""


def _usage(error: Exception) -> str | None:
    """Return the message of a usage error that typer raised; None for any other error.

    Typer's error classes are in different modules in its versions, so they are recognised by their
    method `format_message`.
    """
    format_message = getattr(error, "format_message", None)
    if not callable(format_message):
        return None
    # typer's list of possible options is cut off: `_explained` names the most similar one.
    return str(format_message()).partition(" (Possible options:")[0].rstrip(".")


def _see(error: Exception) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", "regpush")
    return f"; see {path} --help"


def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print_lines(f"regpush {__version__}")
