"""The stat index stores the identities of a directory's items, valid while lstat data is equal.

It is an SQLite file in the user's cache directory, and only saves time: where it cannot be read or
written, for instance with a read-only home, files are read again.

A change of a file changes its ctime, even where mtime is set back afterwards, unless change and
reading happen within one tick of the clock. So an item is not stored if it was changed less than
2 s before it was read, or has times in the future (git calls such a file racy,
Documentation/technical/racy-git).

Two kinds of changes are invisible to lstat, and so to git and ninja. The first is a write through a
shared mapping, mmap(2), to a page that is dirty already: the kernel sets mtime and ctime when a
page becomes dirty, which on ext4 happens again only after the page was written back, and on tmpfs
never. Writing back each file that is read would slow down every push, and would not help on tmpfs.
The second is an mtime that was set back on a file system without ctime. For both, users have
`--no-cache`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from regpush.closure import Identity, Programs, Stamp
from regpush.digest import Digest
from regpush.entry import as_bytes
from regpush.errors import UsageError, VerificationError
from regpush.platform import Platform

_FILE = "stats-1.sqlite"
_WAIT_S = 1.0
_KEEP = 100_000
_KEEP_PROGRAMS = 1000
_SLACK_NS = 2_000_000_000
"""2 s: FAT stores times in even seconds; no other file system has a coarser clock."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    tree BLOB NOT NULL, path BLOB NOT NULL, fingerprint BLOB NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (tree, path));
CREATE TABLE IF NOT EXISTS programs (stamp BLOB PRIMARY KEY, found TEXT NOT NULL);
"""
_RECALL = "SELECT path, fingerprint, digest FROM items WHERE tree = ?"


class Stats:
    """Stores identities of items and platforms of programs, by their stamps, in an SQLite file.

    Each call opens the file, so all threads may use it.
    """

    def __init__(self, directory: str | None) -> None:
        """Use the index in `directory`, which is created when first needed; None: store nothing."""
        self._directory = directory

    def recall(self, stamps: Mapping[str, Stamp]) -> dict[str, Identity]:
        """Return the stored identities, by item path, of the items whose stamps are unchanged.

        `stamps`: the items' present stamps by path. Empty if the database cannot be read.
        """
        paths = {as_bytes(path): path for path in stamps}
        found: dict[str, Identity] = {}
        try:
            with self._open() as database:
                for tree in {stamp.tree for stamp in stamps.values()}:
                    for row, fingerprint, digest in database.execute(_RECALL, (tree,)):
                        path = paths.get(row)
                        if path is not None and stamps[path].fingerprint == fingerprint:
                            found[path] = Identity.tree(Digest.parse(digest))
        except (OSError, sqlite3.Error, VerificationError):
            return {}
        return found

    def remember(
        self, stamps: Mapping[str, Stamp], identities: Mapping[str, Identity], *, read_ns: int
    ) -> None:
        """Store the identities of items whose files were read at `read_ns` or later.

        `read_ns`: nanoseconds since the epoch; items that were changed less than 2 s before it are
        skipped. Of more than 100,000 stored identities, the oldest are deleted. If the database
        cannot be written, nothing is stored.
        """
        rows = [
            (stamps[path].tree, as_bytes(path), stamps[path].fingerprint, str(identity.digest))
            for path, identity in identities.items()
            if path in stamps and stamps[path].newest_ns + _SLACK_NS <= read_ns
        ]
        if not rows:
            return
        try:
            with self._open() as database, database:
                database.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)", rows)
                database.execute(
                    "DELETE FROM items WHERE rowid <= (SELECT max(rowid) FROM items) - ?", (_KEEP,)
                )
        except (OSError, sqlite3.Error):
            return

    def recall_programs(self, programs: Programs) -> dict[Platform, str] | None:
        """Return the stored platforms of `programs`, each with one path; None if not stored."""
        try:
            with self._open() as database:
                row = database.execute(
                    "SELECT found FROM programs WHERE stamp = ?", (programs.stamp,)
                ).fetchone()
                found = json.loads(row[0]) if row else None
                return found and {Platform.parse(text): path for text, path in found.items()}
        except (OSError, sqlite3.Error, ValueError, AttributeError, UsageError):
            return None

    def remember_programs(
        self, programs: Programs, found: Mapping[Platform, str], *, read_ns: int
    ) -> None:
        """Store the platforms of `programs`, read at `read_ns` or later.

        `read_ns`: nanoseconds since the epoch. Nothing is stored if a program was changed less than
        2 s before it, or if the database cannot be written.
        """
        if programs.newest_ns + _SLACK_NS > read_ns:
            return
        text = json.dumps({str(platform): path for platform, path in found.items()})
        try:
            with self._open() as database, database:
                database.execute(
                    "INSERT OR REPLACE INTO programs VALUES (?, ?)", (programs.stamp, text)
                )
                database.execute(
                    "DELETE FROM programs WHERE rowid <= (SELECT max(rowid) FROM programs) - ?",
                    (_KEEP_PROGRAMS,),
                )
        except (OSError, sqlite3.Error):
            return

    def forget(self, stamps: Mapping[str, Stamp]) -> None:
        """Delete all stored identities of the directories of `stamps`, because one was wrong."""
        try:
            with self._open() as database, database:
                trees = {(stamp.tree,) for stamp in stamps.values()}
                database.executemany("DELETE FROM items WHERE tree = ?", trees)
        except (OSError, sqlite3.Error):
            return

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection to the database, which is made where it is missing.

        Raises OSError without a directory for it, and sqlite3.Error.
        """
        if self._directory is None:
            raise FileNotFoundError("no directory for the stat index")
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        path = os.path.join(self._directory, _FILE)
        with closing(sqlite3.connect(path, timeout=_WAIT_S)) as database:
            database.executescript(_SCHEMA)
            yield database
