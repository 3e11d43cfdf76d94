"""The commands, and how every outcome becomes an exit code and at most one line of error."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from regpush.cli import copying, doctor, images, login, pushing, resolve, setup, study
from regpush.cli.access import AccessFlags, ConfigFlags, FileFlags, RouteFlags
from regpush.cli.commands import App, explained
from regpush.cli.configured import ConfiguredCommand
from regpush.cli.console import (
    OutputError,
    fail,
    give_up_stdout,
    note,
    print_line,
    stoppable,
    width,
)
from regpush.cli.flags import Flags, SendingFlags, from_environ
from regpush.cli.guix import wrapped
from regpush.errors import CancelledError, RegpushError, UsageError

app = App(
    name="regpush",
    help="Push an application straight into an OCI registry as a layered image.\n\n"
    "`regpush TARGET --to REF` pushes; only what changed crosses the network.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command line and return the exit code; errors are one line on stderr."""
    words = wrapped(arguments) or ["--help"]
    defaults, access = from_environ(environ, Flags), from_environ(environ, AccessFlags)
    own = {
        name: environ[f"REGPUSH_{name.upper()}"]
        for name in ("exact", "link")
        if f"REGPUSH_{name.upper()}" in environ
    }
    try:
        code = app(
            words,
            prog_name="regpush",
            standalone_mode=False,
            default_map={
                "push": defaults,
                "plan": defaults | own,
                "resolve": defaults,
                "config": from_environ(environ, ConfigFlags),
                **dict.fromkeys(("copy", "rebase"), from_environ(environ, SendingFlags)),
                **dict.fromkeys(("why", "inspect", "history", "sbom", "doctor"), access),
                "index": from_environ(environ, copying.IndexFlags),
                "verify": from_environ(environ, images.VerifyFlags),
                "login": from_environ(environ, RouteFlags),
                "logout": from_environ(environ, FileFlags),
            },
        )
    except RegpushError as error:
        meant = explained(error, words) if isinstance(error, UsageError) else ""
        return fail(f"{error}{meant}", error.exit_code)
    except KeyboardInterrupt:
        return fail("cancelled", CancelledError.exit_code)
    except BrokenPipeError:
        give_up_stdout()
        return 1
    except OutputError as error:
        give_up_stdout()
        return fail(str(error), RegpushError.exit_code)
    except Exception as error:
        if message := _usage(error):
            advice = explained(error, words) or _see(error)
            return fail(f"{message}{advice}", UsageError.exit_code)
        if environ.get("REGPUSH_DEBUG"):
            traceback.print_exc()
        return fail(
            f"a bug of regpush: {type(error).__name__}: {error}; "
            "REGPUSH_DEBUG=1 shows where, please report it",
            RegpushError.exit_code,
        )
    return code if isinstance(code, int) else 0


def _usage(error: Exception) -> str | None:
    """The message of typer's own errors, whose classes have moved between its versions."""
    format_message = getattr(error, "format_message", None)
    if not callable(format_message):
        return None
    # What it lists as possible is judged here too, and by how near it is.
    return str(format_message()).partition(" (Possible options:")[0].rstrip(".")


def _see(error: Exception) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", "regpush")
    return f"; see {path} --help"


app.command(cls=ConfiguredCommand)(pushing.push)
app.command(cls=ConfiguredCommand)(pushing.plan)
app.command(cls=ConfiguredCommand)(images.inspect)
app.command(cls=ConfiguredCommand)(images.verify)
app.command(cls=ConfiguredCommand)(copying.copy)
app.command(cls=ConfiguredCommand)(copying.rebase)
app.command(cls=ConfiguredCommand)(copying.index)
app.command(cls=ConfiguredCommand)(resolve.resolve)
app.command()(setup.init)
app.command()(setup.config)
app.command(cls=ConfiguredCommand)(study.why)
app.command(cls=ConfiguredCommand)(study.history)
app.command()(study.simulate)
app.command(cls=ConfiguredCommand)(study.sbom)
app.command(cls=ConfiguredCommand)(doctor.doctor)
app.command("login", cls=ConfiguredCommand)(login.log_in)
app.command("logout", cls=ConfiguredCommand)(login.log_out)


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 5000,
    directory: Annotated[
        str, typer.Option("--dir", help="Where blobs and manifests are kept.")
    ] = "./registry",
) -> None:
    """Run a registry for development on this machine, until Ctrl-C."""
    from regpush import embedded

    embedded.serve(directory, port=port, ready=lambda host: note(f"serving on http://{host}"))


@app.command()
def demo() -> None:
    """Push a sample app twice to a registry of its own, and show what crossed the network."""
    from regpush import demo as demonstration

    with stoppable() as cancel:
        demonstration.run(print_line, width(), cancel)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from regpush import __version__

        print_line(f"regpush {__version__}")
