"""Read user names and passwords from stdin or a terminal, never from the command line."""

from __future__ import annotations

import sys
from getpass import getpass

from regpush.errors import UsageError

_LIMIT = 16 * 1024
"""Maximum bytes of a password; some registries take a JSON document as the password."""


def from_stdin() -> str:
    """Read the password: all of stdin, or one line from a terminal, without the final newline.

    Raises UsageError if it is empty, too long, or not UTF-8.
    """
    stdin = sys.stdin.buffer
    data = stdin.readline(_LIMIT + 1) if sys.stdin.isatty() else stdin.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise UsageError(f"the password on stdin is longer than {_LIMIT} bytes")
    try:
        password = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        # Not chained: the exception contains the password.
        raise UsageError("the password on stdin is not UTF-8") from None
    if not password:
        raise UsageError("there is no password on stdin")
    return password


def ask(registry: str, username: str | None) -> tuple[str, str]:
    """Ask at the terminal for the password, and for the user name if `username` is None.

    Returns user name and password. Raises UsageError if stdin is no terminal, or one is empty.
    """
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask for a password: use --username and --password-stdin")
    try:
        if username is None:
            sys.stderr.write(f"User name for {registry}: ")
            sys.stderr.flush()
            username = sys.stdin.readline().strip()
        password = getpass(f"Password of {username} for {registry}: ")
    except KeyboardInterrupt:
        sys.stderr.write("\n")  # the message about it begins below the prompt
        raise
    if not username or not password:
        raise UsageError("neither the user name nor the password may be empty")
    return username, password
