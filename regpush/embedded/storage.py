"""The registry's disk. Content lies once, under its digest; a repository holds links to it.

    blobs/sha256/ab/<hex>                      content of blobs and manifests
    repositories/<name>/_blobs/sha256/<hex>    empty: the blob belongs to this repository
    repositories/<name>/_manifests/sha256/<hex>   its media type
    repositories/<name>/_tags/<tag>            a digest
    incoming/                                  uploads and files not yet in place

Files appear whole, by rename. No component of a repository name begins with `_`. Deleting
removes links; content stays, for another repository may be taking it up just then.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from regpush.digest import Digest
from regpush.embedded.errors import Code, OutOfOrderError, RequestError, TooLargeError
from regpush.embedded.manifest import MAX_SIZE, references
from regpush.embedded.names import Name, Tag
from regpush.errors import UsageError, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A stored manifest, byte for byte as it was pushed."""

    digest: Digest
    media_type: str
    data: bytes


class Upload:
    """A blob on its way in. It lives as long as the server does, unless finished before."""

    def __init__(self, identifier: str, name: Name, path: str) -> None:
        self.identifier = identifier
        self.name = name
        self.path = path
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._writing = threading.Lock()

    @contextlib.contextmanager
    def writing(self, offset: int | None) -> Iterator[None]:
        """Hold the upload for one request that adds bytes from `offset` on (None: at the end).

        Raises RequestError if another request holds it, OutOfOrderError if it does not end
        at `offset`.
        """
        if not self._writing.acquire(blocking=False):
            raise RequestError(Code.BLOB_UPLOAD_INVALID, "another request writes to this upload")
        try:
            if offset is not None and offset != self.size:
                raise OutOfOrderError(f"the upload continues at byte {self.size}", self.size)
            yield
        finally:
            self._writing.release()

    def append(self, data: bytes) -> None:
        """Write and hash; to be called within `writing`.

        Raises RequestError (BLOB_UPLOAD_UNKNOWN) if the upload was discarded meanwhile.
        """
        try:
            with open(self.path, "r+b") as file:
                file.seek(self.size)
                file.write(data)
        except FileNotFoundError:
            raise RequestError(Code.BLOB_UPLOAD_UNKNOWN, "the upload was discarded") from None
        self._sha256.update(data)
        self.size += len(data)

    def digest(self, algorithm: str) -> Digest:
        """The digest of what has arrived; all but sha256 read it again."""
        if algorithm == "sha256":
            return Digest(algorithm, self._sha256.hexdigest())
        with open(self.path, "rb") as file:
            return Digest(algorithm, hashlib.file_digest(file, algorithm).hexdigest())


class Storage:
    """The content of a registry below one directory, which is made, and held by a lock.

    Its methods may be called from several threads. Raises UsageError where the directory
    cannot be used.
    """

    def __init__(self, directory: str) -> None:
        self._blobs = os.path.join(directory, "blobs")
        self._repositories = os.path.join(directory, "repositories")
        self._incoming = os.path.join(directory, "incoming")
        self._uploads: dict[str, Upload] = {}
        try:
            os.makedirs(directory, exist_ok=True)
            self._lock = _lock(os.path.join(directory, "lock"))
        except BlockingIOError:
            raise UsageError(
                f"another registry uses '{printable(directory)}': end it, or choose another --dir"
            ) from None
        except OSError as error:
            raise UsageError(
                f"cannot keep a registry in '{printable(directory)}': {error.strerror}"
            ) from error
        # What an earlier server did not finish: nobody knows the names of these uploads.
        shutil.rmtree(self._incoming, ignore_errors=True)
        os.makedirs(self._incoming, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    # Blobs

    def blob(self, name: Name, digest: Digest) -> str:
        """The file that holds a blob of repository `name`. Raises RequestError (BLOB_UNKNOWN)."""
        if not self._has_blob(name, digest):
            raise RequestError(Code.BLOB_UNKNOWN, f"no blob {digest} in {name}")
        return self._content(digest)

    def mount(self, digest: Digest, *, source: Name, target: Name) -> bool:
        """Link a blob of `source` into `target`; whether `source` has it."""
        if not self._has_blob(source, digest):
            return False
        self._write(self._blob_link(target, digest), b"")
        return True

    def delete_blob(self, name: Name, digest: Digest) -> None:
        """Raises RequestError (BLOB_UNKNOWN)."""
        if not _unlink(self._blob_link(name, digest)):
            raise RequestError(Code.BLOB_UNKNOWN, f"no blob {digest} in {name}")

    # Uploads

    def start(self, name: Name) -> Upload:
        """A new, empty upload into `name`."""
        identifier = uuid.uuid4().hex
        path = os.path.join(self._incoming, identifier)
        with open(path, "xb"):
            pass
        upload = self._uploads[identifier] = Upload(identifier, name, path)
        return upload

    def upload(self, name: Name, identifier: str) -> Upload:
        """Raises RequestError (BLOB_UPLOAD_UNKNOWN)."""
        upload = self._uploads.get(identifier)
        if upload is None or upload.name != name:
            raise RequestError(Code.BLOB_UPLOAD_UNKNOWN, f"no such upload in {name}")
        return upload

    def finish(self, upload: Upload, digest: Digest) -> None:
        """Make the upload a blob of its repository; it ends either way.

        Raises RequestError (DIGEST_INVALID) where its bytes have another digest.
        """
        try:
            os.truncate(upload.path, upload.size)  # a write that failed may have left a rest
            found = upload.digest(digest.algorithm)
            if found != digest:
                raise RequestError(Code.DIGEST_INVALID, f"the bytes are {found}, not {digest}")
            _move(upload.path, self._content(digest))
            self._write(self._blob_link(upload.name, digest), b"")
        finally:
            self.discard(upload)

    def discard(self, upload: Upload) -> None:
        """Forget the upload and its bytes. May be called again."""
        self._uploads.pop(upload.identifier, None)
        _unlink(upload.path)

    # Manifests

    def put_manifest(
        self, name: Name, reference: Digest | Tag, data: bytes, media_type: str
    ) -> Digest:
        """Store a manifest, and point a tag at it where `reference` is one.

        Raises RequestError: MANIFEST_INVALID, DIGEST_INVALID, and MANIFEST_BLOB_UNKNOWN where a
        blob or a child manifest is not in the repository; TooLargeError beyond 4 MiB.
        """
        if len(data) > MAX_SIZE:
            raise TooLargeError(Code.MANIFEST_INVALID, f"a manifest is {MAX_SIZE} bytes at most")
        digest = Digest.of(data)
        if isinstance(reference, Digest):
            found = hashlib.new(reference.algorithm, data).hexdigest()
            if found != reference.hex:
                raise RequestError(
                    Code.DIGEST_INVALID, f"the manifest is {digest}, not {reference}"
                )
            digest = reference
        needs = references(data, media_type)
        missing = [str(d) for d in needs.blobs if not self._has_blob(name, d)]
        missing += [str(d) for d in needs.manifests if not self._has_manifest(name, d)]
        if missing:
            raise RequestError(Code.MANIFEST_BLOB_UNKNOWN, f"not in {name}: {', '.join(missing)}")
        self._write(self._content(digest), data)
        self._write(self._manifest_link(name, digest), media_type.encode())
        if not isinstance(reference, Digest):
            self._write(self._tag_file(name, reference), str(digest).encode())
        return digest

    def manifest(self, name: Name, reference: Digest | Tag) -> Manifest:
        """Raises RequestError (MANIFEST_UNKNOWN)."""
        digest = reference if isinstance(reference, Digest) else self._tagged(name, reference)
        media_type = None if digest is None else _read(self._manifest_link(name, digest))
        if digest is None or media_type is None:
            raise RequestError(Code.MANIFEST_UNKNOWN, f"no manifest {reference} in {name}")
        with open(self._content(digest), "rb") as file:
            return Manifest(digest=digest, media_type=media_type.decode(), data=file.read())

    def delete_manifest(self, name: Name, reference: Digest | Tag) -> None:
        """A digest: the manifest and every tag on it; a tag: that tag alone.

        Raises RequestError (MANIFEST_UNKNOWN).
        """
        if isinstance(reference, Digest):
            for tag in _names(self._repository(name, "_tags")):
                if self._tagged(name, Tag(tag)) == reference:
                    _unlink(self._tag_file(name, Tag(tag)))
            found = _unlink(self._manifest_link(name, reference))
        else:
            found = _unlink(self._tag_file(name, reference))
        if not found:
            raise RequestError(Code.MANIFEST_UNKNOWN, f"no manifest {reference} in {name}")

    def tags(self, name: Name) -> list[str]:
        """Sorted. Raises RequestError (NAME_UNKNOWN) where nothing was pushed to `name`."""
        if not os.path.isdir(self._repository(name, "_manifests")):
            raise RequestError(Code.NAME_UNKNOWN, f"no repository {name}")
        return _names(self._repository(name, "_tags"))

    def repositories(self) -> list[str]:
        """The names of the repositories to which a manifest was pushed; sorted."""
        found = []
        for path, folders, _ in os.walk(self._repositories):
            if "_manifests" in folders:
                found.append(os.path.relpath(path, self._repositories))
            folders[:] = [folder for folder in folders if not folder.startswith("_")]
        return sorted(found)

    # Paths

    def _content(self, digest: Digest) -> str:
        return os.path.join(self._blobs, digest.algorithm, digest.hex[:2], digest.hex)

    def _repository(self, name: Name, *parts: str) -> str:
        return os.path.join(self._repositories, name, *parts)

    def _blob_link(self, name: Name, digest: Digest) -> str:
        return self._repository(name, "_blobs", digest.algorithm, digest.hex)

    def _manifest_link(self, name: Name, digest: Digest) -> str:
        return self._repository(name, "_manifests", digest.algorithm, digest.hex)

    def _tag_file(self, name: Name, tag: Tag) -> str:
        return self._repository(name, "_tags", tag)

    def _has_blob(self, name: Name, digest: Digest) -> bool:
        return os.path.exists(self._blob_link(name, digest))

    def _has_manifest(self, name: Name, digest: Digest) -> bool:
        return os.path.exists(self._manifest_link(name, digest))

    def _tagged(self, name: Name, tag: Tag) -> Digest | None:
        text = _read(self._tag_file(name, tag))
        return None if text is None else Digest.parse(text.decode())

    def _write(self, path: str, data: bytes) -> None:
        new = os.path.join(self._incoming, uuid.uuid4().hex)
        with open(new, "xb") as file:
            file.write(data)
        _move(new, path)


def _lock(path: str) -> int:
    """A file descriptor that holds the lock. Raises BlockingIOError if another process does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _move(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.replace(source, target)


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    return True


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
