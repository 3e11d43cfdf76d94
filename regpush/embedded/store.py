"""Blobs, manifests and tags on disk; no HTTP.

    blobs/ALGORITHM/HE/HEX                      contents, of manifests too, once for all
    repositories/NAME/_blobs/ALGORITHM-HEX      the repository has this blob
    repositories/NAME/_manifests/ALGORITHM-HEX  the repository has this manifest: its media type
    repositories/NAME/_tags/TAG                 the digest tagged
    repositories/NAME/_referrers/SUBJECT/DIGEST a manifest whose subject is that other one
    scratch/                                    unfinished files, gone at the next start
    lock                                        held by the one server of this directory

No component of a repository name begins with `_`, so names and markers never meet.
Files appear whole, by renaming; they are not forced to disk, as a development registry
need not outlive a power failure.
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
from dataclasses import dataclass
from pathlib import Path

from regpush.digest import Digest
from regpush.embedded.manifests import References
from regpush.embedded.names import RepositoryName, Tag
from regpush.errors import UsageError, VerificationError

_BLOBS, _MANIFESTS, _TAGS, _REFERRERS = "_blobs", "_manifests", "_tags", "_referrers"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredManifest:
    """The bytes of a manifest, exactly as they were pushed."""

    digest: Digest
    media_type: str
    content: bytes


class ContentStore:
    """The content of a registry in one directory. Thread-safe."""

    def __init__(self, directory: Path, max_size: int | None = None) -> None:
        """Open `directory`, creating it, for contents of `max_size` bytes at most.

        Raises UsageError where it is in use or not writable.
        """
        self.directory = directory
        self._contents = directory / "blobs"
        self._repositories = directory / "repositories"
        self._scratch = directory / "scratch"
        # Held while existing files decide what is written or removed.
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
        """Unlock the directory for another server."""
        self._lock_file.close()

    def grow(self, size: int) -> None:
        """Count `size` bytes that will be written. Raises OSError where the store would be full."""
        with self._counting:
            if self._max_size is not None and self._size + size > self._max_size:
                reason = f"it holds {self._size} bytes, and at most {self._max_size} (--max-size)"
                raise OSError(errno.ENOSPC, reason)
            self._size += size

    def shrink(self, size: int) -> None:
        """Count `size` bytes that were removed."""
        with self._counting:
            self._size -= size

    def new_file(self) -> Path:
        """Return an unused path for an unfinished file."""
        return self._scratch / uuid.uuid4().hex

    # Blobs

    def add_blob(self, repository: RepositoryName, file: Path, sha256: str, digest: Digest) -> None:
        """Move `file`, whose sha256 in hex is given, into `repository` as the blob `digest`.

        Raises VerificationError, and leaves `file`, where its content has another digest.
        """
        if digest.algorithm == "sha256":
            actual = sha256
        else:
            with file.open("rb") as stream:
                actual = hashlib.file_digest(stream, digest.algorithm).hexdigest()
        if actual != digest.hex:
            raise VerificationError(f"the content is {digest.algorithm}:{actual}, not {digest}")
        with self._changing:
            content = self._content(digest)
            content.parent.mkdir(parents=True, exist_ok=True)
            before = _size(content)
            os.replace(file, content)
            self.shrink(before)  # the same bytes, now once
            self._write(self._marker(repository, _BLOBS, digest), b"")

    def blob(self, repository: RepositoryName, digest: Digest) -> Path | None:
        """Return the file of a blob in `repository`; None where the repository lacks it."""
        return self._content(digest) if self._marker(repository, _BLOBS, digest).exists() else None

    def mount(self, repository: RepositoryName, digest: Digest, source: RepositoryName) -> bool:
        """Add a blob of `source` to `repository`. Returns whether `source` has it."""
        with self._changing:
            if self.blob(source, digest) is None:
                return False
            self._write(self._marker(repository, _BLOBS, digest), b"")
            return True

    def delete_blob(self, repository: RepositoryName, digest: Digest) -> bool:
        """Remove a blob from `repository`; returns whether the repository had it."""
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
        """Store `manifest`, and point `tag` to it if one is given.

        Returns what `repository` lacks of `references`; if it lacks anything, nothing is stored.
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
        """Return the manifests whose subject is `subject`, sorted by digest.

        Deleted manifests are left out.
        """
        folder = self._marker(repository, _REFERRERS, subject)
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        digests = [Digest.parse(name.replace("-", ":", 1)) for name in names]
        found = (self.manifest(repository, digest) for digest in digests)
        return [manifest for manifest in found if manifest]

    def manifest(self, repository: RepositoryName, target: Tag | Digest) -> StoredManifest | None:
        """Return the manifest in `repository` with the tag or digest `target`; None if missing."""
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
        """Delete a tag alone, or a manifest and all its tags; returns whether it existed."""
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
        """Return the tags of `repository`, sorted; None where no manifest was ever pushed to it."""
        folder = self._folder(repository)
        if not (folder / _MANIFESTS).is_dir():
            return None
        with suppress(FileNotFoundError):
            return sorted(os.listdir(folder / _TAGS))
        return []

    def repositories(self) -> list[str]:
        """Return the repositories to which a manifest was ever pushed, sorted."""
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
    """Return the bytes of all files below `folder`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
