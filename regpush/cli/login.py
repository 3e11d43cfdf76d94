"""The commands that keep credentials, and forget them."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from regpush.cli.access import FileFlags, RouteFlags
from regpush.cli.console import note, read_password, stoppable
from regpush.cli.flags import Progress, with_flags

Registry = Annotated[
    str,
    typer.Argument(
        metavar="REGISTRY",
        help="A host with or without a port: registry.example.com, localhost:5000, docker.io.",
        show_default=False,
    ),
]


@with_flags
def login(
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
    from regpush.commands import login as logins
    from regpush.settings import Settings

    name = logins.parse(registry).registry  # before anybody types a password
    if password_stdin:
        user, secret = username, read_password(username, password_stdin)
    else:
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
    note(f"logged in to {name}; kept in {place.name}")


@with_flags
def logout(flags: FileFlags, registry: Registry) -> None:
    """Forget the login for REGISTRY."""
    from regpush.cli.progress import showing
    from regpush.commands import login as logins
    from regpush.options import RegistryOptions
    from regpush.settings import Settings

    name = logins.parse(registry).registry
    with stoppable() as cancel, showing(Progress.NONE, flags.voice, sys.stderr) as notify:
        places = logins.logout(
            name,
            options=RegistryOptions(authfile=flags.authfile),
            settings=Settings.from_environ(os.environ),
            notify=notify,
            cancel=cancel,
        )
    for place in places:
        note(f"logged out of {name}; removed from {place.name}")
    if not places:
        note(f"there was no login for {name}")
