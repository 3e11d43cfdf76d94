"""Upload sessions: bytes arrive in order, and are hashed while they are written."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from regpush.embedded.answers import ApiError
from regpush.embedded.names import RepositoryName
from regpush.embedded.store import ContentStore

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass(slots=True, kw_only=True, eq=False)
class UploadSession:
    """An upload; `size`: bytes written so far, `turn`: a lock for adding bytes and ending."""

    identifier: str
    repository: RepositoryName
    file: Path
    store: ContentStore
    size: int = 0
    sha256: _Hash = field(default_factory=hashlib.sha256)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def append(self, block: bytes | bytearray) -> None:
        """Write `block` at the end. A failed write changes neither `size` nor the hash."""
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
    """The sessions of a running server; they are lost when it ends."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._open: dict[str, UploadSession] = {}

    def start(self, repository: RepositoryName) -> UploadSession:
        """Open a new, empty session."""
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
        """Return the session `identifier` of `repository`.

        Raises ApiError BLOB_UPLOAD_UNKNOWN.
        """
        upload = self._open.get(identifier)
        if upload is None or upload.repository != repository:
            raise ApiError("BLOB_UPLOAD_UNKNOWN", "there is no such upload in this repository")
        return upload

    def end(self, upload: UploadSession) -> None:
        """Remove the session, and its file unless that was moved into the store."""
        self._open.pop(upload.identifier, None)
        try:
            upload.file.unlink()
        except FileNotFoundError:
            return  # it was moved into the store
        self._store.shrink(upload.size)
