"""Open the registry client that a command needs, with its settings, progress and cancellation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from msgspec import Struct

from regpush.cli.access import AccessFlags, Voice
from regpush.cli.console import read_password, stoppable
from regpush.cli.flags import Progress, SendingFlags
from regpush.cli.present import check_files
from regpush.cli.progress import showing
from regpush.concurrency import Cancellation
from regpush.events import Listener
from regpush.options import RegistryOptions
from regpush.platform import Platform
from regpush.reference import Reference
from regpush.registry.client import Client
from regpush.registry.repository import Access, Repository
from regpush.settings import Settings

PlatformFlag = Annotated[
    str | None,
    typer.Option("--platform", help="Platform of the image to choose from an index."),
]


class Connection(Struct, frozen=True, kw_only=True):
    """An open registry client of a command that only reads, with its options and settings."""

    client: Client
    settings: Settings
    options: RegistryOptions
    notify: Listener
    cancel: Cancellation

    def repository(self, reference: Reference) -> Repository:
        """Return the repository of `reference`; the client requests access for pulling only."""
        return self.client.repository(reference, Access.PULL)


class Sending(Struct, frozen=True, kw_only=True):
    """The settings, options, event listener and cancellation of a command that sends images."""

    settings: Settings
    options: RegistryOptions
    notify: Listener
    cancel: Cancellation


def access(flags: AccessFlags) -> RegistryOptions:
    """Return the registry options that `flags` set; reads the password from stdin if they say so.

    Raises UsageError for contradicting flags or a missing password.
    """
    return flags.access(read_password(flags.username, flags.password_stdin))


@contextmanager
def connected(
    options: RegistryOptions, voice: Voice, progress: Progress = Progress.NONE
) -> Iterator[Connection]:
    """Yield a connection with an open registry client, which is closed at the end of the block.

    Ctrl-C cancels the requests of the client.
    """
    settings = Settings.from_environ(os.environ)
    with (
        stoppable() as cancel,
        showing(progress, voice, sys.stderr) as notify,
        Client(options, settings, notify=notify, cancel=cancel) as client,
    ):
        yield Connection(
            client=client, settings=settings, options=options, notify=notify, cancel=cancel
        )


@contextmanager
def sending(flags: SendingFlags) -> Iterator[Sending]:
    """Yield settings, options, listener and cancellation for a command that sends images.

    Progress is shown until the block ends. Ctrl-C cancels the requests. Raises UsageError for bad
    flags, and if the file of --metadata-file or --digest-file cannot be written.
    """
    options = flags.sending(read_password(flags.username, flags.password_stdin))
    settings = Settings.from_environ(os.environ)
    check_files(flags)
    with stoppable() as cancel, showing(flags.progress, flags.voice, sys.stderr) as notify:
        yield Sending(settings=settings, options=options, notify=flags.heard(notify), cancel=cancel)


def platform_of(text: str | None) -> Platform | None:
    """Parse the value of `--platform`; None without a value.

    Raises UsageError for a malformed platform.
    """
    return Platform.parse(text) if text else None
