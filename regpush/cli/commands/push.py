"""`regpush push`, the default command: `regpush TARGET --to REF`."""

from __future__ import annotations

from regpush.cli.console import read_password
from regpush.cli.flags import Flags, with_flags
from regpush.cli.present import Presenter
from regpush.cli.pushing import Targets, push_and_sum_up


@with_flags
def push(flags: Flags, target: Targets = None) -> None:
    """Push TARGET to a registry. The default command: `regpush TARGET --to REF`."""
    password = read_password(flags.username, flags.password_stdin)
    result = push_and_sum_up(target or [], flags, password)
    Presenter(flags.format).result(result.to_json(), lambda: [result.ref])
