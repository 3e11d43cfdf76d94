"""The blobs, manifests and tags of the embedded registry, as files in one directory.

    blobs/ALGORITHM/HE/HEX                      bytes of blobs and manifests, for all repositories
    repositories/NAME/_blobs/ALGORITHM-HEX      the repository has this blob
    repositories/NAME/_manifests/ALGORITHM-HEX  the repository has this manifest; holds its media
                                                type
    repositories/NAME/_tags/TAG                 holds the digest that the tag names
    repositories/NAME/_referrers/SUBJECT/DIGEST the manifest DIGEST has the subject SUBJECT
    scratch/                                    unfinished files, deleted at the next start
    lock                                        locked by the server that uses this directory

No component of a repository name begins with `_`, so a repository never has the path of such a
file. Files are written in `scratch/` and renamed, so that no file is ever incomplete. They are not
forced to disk: a development registry need not survive a power failure.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from regpush.digest import Digest
from regpush.embedded.manifests import References
from regpush.embedded.names import RepositoryName, Tag
from regpush.errors import UsageError, VerificationError

_BLOBS, _MANIFESTS, _TAGS, _REFERRERS = "_blobs", "_manifests", "_tags", "_referrers"


class StoredManifest(Struct, frozen=True, kw_only=True):
    """A manifest or index; `content`: its bytes, exactly as they were pushed."""

    digest: Digest
    media_type: str
    content: bytes


class ContentStore:
    """The blobs, manifests and tags of a registry, in one directory. Thread-safe."""

    def __init__(self, directory: Path, max_size: int | None = None) -> None:
        """Open `directory`, and create it if it is missing.

        `max_size`: maximum bytes of all blobs and manifests together; None for no limit. Raises
        UsageError if the directory is used by another server or not writable.
        """
        self.directory = directory
        self._contents = directory / "blobs"
        self._repositories = directory / "repositories"
        self._scratch = directory / "scratch"
        # Held by each change that depends on which files exist.
        self._changing = threading.Lock()
        try:
            for folder in (self._contents, self._repositories, self._scratch):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = (directory / "lock").open("wb")
        except OSError as error:
            raise UsageError(
                f"cannot keep a registry in {directory}: {error.strerror}; choose another --dir"
            ) from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock_file.close()
            raise UsageError(
                f"another registry is serving {directory}; stop it or choose another --dir"
            ) from error
        shutil.rmtree(self._scratch)
        self._scratch.mkdir()
        self._max_size = max_size
        self._counting = threading.Lock()
        self._size = _size_of(self._contents) if max_size is not None else 0

    def close(self) -> None:
        """Unlock the directory, so that another server can use it."""
        self._lock_file.close()

    def grow(self, size: int) -> None:
        """Reserve `size` bytes that are about to be written.

        Raises OSError (ENOSPC) if the store would hold more than its maximum size.
        """
        with self._counting:
            if self._max_size is not None and self._size + size > self._max_size:
                reason = f"{self._size} of at most {self._max_size} bytes (--max-size) are in use"
                raise OSError(errno.ENOSPC, reason)
            self._size += size

    def shrink(self, size: int) -> None:
        """Release `size` bytes that `grow` reserved."""
        with self._counting:
            self._size -= size

    def new_file(self) -> Path:
        """Return an unused path in `scratch/`. Creates no file."""
        return self._scratch / uuid.uuid4().hex

    # Blobs

    def add_blob(self, repository: RepositoryName, file: Path, sha256: str, digest: Digest) -> None:
        """Move `file` into the store as the blob `digest` of `repository`.

        `sha256`: hex digits of the file's SHA-256. Raises VerificationError if the content of
        `file` has another digest than `digest`; the file is not moved then.
        """
        if digest.algorithm == "sha256":
            actual = sha256
        else:
            with file.open("rb") as stream:
                actual = hashlib.file_digest(stream, digest.algorithm).hexdigest()
        if actual != digest.hex:
            raise VerificationError(
                f"the content has the digest {digest.algorithm}:{actual}, not {digest}"
            )
        with self._changing:
            content = self._content(digest)
            content.parent.mkdir(parents=True, exist_ok=True)
            before = _size(content)
            os.replace(file, content)
            self.shrink(before)  # the blob was stored before: its bytes were counted twice
            self._write(self._marker(repository, _BLOBS, digest), b"")

    def blob(self, repository: RepositoryName, digest: Digest) -> Path | None:
        """Return the path of the blob's file; None if `repository` lacks the blob."""
        return self._content(digest) if self._marker(repository, _BLOBS, digest).exists() else None

    def mount(self, repository: RepositoryName, digest: Digest, source: RepositoryName) -> bool:
        """Add a blob of the repository `source` to `repository`; False if `source` lacks it."""
        with self._changing:
            if self.blob(source, digest) is None:
                return False
            self._write(self._marker(repository, _BLOBS, digest), b"")
            return True

    def delete_blob(self, repository: RepositoryName, digest: Digest) -> bool:
        """Remove a blob from `repository`; False if the repository lacked it."""
        with self._changing:
            return self._remove(repository, _BLOBS, digest)

    # Manifests and tags

    def add_manifest(
        self,
        repository: RepositoryName,
        manifest: StoredManifest,
        references: References,
        tag: Tag | None,
    ) -> tuple[Digest, ...]:
        """Store `manifest` in `repository`, and point `tag` to it unless `tag` is None.

        Returns the digests in `references` that `repository` lacks, the subject aside. If any is
        missing, nothing is stored.
        """
        with self._changing:
            needed = [(_BLOBS, digest) for digest in references.blobs]
            needed += [(_MANIFESTS, digest) for digest in references.children]
            missing = tuple(
                digest
                for kind, digest in needed
                if not self._marker(repository, kind, digest).exists()
            )
            if missing:
                return missing
            if not self._content(manifest.digest).exists():
                self.grow(len(manifest.content))
            self._write(self._content(manifest.digest), manifest.content)
            self._write(
                self._marker(repository, _MANIFESTS, manifest.digest), manifest.media_type.encode()
            )
            if tag is not None:
                self._write(self._folder(repository) / _TAGS / tag, str(manifest.digest).encode())
            if references.subject is not None:
                folder = self._marker(repository, _REFERRERS, references.subject)
                self._write(folder / f"{manifest.digest.algorithm}-{manifest.digest.hex}", b"")
            return ()

    def referrers(self, repository: RepositoryName, subject: Digest) -> list[StoredManifest]:
        """Return the manifests in `repository` whose subject is `subject`, sorted by digest."""
        folder = self._marker(repository, _REFERRERS, subject)
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        digests = [Digest.parse(name.replace("-", ":", 1)) for name in names]
        found = (self.manifest(repository, digest) for digest in digests)
        return [manifest for manifest in found if manifest]

    def manifest(self, repository: RepositoryName, target: Tag | Digest) -> StoredManifest | None:
        """Return the manifest with the tag or digest `target`; None if `repository` lacks it."""
        with self._changing:
            try:
                digest = target
                if not isinstance(digest, Digest):
                    tagged = (self._folder(repository) / _TAGS / digest).read_text()
                    digest = Digest.parse(tagged)
                return StoredManifest(
                    digest=digest,
                    media_type=self._marker(repository, _MANIFESTS, digest).read_text(),
                    content=self._content(digest).read_bytes(),
                )
            except FileNotFoundError:
                return None

    def delete_manifest(self, repository: RepositoryName, target: Tag | Digest) -> bool:
        """Delete the tag `target`, or the manifest with the digest `target` and all its tags.

        Returns False if `repository` has no such tag or manifest.
        """
        with self._changing:
            tags = self._folder(repository) / _TAGS
            if not isinstance(target, Digest):
                try:
                    (tags / target).unlink()
                except FileNotFoundError:
                    return False
                return True
            found = self._remove(repository, _MANIFESTS, target)
            for tag in tags.iterdir() if found and tags.is_dir() else ():
                if tag.read_text() == str(target):
                    tag.unlink()
            return found

    def tags(self, repository: RepositoryName) -> list[str] | None:
        """Return the tags of `repository`, sorted; None if no manifest was ever pushed to it."""
        folder = self._folder(repository)
        if not (folder / _MANIFESTS).is_dir():
            return None
        with suppress(FileNotFoundError):
            return sorted(os.listdir(folder / _TAGS))
        return []

    def repositories(self) -> list[str]:
        """Return the names of the repositories to which a manifest was ever pushed, sorted."""
        return sorted(
            str(folder.relative_to(self._repositories))
            for folder in self._folders()
            if (folder / _MANIFESTS).is_dir()
        )

    def _folders(self) -> Iterator[Path]:
        for path, names, _ in os.walk(self._repositories):
            if any(name.startswith("_") for name in names):
                yield Path(path)
            names[:] = [name for name in names if not name.startswith("_")]

    def _folder(self, repository: RepositoryName) -> Path:
        return self._repositories / repository

    def _content(self, digest: Digest) -> Path:
        return self._contents / digest.algorithm / digest.hex[:2] / digest.hex

    def _marker(self, repository: RepositoryName, kind: str, digest: Digest) -> Path:
        return self._folder(repository) / kind / f"{digest.algorithm}-{digest.hex}"

    def _remove(self, repository: RepositoryName, kind: str, digest: Digest) -> bool:
        marker = self._marker(repository, kind, digest)
        try:
            marker.unlink()
        except FileNotFoundError:
            return False
        in_use = any(
            (folder / other / marker.name).exists()
            for folder in self._folders()
            for other in (_BLOBS, _MANIFESTS)
        )
        if not in_use:
            self.shrink(_size(self._content(digest)))
            self._content(digest).unlink()
        return True

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.new_file()
        unfinished.write_bytes(content)
        os.replace(unfinished, path)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _size_of(folder: Path) -> int:
    """Return the total size in bytes of all files below `folder`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
