"""`regpush login`: check credentials and store them."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from regpush.cli import password
from regpush.cli.access import RegistryArgument, RouteFlags
from regpush.cli.console import interruptible, note, read_password, stoppable
from regpush.cli.flags import Progress, with_flags
from regpush.cli.progress import showing
from regpush.commands import login as logins
from regpush.settings import Settings


@with_flags
def login(
    flags: RouteFlags,
    registry: RegistryArgument,
    username: Annotated[
        str | None,
        typer.Option("-u", "--username", help="User name. Default: ask at the terminal."),
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from stdin.")
    ] = False,
) -> None:
    """Check a password with REGISTRY, and store it where other tools find it too."""
    name = logins.parse(registry).registry  # a bad name fails before a password is typed
    if password_stdin:
        user, secret = username, read_password(username, password_stdin)
    else:
        with interruptible("cancelled: no login was stored"):
            user, secret = password.ask(name, username)
    with stoppable() as cancel, showing(Progress.NONE, flags.voice, sys.stderr) as notify:
        place = logins.login(
            name,
            username=user or "",
            password=secret or "",
            options=flags.route(),
            settings=Settings.from_environ(os.environ),
            notify=notify,
            cancel=cancel,
        )
    note(f"logged in to {name}; the login is stored in {place.name}")
