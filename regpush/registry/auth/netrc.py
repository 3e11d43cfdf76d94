"""`~/.netrc`, where curl and git look as well."""

from __future__ import annotations

import netrc
from urllib.parse import urlsplit

from regpush.errors import UsageError, printable
from regpush.reference import DOCKER_HUB
from regpush.registry.auth.keys import HUB_HOSTS
from regpush.registry.auth.record import Credentials


def find(path: str, registry: str) -> Credentials | None:
    """The login of the machine that `registry` is on, or None; also where there is no file.

    The `default` entry is passed over: it would send one password to whoever asks for it.
    Raises UsageError naming the file.
    """
    try:
        hosts = netrc.netrc(path).hosts
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"cannot read {printable(path)}: {why.lower()}") from None
    except netrc.NetrcParseError as error:
        # Not its message, nor the exception: they quote what stands there.
        raise UsageError(f"cannot read {printable(path)}: line {error.lineno} is wrong") from None
    names = HUB_HOSTS if registry == DOCKER_HUB else (registry, _machine(registry))
    for name in names:
        if name != "default" and name in hosts:
            login, account, password = hosts[name]
            user = login or account or ""
            if user and password:
                return Credentials(source=printable(path), username=user, password=password)
    return None


def _machine(registry: str) -> str:
    """The host without its port, which netrc does not know."""
    return urlsplit(f"//{registry}").hostname or registry
