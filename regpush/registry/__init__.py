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

# The debug messages of httpcore hold every header of every reply, and those hold cookies and the
# addresses that open an upload to anyone. Who sets this logger's own level after us has them back.
logging.getLogger("httpcore").setLevel(logging.INFO)
