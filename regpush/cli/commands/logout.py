"""`regpush logout`: delete stored credentials."""

from __future__ import annotations

import os
import sys

from regpush.cli.access import FileFlags, RegistryArgument
from regpush.cli.console import note, stoppable
from regpush.cli.flags import Progress, with_flags
from regpush.cli.progress import showing
from regpush.commands import login as logins
from regpush.options import RegistryOptions
from regpush.settings import Settings


@with_flags
def logout(flags: FileFlags, registry: RegistryArgument) -> None:
    """Delete the stored login for REGISTRY."""
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
        note(f"logged out of {name}; the login was removed from {place.name}")
    if not places:
        note(f"no login for {name} was stored")
