"""Run a push or plan for the commands push, plan and resolve: options, progress, Ctrl-C.

`regpush.push` and `regpush.plan` import their modules (200 of them, 80 ms) when they are first
asked for, so that help, completion and usage errors do not import them. The connection to the
registry is opened during these imports.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

import regpush
from regpush.cli import table
from regpush.cli.access import Voice
from regpush.cli.console import stoppable, width
from regpush.cli.flags import Flags
from regpush.cli.present import check_files, sum_up
from regpush.cli.progress import showing
from regpush.cli.route import first_origin
from regpush.errors import RegpushError
from regpush.http import ahead
from regpush.http.proxy import Routes
from regpush.options import RegistryOptions
from regpush.reference import Reference
from regpush.report import PushResult
from regpush.settings import Settings

if TYPE_CHECKING:
    from regpush.http.trust import Contexts

_HANDSHAKE_S = 3.0
"""Seconds for a TLS handshake in advance; a slower one is begun again by the first request."""

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET...",
        help="A directory, a file, an archive, a store path or a link to one (./result), a closure "
        "file, nix:.#app, python:DIR, node:DIR, Guix packages, or an app of regpush.toml.",
        show_default=False,
    ),
]


def push_and_sum_up(targets: list[str], flags: Flags, password: str | None) -> PushResult:
    """Push `targets`, write a summary to stderr, and the report to the files that `flags` name."""
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
    """Call the function that `work` imports, `regpush.push` or `regpush.plan`, with all options.

    The options are those that `flags` set. Shows progress on stderr; Ctrl-C cancels the work.
    """
    options, settings = flags.options(password), Settings.from_environ(os.environ)
    check_files(flags)
    with (
        _connecting(flags.to, options.registry, settings),
        stoppable() as cancel,
        showing(flags.progress, flags.voice, sys.stderr) as notify,
    ):
        return work()(
            targets, to=flags.to, options=options, settings=settings, notify=notify, cancel=cancel
        )


@contextmanager
def _connecting(to: str, options: RegistryOptions, settings: Settings) -> Iterator[None]:
    """Begin the connection to the registry of the reference `to`, for the push in the block.

    It leads to the proxy, if one stands in front of that registry; else it gets as far as the end
    of its TLS handshake.
    """
    try:
        registry = Reference.parse(to)
        origin = first_origin(registry, "http" if options.plain_http else "https")
        proxy = Routes(settings.proxies).proxy(origin)
    except RegpushError:  # the push raises it again when it uses the reference or proxy
        yield
        return
    if proxy or options.plain_http:
        there = proxy or origin
        with ahead.begun(there.host, there.port):
            yield
        return
    contexts: Future[Contexts] = Future()

    def secure(sock: socket.socket) -> socket.socket:
        from regpush.http.trust import Trust, secured  # in this thread, not before TCP's handshake

        trust = Trust.of(registry.registry, options, settings.certificate_dirs)
        if registry.is_loopback and not trust.means_tls:
            return sock  # the first request goes over http
        context = contexts.result().context(trust)
        return secured(sock, context, origin.host, _HANDSHAKE_S)

    with ahead.begun(origin.host, origin.port, secure):
        from regpush.http.trust import Contexts  # `ssl` takes 10 ms: during TCP's handshake

        Contexts.early = Contexts(settings.ca_file, settings.ca_dir)
        contexts.set_result(Contexts.early)
        try:
            yield
        finally:
            Contexts.early = None
