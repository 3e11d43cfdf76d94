"""Talking to registries: the only package that knows httpx and tenacity.

client.py       Client, Repository: what the rest of regpush calls
  uploads.py    a blob's way in: sessions, one PUT, one streamed PATCH
  api.py        one repository's requests: authorised, redirected, judged
    auth.py     Basic and Bearer, tokens and their refreshing
      credentials/   who we are: flags, files, helpers; login and logout
    host.py     one registry: its origin, its certificates, whether it speaks TLS on loopback
      trust.py  whom to believe and what to show over TLS
    retry.py    the one policy of trying again
    redaction.py     our secrets taken out of what servers say
  exchange.py   one request, one bounded reply, counted
    proxy.py    which proxy is for which origin
  wire.py       sockets: early replies, stalls, cancellation
  challenges.py, protocol.py   header values; no network
"""

import logging
import sys

# httpx imports a command line of its own, with rich and click behind it, wherever they are
# installed: a sixth of the time an unchanged push takes. Told that there is none, it goes on.
_COMMAND_LINE = "httpx._main"
if "httpx" not in sys.modules:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # the import system's "absent"
    import httpx as _  # noqa: F401  imported here so that what follows finds it made

    del sys.modules[_COMMAND_LINE]

# Its debug messages hold every header of every reply, and those hold cookies and the addresses
# that open an upload to anyone. Who sets this logger's own level after us has them back.
logging.getLogger("httpcore").setLevel(logging.INFO)
