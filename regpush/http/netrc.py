"""Reads logins from `~/.netrc`, which curl, git and pip read too."""

from __future__ import annotations

import netrc
from collections.abc import Iterable

from regpush.errors import UsageError, printable


def login(path: str, machines: Iterable[str]) -> tuple[str, str] | None:
    """Return user name and password of the first of `machines` that the file at `path` names.

    None without a match, and where the file does not exist. The `default` entry is ignored: it
    would send one password to every host. Raises UsageError naming the file where it cannot be
    read.
    """
    try:
        hosts = netrc.netrc(path).hosts
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"cannot read {printable(path)}: {why.lower()}") from None
    except netrc.NetrcParseError as error:
        # The parser's message and exception quote the line, which may hold a password.
        raise UsageError(
            f"cannot read {printable(path)}: line {error.lineno} is not in netrc's format"
        ) from None
    for name in machines:
        if name != "default" and name in hosts:
            user, account, password = hosts[name]
            if (user := user or account or "") and password:
                return user, password
    return None
