"""Talking to registries: the only package that knows httpx and tenacity.

client.py       Client, Repository: what the rest of regpush calls
  uploads.py    a blob's way in: sessions, one PUT, one streamed PATCH
  api.py        one repository's requests: authorised, redirected, judged
    auth.py     Basic and Bearer, tokens and their refreshing
    host.py     one registry: its origin, and whether it speaks TLS on loopback
    retry.py    the one policy of trying again
  exchange.py   one request, one bounded reply, counted
  wire.py       sockets: early replies, stalls, cancellation
  credentials.py, challenges.py, protocol.py   files and header values; no network
"""

import sys

# httpx imports a command line of its own, with rich and click behind it, wherever they are
# installed: a sixth of the time an unchanged push takes. Told that there is none, it goes on.
_COMMAND_LINE = "httpx._main"
if "httpx" not in sys.modules:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # the import system's "absent"
    import httpx as _  # noqa: F401  imported here so that what follows finds it made

    del sys.modules[_COMMAND_LINE]
