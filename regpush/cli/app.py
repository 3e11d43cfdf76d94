"""The commands, and how every outcome becomes an exit code and at most one line of error."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from regpush.cancel import Cancellation
from regpush.cli.access import AccessFlags, FileFlags, RouteFlags
from regpush.cli.flags import Flags, Format, Progress, from_environ, with_flags
from regpush.errors import CancelledError, RegpushError, UsageError, printable

if TYPE_CHECKING:
    from regpush.report import PushResult

_COMMANDS = ("push", "plan", "inspect", "login", "logout", "serve", "demo")
_OWN_FLAGS = ("--help", "--version", "--install-completion", "--show-completion")

app = typer.Typer(
    name="regpush",
    help="Push an application straight into an OCI registry as a layered image.\n\n"
    "`regpush TARGET --to REF` pushes; only what changed crosses the network.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Target = Annotated[
    str,
    typer.Argument(
        help="A directory, a store path or a link to one (./result), or a closure file.",
        show_default=False,
    ),
]

Registry = Annotated[
    str,
    typer.Argument(
        metavar="REGISTRY",
        help="A host with or without a port: registry.example.com, localhost:5000, docker.io.",
        show_default=False,
    ),
]


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command line and return the exit code; errors are one line on stderr."""
    words = list(arguments) or ["--help"]
    if words[0] not in (*_COMMANDS, *_OWN_FLAGS, "-h"):
        words.insert(0, "push")
    defaults = from_environ(environ, Flags)
    exact = {"exact": environ["REGPUSH_EXACT"]} if "REGPUSH_EXACT" in environ else {}
    try:
        code = app(
            words,
            prog_name="regpush",
            standalone_mode=False,
            default_map={
                "push": defaults,
                "plan": defaults | exact,
                "inspect": from_environ(environ, AccessFlags),
                "login": from_environ(environ, RouteFlags),
                "logout": from_environ(environ, FileFlags),
            },
        )
    except RegpushError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("cancelled", CancelledError.exit_code)
    except BrokenPipeError:
        _give_up_stdout()
        return 1
    except _OutputError as error:
        _give_up_stdout()
        return _fail(str(error), RegpushError.exit_code)
    except Exception as error:
        if message := _usage(error):
            return _fail(f"{message}; see regpush --help", UsageError.exit_code)
        if environ.get("REGPUSH_DEBUG"):
            traceback.print_exc()
        return _fail(
            f"a bug of regpush: {type(error).__name__}: {error}; "
            "REGPUSH_DEBUG=1 shows where, please report it",
            RegpushError.exit_code,
        )
    return code if isinstance(code, int) else 0


def _usage(error: Exception) -> str | None:
    """The message of typer's own errors, whose classes have moved between its versions."""
    format_message = getattr(error, "format_message", None)
    return str(format_message()).rstrip(".") if callable(format_message) else None


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"regpush: {printable(message)}\n")
    return code


@contextmanager
def _stoppable() -> Iterator[Cancellation]:
    """Ctrl-C and SIGTERM ask for a stop; a second one does not wait for it."""
    cancel = Cancellation()
    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        cancel.cancel()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancel
    except CancelledError as error:
        _fail(str(error), 0)
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT)) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@app.command()
@with_flags
def push(flags: Flags, target: Target) -> None:
    """Push TARGET to a registry. The default command: `regpush TARGET --to REF`."""
    from regpush import pipeline
    from regpush.cli import table

    result = _flow(pipeline.push, target, flags)
    if flags.progress is not Progress.NONE:
        lines = [*table.layers(result, _width()), table.summary(result), ""]
        sys.stderr.write("\n".join(lines))
        sys.stderr.flush()
    as_json = flags.format is Format.JSON
    _print(json.dumps(result.to_json()) if as_json else result.ref)
    _save(result, flags)


@app.command()
@with_flags
def plan(
    flags: Flags,
    target: Target,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Pack what would be sent, to know its size and digest."),
    ] = False,
) -> None:
    """Say what a push would send, and send nothing."""
    from regpush import pipeline
    from regpush.cli import table

    result = _flow(partial(pipeline.plan, exact=exact), target, flags)
    if flags.format is Format.JSON:
        _print(json.dumps(result.to_json()))
    else:
        _print("\n".join([*table.layers(result, _width()), table.summary(result)]))
    _save(result, flags)


def _flow(work: Callable[..., PushResult], target: str, flags: Flags) -> PushResult:
    """Run `push` or `plan` as the flags say, stoppable and shown."""
    from regpush.cli.progress import showing

    options = flags.options(_read_password(flags.username, flags.password_stdin))
    for path in filter(None, (flags.metadata_file, flags.digest_file)):
        _write(path, "a", "")  # better refused before the push than after it
    with _stoppable() as cancel, showing(flags.progress, sys.stderr) as notify:
        return work(target, to=flags.to, options=options, notify=notify, cancel=cancel)


@app.command()
@with_flags
def inspect(
    flags: AccessFlags,
    reference: Annotated[str, typer.Argument(metavar="REF", show_default=False)],
    platform: Annotated[str | None, typer.Option(help="Which image of several.")] = None,
    format: Annotated[Format, typer.Option(help="On stdout.")] = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Show what an image in a registry holds, layer by layer."""
    from regpush import inspect as inspecting
    from regpush.cli import table
    from regpush.cli.progress import showing
    from regpush.image import Platform
    from regpush.reference import Reference
    from regpush.registry.client import Access, Client
    from regpush.settings import Settings

    options = flags.access(_read_password(flags.username, flags.password_stdin))
    parsed = Reference.parse(reference)
    wanted = Platform.parse(platform) if platform else None
    settings = Settings.from_environ(os.environ)
    with (
        _stoppable() as cancel,
        showing(Progress.NONE, sys.stderr) as notify,
        Client(options, settings, notify=notify, cancel=cancel) as client,
    ):
        found = inspecting.inspect(parsed, client.repository(parsed, Access.PULL), wanted)
    report = found.to_json()
    if format is Format.JSON:
        _print(json.dumps(report))
        return
    head = [report["ref"], f"{report['platform']}, created {report['created']}"]
    head += [f"{key}: {json.dumps(value)}" for key, value in sorted(report["config"].items())]
    _print("\n".join([*map(printable, head), "", *table.inspection(found, _width())]))


@app.command("login")
@with_flags
def log_in(
    flags: RouteFlags,
    registry: Registry,
    username: Annotated[
        str | None, typer.Option("-u", "--username", help="User name; asked for otherwise.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from stdin.")
    ] = False,
) -> None:
    """Check a password with REGISTRY and keep it, where other tools find it as well."""
    from regpush.cli import password
    from regpush.cli.progress import showing
    from regpush.login import login, parse
    from regpush.settings import Settings

    name = parse(registry).registry  # before anybody types a password
    if password_stdin:
        said = username, _read_password(username, password_stdin)
    else:
        said = password.ask(name, username)
    with _stoppable() as cancel, showing(Progress.NONE, sys.stderr) as notify:
        place = login(
            name,
            username=said[0] or "",
            password=said[1] or "",
            options=flags.route(),
            settings=Settings.from_environ(os.environ),
            notify=notify,
            cancel=cancel,
        )
    _note(f"logged in to {name}; kept in {printable(place.name)}")


@app.command("logout")
@with_flags
def log_out(flags: FileFlags, registry: Registry) -> None:
    """Forget the login for REGISTRY."""
    from regpush.cli.progress import showing
    from regpush.login import logout, parse
    from regpush.options import RegistryOptions
    from regpush.settings import Settings

    name = parse(registry).registry
    with _stoppable() as cancel, showing(Progress.NONE, sys.stderr) as notify:
        places = logout(
            name,
            options=RegistryOptions(authfile=flags.authfile),
            settings=Settings.from_environ(os.environ),
            notify=notify,
            cancel=cancel,
        )
    for place in places:
        _note(f"logged out of {name}; removed from {printable(place.name)}")
    if not places:
        _note(f"there was no login for {name}")


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 5000,
    directory: Annotated[
        str, typer.Option("--dir", help="Where blobs and manifests are kept.")
    ] = "./registry",
) -> None:
    """Run a registry for development on this machine, until Ctrl-C."""
    from regpush import embedded

    embedded.serve(directory, port=port, ready=lambda host: _note(f"serving on http://{host}"))


@app.command()
def demo() -> None:
    """Push a sample app twice to a registry of its own, and show what crossed the network."""
    from regpush import demo as demonstration

    with _stoppable() as cancel:
        demonstration.run(_print, _width(), cancel)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from regpush import __version__

        _print(f"regpush {__version__}")


def _read_password(username: str | None, from_stdin: bool) -> str | None:
    if bool(username) != from_stdin:
        raise UsageError("--username and --password-stdin go together")
    if not from_stdin:
        return None
    from regpush.cli import password

    return password.from_stdin()


def _width() -> int:
    return shutil.get_terminal_size((160, 24)).columns if sys.stderr.isatty() else 200


def _note(line: str) -> None:
    sys.stderr.write(f"regpush: {line}\n")
    sys.stderr.flush()


class _OutputError(Exception):
    """stdout cannot be written to."""


def _print(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _OutputError(f"cannot write the result to stdout: {reason}") from error


def _save(result: PushResult, flags: Flags) -> None:
    if flags.metadata_file:
        _write(flags.metadata_file, "w", json.dumps(result.to_json(), indent=1) + "\n")
    if flags.digest_file and result.digest:
        _write(flags.digest_file, "w", f"{result.digest}\n")


def _give_up_stdout() -> None:
    """Nobody hears us: leave nothing to be flushed, and complained about, at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(path: str, mode: str, text: str) -> None:
    try:
        with open(path, mode, encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot write {printable(path)}: {reason}") from error
