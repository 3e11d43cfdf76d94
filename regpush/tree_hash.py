"""Identities that regpush computes: a hash over the entries of an archive and their contents."""

from __future__ import annotations

import hashlib

from regpush.digest import Digest
from regpush.entry import Entry, Kind

_LETTERS = {kind: kind.value.encode() for kind in Kind}


class TreeHash:
    """A sha256 over a sequence of entries and the digest of each file's content.

    Different sequences never give the same hashed bytes: every field is either of a fixed alphabet
    or preceded by its length. Add entries in archive order.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, entry: Entry, content: bytes = b"") -> None:
        """Add `entry`; `content` is the `ContentHash` digest (32 bytes) of a file's content."""
        path, kind, mode, uid, gid, size, link, xattrs, _ = entry
        count = len(link)
        if xattrs:
            link += b"".join(b"%d %d\n%b%b" % (len(n), len(v), n, v) for n, v in xattrs)
        self._hash.update(b"%b %o %d %d %d %d %d %d\n%b%b%b" % (
            _LETTERS[kind], mode, uid, gid, size, len(path), count, len(xattrs), path, link, content
        ))  # fmt: skip

    def digest(self) -> Digest:
        """Return the digest of everything added so far."""
        return Digest("sha256", self._hash.hexdigest())
