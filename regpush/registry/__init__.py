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
from contextlib import suppress
from importlib import import_module
from threading import Thread

# httpx imports a command line of its own, with rich, Pygments and click behind it, where these are
# installed (click comes with uvicorn): 33 ms of CPU, where all else that an unchanged push imports
# takes 150. None in sys.modules is the import system's word for a module that does not exist
# (Python's reference, "The module cache"); httpx bears that, as for who has not installed these.
_COMMAND_LINE = "httpx._main"


def _import() -> None:
    # An error is raised again by the first module that imports the library for its use.
    with suppress(Exception):
        for library in ("httpx", "httpcore"):
            import_module(library)


if "httpx" not in sys.modules:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # typeshed knows modules alone
    # In a thread, because its stack is empty. CPython keeps the frames of functions in chunks of 16
    # KiB and, for each call that does not fit into the last one, maps memory (`push_chunk` in
    # Python/pystate.c of 3.11 to 3.13). Nested in the imports of a push, 2,200 calls by httpx were
    # at the end of a chunk, which took 16 ms of CPU.
    importing = Thread(target=_import, name="regpush-import")
    importing.start()
    importing.join()
    del sys.modules[_COMMAND_LINE]

# Its debug messages hold every header of every reply, and those hold cookies and the addresses
# that open an upload to anyone. Who sets this logger's own level after us has them back.
logging.getLogger("httpcore").setLevel(logging.INFO)
