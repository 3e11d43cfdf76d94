"""Read the SQLite database of a Nix or Guix store: which paths are valid, and their references.

Nix and Guix have the same tables `ValidPaths` and `Refs`. The database is never written.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import sqlite3
import urllib.parse
from collections.abc import Iterator

from msgspec import Struct

from regpush.errors import SourceError, printable
from regpush.sources import hashes
from regpush.sources.path_info import PathInfo

_BUSY_TIMEOUT_S = 10.0
# Gives a row for each reference of an item, and one for an item without references. The first
# parameter is the item's path; the second is 0 for this item alone, 1 for its whole closure.
_INFOS = """
    WITH RECURSIVE wanted(id) AS (
        SELECT id FROM ValidPaths WHERE path = ?
        UNION SELECT reference FROM Refs JOIN wanted ON ? AND referrer = wanted.id)
    SELECT item.path, item.hash, item.narSize, item.deriver, referred.path
    FROM wanted JOIN ValidPaths item ON item.id = wanted.id
        LEFT JOIN Refs ON Refs.referrer = item.id
        LEFT JOIN ValidPaths referred ON referred.id = Refs.reference
    ORDER BY item.path, referred.path"""
_ITEM, _CLOSURE = 0, 1
_Rows = list[tuple[object, ...]]


class Database(Struct, frozen=True, eq=False):
    """The database of a store, at `path`. Every method raises SourceError where it is unreadable.

    Paths in it are logical: those that programs use (`/nix/store/…`), wherever the files are.
    """

    path: str

    def logical_root(self) -> str | None:
        """Return the store's logical directory, such as `/gnu/store`; None without a valid path."""
        rows = self._query("SELECT path FROM ValidPaths LIMIT 1")
        return posixpath.dirname(str(rows[0][0])) if rows else None

    def is_valid(self, path: str) -> bool:
        """Whether the logical `path` is a valid store path."""
        return bool(self._query("SELECT 1 FROM ValidPaths WHERE path = ?", path))

    def is_nix(self) -> bool:
        """Whether this is a database of Nix; Guix's has no column for content addresses (`ca`)."""
        columns = self._query("SELECT name FROM pragma_table_info('ValidPaths')")
        return ("ca",) in columns

    def closure(self, path: str) -> tuple[PathInfo, ...]:
        """Return what is recorded about `path` and every path that it refers to, also indirectly.

        Sorted by path. Empty where `path` is not valid.
        """
        return tuple(self._infos(self._query(_INFOS, path, _CLOSURE)))

    def path_info(self, path: str) -> PathInfo | None:
        """Return what is recorded about the logical `path`; None where it is not valid."""
        return next(self._infos(self._query(_INFOS, path, _ITEM)), None)

    def _infos(self, rows: _Rows) -> Iterator[PathInfo]:
        references: dict[str, list[str]] = {}
        facts = {}
        for path, *fact, referred in rows:
            found = references.setdefault(str(path), [])
            facts[str(path)] = fact
            if referred is not None and referred != path:
                found.append(str(referred))
        for path, (nar_hash, nar_size, deriver) in facts.items():
            try:
                digest = hashes.parse(nar_hash)
            except ValueError as error:
                raise SourceError(
                    f"{printable(self.path)} has a malformed hash of {printable(path)} ({error}): "
                    "the database is damaged"
                ) from error
            yield PathInfo(
                path=path,
                nar_hash=digest,
                nar_size=nar_size if isinstance(nar_size, int) else 0,
                deriver=str(deriver or ""),
                references=tuple(references[path]),
            )

    def _query(self, query: str, *parameters: str | int) -> _Rows:
        """Run a query and return its rows, without writing anything.

        The database is in WAL mode: while a program uses it, a log file is beside it, which
        SQLite's `mode=ro` reads. Without a log file, `mode=ro` would create one, for which users
        lack permission; `immutable=1` creates none, and its result is right if no program opened
        the database meanwhile.
        """
        log = self.path + "-wal"
        try:
            if not os.path.exists(log):
                before = self._state()
                rows = self._run("immutable=1", query, parameters)
                if not os.path.exists(log) and self._state() == before:
                    return rows
            return self._run("mode=ro", query, parameters)
        except (sqlite3.Error, OSError) as error:
            raise SourceError(
                f"cannot read the store database {printable(self.path)}: {error}"
            ) from error

    def _state(self) -> tuple[int, int, int]:
        status = os.stat(self.path)
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _run(self, how: str, query: str, parameters: tuple[str | int, ...]) -> _Rows:
        uri = f"file:{urllib.parse.quote(os.fsencode(os.path.abspath(self.path)))}?{how}"
        with contextlib.closing(
            sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S)
        ) as connection:
            return connection.execute(query, parameters).fetchall()
