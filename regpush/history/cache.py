"""The local index: layers that this machine has pushed, by recipe. It is optional.

SQLite in the user's cache directory. Its loss costs only time, so every failure, from a read-only
home to a damaged file, switches it off instead of ending a push.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from regpush.digest import Descriptor, Digest
from regpush.errors import RegpushError
from regpush.image.image import Layer
from regpush.options import Compression
from regpush.pack.compression import matches
from regpush.pack.recipe import Candidate
from regpush.reference import RepositoryName

_FILE = "index-1.sqlite"
_WAIT_S = 2.0
_KEEP = 20_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS layers (
    recipe TEXT NOT NULL, repository TEXT NOT NULL, digest TEXT NOT NULL,
    media_type TEXT NOT NULL, size INTEGER NOT NULL, diff_id TEXT NOT NULL,
    uncompressed_size INTEGER,
    PRIMARY KEY (recipe, repository, digest))
"""


class LayerIndex:
    """Recipes and the layers made from them. A context manager; for one thread."""

    def __init__(self, directory: str | None) -> None:
        """Open, or create, the index in `directory`; with None the index stays empty."""
        self._database: sqlite3.Connection | None = None
        if directory is None:
            return
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            self._database = sqlite3.connect(os.path.join(directory, _FILE), timeout=_WAIT_S)
            self._database.execute(_SCHEMA)
        except (OSError, sqlite3.Error):
            self._give_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_up()

    def _give_up(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def knows(self, registry: str) -> bool:
        """Whether the index holds a layer of any repository of `registry`."""
        if self._database is None:
            return False
        try:
            rows = self._database.execute(
                "SELECT 1 FROM layers WHERE substr(repository, 1, ?) = ? LIMIT 1",
                (len(registry) + 1, f"{registry}/"),
            )
            return rows.fetchone() is not None
        except sqlite3.Error:
            self._give_up()
            return False

    def recall(
        self, recipe: Digest, repository: RepositoryName, compression: Compression | None
    ) -> list[Candidate]:
        """Find layers made from `recipe`: those in `repository` first, then the newest first.

        Empty if the index cannot be used.
        """
        if self._database is None:
            return []
        try:
            rows = self._database.execute(
                "SELECT repository, digest, media_type, size, diff_id, uncompressed_size"
                " FROM layers WHERE recipe = ? ORDER BY repository <> ?, rowid DESC LIMIT 8",
                (str(recipe), str(repository)),
            ).fetchall()
            candidates = [_candidate(recipe, row) for row in rows]
        except (sqlite3.Error, RegpushError, TypeError):
            self._give_up()
            return []
        return [c for c in candidates if matches(c.layer.descriptor.media_type, compression)]

    def remember(self, layers: Iterable[Layer], repository: RepositoryName) -> None:
        """Record that `repository` holds `layers`; a limit deletes the oldest entries.

        Does nothing if the index cannot be used.
        """
        if self._database is None:
            return
        rows = [
            (
                str(layer.recipe),
                str(repository),
                str(layer.descriptor.digest),
                layer.descriptor.media_type,
                layer.descriptor.size,
                str(layer.diff_id),
                layer.uncompressed_size,
            )
            for layer in layers
            if layer.recipe
        ]
        try:
            with self._database:
                self._database.executemany(
                    "INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?, ?, ?, ?)", rows
                )
                self._database.execute(
                    "DELETE FROM layers WHERE rowid <= (SELECT max(rowid) FROM layers) - ?",
                    (_KEEP,),
                )
        except sqlite3.Error:
            self._give_up()


def _candidate(recipe: Digest, row: tuple[str, str, str, int, str, int | None]) -> Candidate:
    repository, digest, media_type, size, diff_id, uncompressed_size = row
    layer = Layer(
        descriptor=Descriptor(media_type=media_type, digest=Digest.parse(digest), size=size),
        diff_id=Digest.parse(diff_id),
        uncompressed_size=uncompressed_size,
    )
    return Candidate(
        layer=replace(layer, recipe=recipe),
        repository=RepositoryName.parse(repository),
        source="local index",
    )
