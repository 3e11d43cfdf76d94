"""The commands, and how every outcome becomes an exit code and at most one line of error."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from regpush.cli import colour, copying, doctor, images, login, study
from regpush.cli.access import AccessFlags, FileFlags, RouteFlags, Voice
from regpush.cli.commands import App, explained
from regpush.cli.configured import ConfiguredCommand
from regpush.cli.console import (
    OutputError,
    fail,
    give_up_stdout,
    note,
    print_line,
    read_password,
    stoppable,
    tell,
    width,
    write_file,
)
from regpush.cli.flags import Flags, Format, SendingFlags, from_environ, with_flags
from regpush.cli.guix import wrapped
from regpush.errors import CancelledError, RegpushError, UsageError
from regpush.quantities import parse_size

if TYPE_CHECKING:
    from regpush.report import PushResult

app = App(
    name="regpush",
    help="Push an application straight into an OCI registry as a layered image.\n\n"
    "`regpush TARGET --to REF` pushes; only what changed crosses the network.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET...",
        help="A directory, a store path or a link to one (./result), a closure file, nix:.#app, "
        "or packages of Guix.",
        show_default=False,
    ),
]


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
                "copy": from_environ(environ, SendingFlags),
                **dict.fromkeys(("why", "inspect", "history", "sbom", "doctor"), access),
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


@app.command(cls=ConfiguredCommand)
@with_flags
def push(flags: Flags, target: Targets = None) -> None:
    """Push TARGET to a registry. The default command: `regpush TARGET --to REF`."""
    from regpush import pipeline
    from regpush.cli import table

    result = _flow(pipeline.push, target, flags)
    if flags.sums_up:
        shown = table.layers if flags.voice > Voice.USUAL else table.changes
        rows = table.painted(shown(result, width()), colour.on_stderr())
        tell("\n".join([*rows, table.summary(result)]))
    as_json = flags.format is Format.JSON
    print_line(json.dumps(result.to_json()) if as_json else result.ref)
    _save(result, flags)


@app.command(cls=ConfiguredCommand)
@with_flags
def plan(
    flags: Flags,
    target: Targets = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Pack what would be sent, to know its size and digest."),
    ] = False,
    link: Annotated[
        str | None,
        typer.Option("--link", help="Say how long it takes on a link, such as 100mbit."),
    ] = None,
) -> None:
    """Say what a push would send and why, and send nothing."""
    from regpush import pipeline
    from regpush.budget import check_plan
    from regpush.cli import table
    from regpush.quantities import Link

    over = Link.parse(link) if link else None
    result = _flow(partial(pipeline.plan, exact=exact), target, flags)
    if flags.format is Format.JSON:
        print_line(json.dumps({**result.to_json(), **table.on_link(result, over)}))
    else:
        rows = table.painted(table.layers(result, width()), colour.on_stdout())
        lines = [*rows, table.summary(result)]
        print_line("\n".join([*lines, *([table.duration(result, over)] if over else [])]))
    _save(result, flags)
    if flags.max_upload is not None:
        check_plan(result, parse_size(flags.max_upload))


def _flow(work: Callable[..., PushResult], targets: list[str] | None, flags: Flags) -> PushResult:
    """Run `push` or `plan` as the flags say, stoppable and shown."""
    from regpush.cli.progress import showing

    options = flags.options(read_password(flags.username, flags.password_stdin))
    for path in filter(None, (flags.metadata_file, flags.digest_file)):
        write_file(path, "a", "")  # better refused before the push than after it
    with stoppable() as cancel, showing(flags.progress, flags.voice, sys.stderr) as notify:
        return work(targets or [], to=flags.to, options=options, notify=notify, cancel=cancel)


app.command(cls=ConfiguredCommand)(images.inspect)
app.command(cls=ConfiguredCommand)(images.verify)
app.command(cls=ConfiguredCommand)(copying.copy)
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


def _save(result: PushResult, flags: Flags) -> None:
    if flags.metadata_file:
        write_file(flags.metadata_file, "w", json.dumps(result.to_json(), indent=1) + "\n")
    if flags.digest_file and result.digest:
        write_file(flags.digest_file, "w", f"{result.digest}\n")
