"""One registry, over `http/`: credentials, uploads, manifests, tags, referrers.

client.py      Client: the registries of one run
repository.py  Repository: blobs, manifests and tags (tag_list.py)
images.py      images and indexes, read by a Repository
referrers.py   attach, list and fetch referrers: referrers_list.py (API), referrers_tag.py (tags),
               artifact.py (manifests, made by oras)
uploads/       sending a blob: forms of requests, sessions, resuming
download.py    reading a blob
api.py         authorised requests of one repository: redirects, retries, errors
auth/          credentials and tokens
host.py        the address of a registry, and whether it speaks TLS
probe.py       the steps of `regpush doctor`
protocol.py, quirks.py, hints.py   reading replies; differences of registries; advice. Pure
"""

import logging
import sys

# httpx imports a command line of its own, with rich, Pygments and click behind it, where these are
# installed (click comes with uvicorn): 33 ms of CPU, where all else that an unchanged push imports
# takes 170. None in sys.modules is the import system's word for a module that does not exist
# (Python's reference, "The module cache"); httpx bears that, as for who has not installed these.
_COMMAND_LINE = "httpx._main"
if "httpx" not in sys.modules:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # typeshed knows modules alone
    import httpx as _  # noqa: F401  imported here so that what follows finds it made

    del sys.modules[_COMMAND_LINE]

# Its debug messages hold every header of every reply, and those hold cookies and the addresses
# that open an upload to anyone. Who sets this logger's own level after us has them back.
logging.getLogger("httpcore").setLevel(logging.INFO)
