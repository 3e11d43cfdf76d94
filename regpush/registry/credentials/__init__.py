"""Who we are to a registry, in the order of the sources: the first that knows it is taken.

record.py       Credentials, one login
sources.py      the order: flags, files, GitHub's token, netrc
  files.py      Docker's config.json and containers' auth.json, read; login and logout, pure
    keys.py     which entry of a file is for which registry
    helpers.py  programs that keep secrets
  netrc.py      ~/.netrc
store.py        login and logout: where the answer goes
"""

from regpush.registry.credentials.record import Credentials, described
from regpush.registry.credentials.sources import Sources, from_options

__all__ = ["Credentials", "Sources", "described", "from_options"]
