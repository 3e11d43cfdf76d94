"""The commands, and how every outcome becomes an exit code and at most one line of error."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from regpush.cli.access import AccessFlags, ConfigFlags, FileFlags, RouteFlags
from regpush.cli.commands import DEFAULT, Command, Group, explained
from regpush.cli.configured import ConfiguredCommand
from regpush.cli.console import NOBODY_READS, OutputError, fail, give_up_stdout, print_lines
from regpush.cli.flags import Flags, SendingFlags, from_environ
from regpush.cli.words import wrapped
from regpush.concurrency import exhausted
from regpush.errors import CancelledError, RegpushError, UsageError

COMMANDS = {
    "push": "pushing",
    "plan": "pushing",
    "inspect": "images",
    "verify": "images",
    "copy": "copying",
    "rebase": "copying",
    "index": "copying",
    "resolve": "resolve",
    "init": "setup",
    "config": "setup",
    "why": "study",
    "tags": "tags",
    "tag": "tag",
    "history": "study",
    "simulate": "study",
    "sbom": "study",
    "doctor": "doctor",
    "login": "login",
    "logout": "login",
    "schema": "schema",
    "serve": "local",
    "demo": "local",
    "help": "help",
}
"""The module of each command."""

_UNCONFIGURED = {"help", "init", "config", "simulate", "schema", "serve", "demo"}
"""Those that no configuration speaks to."""

_OWN_FLAGS = ("--help", "-h", "--version", "--install-completion", "--show-completion")
_COMPLETION = "_REGPUSH_COMPLETE"
"""Set by the shell that wants to know what a word may become."""


def command_line(names: Iterable[str]) -> typer.Typer:
    """The program with the commands `names`, for each of which its module is imported.

    To import and describe them all takes a sixth of the time of an unchanged push.
    """
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
    for name in names:
        module = import_module(f"regpush.cli.{COMMANDS[name]}")
        kind = Command if name in _UNCONFIGURED else ConfiguredCommand
        app.command(name, cls=kind)(getattr(module, name))
    return app


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command line and return the exit code; errors are one line on stderr."""
    words = wrapped(arguments) or ["--help"]
    name = words[0] if words[0] in COMMANDS else DEFAULT
    listed = words[0] in _OWN_FLAGS or _COMPLETION in environ
    names = COMMANDS if listed else (name,)
    try:
        code = command_line(names)(
            words,
            prog_name="regpush",
            standalone_mode=False,
            # Not where it is empty: for `help` it would be the value of the flag --help.
            default_map={name: said} if (said := _defaults(name, environ)) else {},
        )
    except RegpushError as error:
        meant = explained(error, words) if isinstance(error, UsageError) else ""
        return fail(f"{error}{meant}", error.exit_code)
    except KeyboardInterrupt:
        return fail("cancelled", CancelledError.exit_code)
    except SystemExit as ended:
        # click and rich make one of a pipe that nobody reads on.
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
            advice = explained(error, words) or _see(error)
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


def _defaults(name: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """What `REGPUSH_*` says of the flags of the command `name`."""
    match name:
        case "push" | "resolve":
            return from_environ(environ, Flags)
        case "plan":
            own = {flag: environ.get(f"REGPUSH_{flag.upper()}") for flag in ("exact", "link")}
            said = {flag: text for flag, text in own.items() if text is not None}
            return from_environ(environ, Flags) | said
        case "copy" | "rebase" | "tag":
            return from_environ(environ, SendingFlags)
        case "why" | "inspect" | "tags" | "history" | "sbom" | "doctor":
            return from_environ(environ, AccessFlags)
        case "config":
            return from_environ(environ, ConfigFlags)
        case "login":
            return from_environ(environ, RouteFlags)
        case "logout":
            return from_environ(environ, FileFlags)
        case "index":
            from regpush.cli.copying import IndexFlags

            return from_environ(environ, IndexFlags)
        case "verify":
            from regpush.cli.images import VerifyFlags

            return from_environ(environ, VerifyFlags)
    return {}


def _lost_directory() -> UsageError | None:
    """What is wrong with the current directory, to which relative paths of flags belong."""
    from regpush.files.filesystem import working_directory

    try:
        working_directory()
    except UsageError as error:
        return error
    return None


def _usage(error: Exception) -> str | None:
    """The message of typer's own errors, whose classes have moved between its versions."""
    format_message = getattr(error, "format_message", None)
    if not callable(format_message):
        return None
    # The possible options that it lists are named by `explained`, the nearest first.
    return str(format_message()).partition(" (Possible options:")[0].rstrip(".")


def _see(error: Exception) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", "regpush")
    return f"; see {path} --help"


def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from regpush import __version__

        print_lines(f"regpush {__version__}")
