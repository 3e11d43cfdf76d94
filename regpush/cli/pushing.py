"""The push of `push`, `plan` and `resolve`: options from the flags, progress, Ctrl-C.

The work is called by its name in the library, `regpush.push`, which imports it at the first use:
help, completion and usage errors need none of its modules (200 of them, 80 ms). The connection to
the registry is made meanwhile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import typer

import regpush
from regpush.cli import table
from regpush.cli.access import Voice
from regpush.cli.console import stoppable, width
from regpush.cli.flags import Flags
from regpush.cli.present import check_files, sum_up
from regpush.cli.progress import showing
from regpush.errors import UsageError
from regpush.http import ahead
from regpush.http.address import Origin
from regpush.http.proxy import Routes
from regpush.options import RegistryOptions
from regpush.reference import Reference
from regpush.report import PushResult
from regpush.settings import Settings

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET...",
        help="A directory, a file, an archive, a store path or a link to one (./result), a closure "
        "file, nix:.#app, python:DIR, node:DIR, packages of Guix, or an app of regpush.toml.",
        show_default=False,
    ),
]


def push_and_sum_up(targets: list[str], flags: Flags, password: str | None) -> PushResult:
    """Push; write the summary to stderr, and the report to the files of the flags."""
    result = flow(lambda: regpush.push, targets, flags, password)
    shown = table.layers if flags.voice > Voice.USUAL else table.changes
    rows = table.styled(shown(result, width()))
    summary = [*rows, *table.destinations(result), table.summary(result)]
    sum_up(result.to_json(), summary, flags)
    return result


def flow(
    work: Callable[[], Callable[..., PushResult]],
    targets: list[str],
    flags: Flags,
    password: str | None,
) -> PushResult:
    """Run the function that `work` imports, a push or a plan, with the options of the flags."""
    options = flags.options(password)
    check_files(flags)
    _connect(flags.to, options.registry)
    with stoppable() as cancel, showing(flags.progress, flags.voice, sys.stderr) as notify:
        return work()(targets, to=flags.to, options=options, notify=notify, cancel=cancel)


def _connect(to: str, options: RegistryOptions) -> None:
    """Begin a connection to the registry of the reference `to`, or to the proxy before it."""
    with suppress(UsageError):  # raised again where the reference and the proxy are used
        registry = Reference.parse(to)
        plain = options.plain_http or registry.is_loopback
        origin = Origin.of(f"{'http' if plain else 'https'}://{registry.api_host}")
        proxy = Routes(Settings.from_environ(os.environ).proxies).proxy(origin)
        ahead.begin(*((proxy.host, proxy.port) if proxy else (origin.host, origin.port)))
