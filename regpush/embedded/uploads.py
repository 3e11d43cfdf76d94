"""Upload sessions of the embedded registry: each writes and hashes the bytes of one blob."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from regpush.embedded.answers import ApiError
from regpush.embedded.names import RepositoryName
from regpush.embedded.store import ContentStore

if TYPE_CHECKING:
    from hashlib import _Hash


class UploadSession(Struct, kw_only=True, eq=False):
    """An unfinished upload of a blob to `repository`.

    `file`: the file that its bytes are written to. `size`: bytes written so far. `sha256`: hash of
    these bytes. `turn`: a lock, held by a request that appends bytes to the upload or ends it.
    """

    identifier: str
    repository: RepositoryName
    file: Path
    store: ContentStore
    size: int = 0
    sha256: _Hash = field(default_factory=hashlib.sha256)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def append(self, block: bytes | bytearray) -> None:
        """Append `block` to the file. Raises OSError; `size` and hash are then unchanged."""
        self.store.grow(len(block))
        try:
            with self.file.open("r+b") as stream:
                stream.seek(self.size)
                stream.write(block)
        except BaseException:
            self.store.shrink(len(block))
            raise
        self.sha256.update(block)
        self.size += len(block)


class UploadSessions:
    """The upload sessions of a running server, kept in memory: they are lost when it stops."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._open: dict[str, UploadSession] = {}

    def start(self, repository: RepositoryName) -> UploadSession:
        """Open a session for an upload to `repository`, with an empty file."""
        upload = UploadSession(
            identifier=uuid.uuid4().hex,
            repository=repository,
            file=self._store.new_file(),
            store=self._store,
        )
        upload.file.touch()
        self._open[upload.identifier] = upload
        return upload

    def find(self, repository: RepositoryName, identifier: str) -> UploadSession:
        """Return the session `identifier`.

        Raises ApiError BLOB_UPLOAD_UNKNOWN if `repository` has no such session.
        """
        upload = self._open.get(identifier)
        if upload is None or upload.repository != repository:
            raise ApiError(
                "BLOB_UPLOAD_UNKNOWN", f"{repository} has no such upload: it ended or never began"
            )
        return upload

    def end(self, upload: UploadSession) -> None:
        """Close the session, and delete its file unless the file was moved into the store."""
        self._open.pop(upload.identifier, None)
        try:
            upload.file.unlink()
        except FileNotFoundError:
            return  # `ContentStore.add_blob` moved the file
        self._store.shrink(upload.size)
