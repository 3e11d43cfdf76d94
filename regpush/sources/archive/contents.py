"""Check the entries of a tar archive of a root file system, and collect them into layers."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from regpush.closure import Identity, Item, Role
from regpush.entry import HEAD, LOOK_AT, Entry, Kind, Streamed, as_text
from regpush.errors import UsageError, printable
from regpush.files.content_hash import ContentHash
from regpush.files.filesystem import blocks
from regpush.files.untar import ArchiveEntry
from regpush.sources.archive.spool import Storage
from regpush.tree_hash import TreeHash

_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.CHRTYPE: Kind.CHARACTER,
    tarfile.BLKTYPE: Kind.BLOCK,
    tarfile.FIFOTYPE: Kind.FIFO,
}
_DEVICES = (Kind.CHARACTER, Kind.BLOCK)
_SMALL = (b"etc/passwd", b"etc/group")
"""Files whose content is kept in memory, `LOOK_AT` bytes at most, to look up the image's user."""
_MOST = 4_000_000
"""Maximum number of entries in an archive; each takes a few hundred bytes of memory."""


class Unpacked(Struct, frozen=True):
    """An entry that was read from the archive.

    `digest`: the `ContentHash` (32 bytes) of a file's content, empty for other kinds. `start`: the
    first bytes of an executable file, 4 KiB at most, else empty. `file`: a number that all hard
    links of one file share, 0 for other kinds. `storage`: where the file's content is kept.
    """

    entry: Entry
    digest: bytes = b""
    start: bytes = b""
    file: int = 0
    storage: Storage | None = None


class PathsSoFar:
    """The entries of an archive that were read so far (`members`, by image path).

    They are remembered because later entries may be hard links to them. `name`: the archive's path,
    for errors. `check`: called with each file and its first bytes; raises UsageError to end the
    push.
    """

    def __init__(self, name: str, check: Callable[[Entry, bytes], None]) -> None:
        self._name = name
        self._check = check
        self.members: dict[bytes, Unpacked] = {}
        self._files: list[Unpacked] = []

    def refuse(self, path: bytes, why: str) -> UsageError:
        """Return the UsageError for the entry at `path`; `why` completes the sentence "PATH …"."""
        return UsageError(f"{printable(self._name)}: {printable(path)} {why}")

    def path_of(self, whole: ArchiveEntry) -> bytes:
        """Return the image path of an entry, without outer slashes; empty for the root directory.

        Raises UsageError for an entry that an image cannot contain, or that contradicts an earlier
        one.
        """
        path = self._path(whole.name, whole.name)
        if any(name.startswith(b".wh.") for name in path.split(b"/")):
            raise self.refuse(
                path,
                "has a name that begins with .wh., by which a layer deletes files: leave it out",
            )
        if whole.is_sparse:
            raise self.refuse(path, "is a sparse file: make the archive without --sparse")
        if whole.type != tarfile.LNKTYPE and whole.type not in _KINDS:
            raise self.refuse(
                path,
                "is not a file, directory, link, device or FIFO, and an image cannot contain it: "
                "leave it out",
            )
        if len(self.members) >= _MOST:
            raise self.refuse(
                path, f"is entry number {_MOST + 1}: an archive may have {_MOST} at most"
            )
        above = path
        while above := above.rpartition(b"/")[0]:
            parent = self.members.get(above)
            if parent and parent.entry.kind is not Kind.DIRECTORY:
                raise self.refuse(
                    path, f"is in {printable(above)}, which is not a directory in the archive"
                )
        before = self.members.get(path)
        if before and (before.entry.kind is Kind.DIRECTORY) != (whole.type == tarfile.DIRTYPE):
            raise self.refuse(
                path, "occurs twice in the archive, as a directory and as another kind of entry"
            )
        return path

    def _path(self, name: bytes, shown: bytes) -> bytes:
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in parts or b"\0" in name:
            raise self.refuse(
                shown, "has a '..' or a zero byte in its path or link target: leave it out"
            )
        return b"/".join(parts)

    def take(
        self, path: bytes, whole: ArchiveEntry, data: Iterator[bytes], storage: Storage
    ) -> Unpacked:
        """Read an entry, whose content `data` is stored in `storage`, and add it to `members`.

        `path`: its image path; `whole`: its header in the archive. Raises UsageError for an entry
        that an image cannot have, such as a hard link to a later file.
        """
        if whole.type == tarfile.LNKTYPE:
            member = self._linked(path, whole, storage)
        else:
            kind = _KINDS[whole.type]
            link = whole.link if kind is Kind.SYMLINK else b""
            if kind in _DEVICES:
                link = b"%d:%d" % whole.device
            entry = Entry(
                path=path,
                kind=kind,
                mode=0o777 if kind is Kind.SYMLINK else whole.mode,
                uid=whole.uid,
                gid=whole.gid,
                size=whole.size if kind is Kind.FILE else 0,
                link=link,
                xattrs=whole.xattrs,
            )
            member = (
                self._read(entry, whole.at, data, storage) if kind is Kind.FILE else Unpacked(entry)
            )
        self.members[path] = member
        return member

    def _linked(self, path: bytes, whole: ArchiveEntry, storage: Storage) -> Unpacked:
        """Resolve the hard link at `path`: return the file that it links to, with the path `path`.

        Where the file's content is in the storage of another layer, it is copied into `storage`.
        Raises UsageError where the link's target is not an earlier file.
        """
        target = self._path(whole.link, path)
        first = self.members.get(target)
        if first is None or first.entry.kind is Kind.DIRECTORY:
            raise self.refuse(
                path,
                f"is a hard link to {printable(target)}, which is not a file before it in the "
                "archive",
            )
        if not first.file:
            return replace(first, entry=first.entry._replace(path=path))
        file = self._files[first.file - 1]
        if file.storage is not storage:
            file = self._copied(file, path, target, storage)
        return replace(file, entry=file.entry._replace(path=path))

    def _copied(self, file: Unpacked, path: bytes, target: bytes, storage: Storage) -> Unpacked:
        """Copy the content of `file` into `storage`; return `file` with the copy.

        Raises UsageError where the content was already deleted, after its layer was sent.
        """
        if file.storage and file.storage.is_deleted:
            raise self.refuse(
                path,
                f"is a hard link to {printable(target)}, whose layer was already sent and deleted: "
                "write the archive to an uncompressed file, and push that file",
            )
        place, passing = storage.store(0, map(bytes, blocks(file.entry)))
        for _ in passing:
            pass
        content = Streamed(partial(storage.read, place, file.entry.size))
        copy = replace(file, entry=file.entry._replace(content=content), storage=storage)
        self._files[file.file - 1] = copy
        return copy

    def _read(self, entry: Entry, at: int, data: Iterator[bytes], storage: Storage) -> Unpacked:
        place, passing = storage.store(at, data)
        digest, start = ContentHash(), bytearray()
        for piece in passing:
            digest.update(piece)
            if len(start) < LOOK_AT:
                start += piece[: LOOK_AT - len(start)]
        self._check(entry, bytes(start))
        in_memory = entry.path in _SMALL and entry.size <= LOOK_AT  # `start` is the whole file
        content = bytes(start) if in_memory else Streamed(partial(storage.read, place, entry.size))
        kept = bytes(start[:HEAD]) if entry.mode & 0o111 else b""
        # 4 KiB of each program are kept, for the ELF header or the `#!` line: more would take much
        # memory, because an archive may have thousands of programs.
        entry = entry._replace(content=content)
        number = len(self._files) + 1
        self._files.append(Unpacked(entry, digest.digest(), kept[:4096], number, storage))
        return self._files[-1]


class LayerSoFar:
    """The entries of the layer that is being collected; `storage` stores their contents."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._members: dict[bytes, Unpacked] = {}
        self._first = b""
        self._size = 0

    def __contains__(self, path: bytes) -> bool:
        return path in self._members

    def add(self, member: Unpacked) -> None:
        """Add an entry; its path must not be in the layer yet."""
        self._first = self._first or member.entry.path
        self._members[member.entry.path] = member
        self._size += member.entry.size

    def item(self, contents: PathsSoFar, path: str, below: str | None) -> Item:
        """Return the layer as an item with the path `path`.

        `contents`: all entries read so far, for the folders above the layer's entries. `below`: the
        path of the item of the next lower layer, None for the lowest.
        """
        members = self._as_files()
        entries = tuple(member.entry for member in members)
        parents = _parents([entry.path for entry in entries], contents)
        tree = TreeHash()
        for parent in parents:
            tree.add(parent)
        for member in members:
            tree.add(member.entry, member.digest if member.entry.kind is Kind.FILE else b"")
        name = _name(entries)
        return Item(
            path=path,
            name=name,
            origin=name,
            identity=Identity.tree(tree.digest()),
            size=self._size,
            entries=lambda: iter(entries),
            references=(below,) if below else (),
            parents=parents,
            role=Role.OWN,
            folder="/",
        )

    @property
    def first(self) -> bytes:
        """The path of the entry that was added first."""
        return self._first

    def _as_files(self) -> list[Unpacked]:
        """Return the entries sorted by path; all names of a file but the first become hard links.

        Names in other layers do not count: container engines unpack each layer by itself, so a hard
        link must lead to a file of its own layer.
        """
        names: dict[int, bytes] = {}
        found = []
        for path, member in sorted(self._members.items()):
            first = names.setdefault(member.file, path) if member.file else path
            if first != path:
                entry = member.entry._replace(kind=Kind.HARDLINK, link=first, size=0, content=b"")
                member = Unpacked(entry)
            found.append(member)
        return found


def _parents(paths: list[bytes], contents: PathsSoFar) -> tuple[Entry, ...]:
    """Return an entry for each folder above `paths` that is not itself in `paths`, sorted.

    A folder that did not occur in the archive so far gets mode 0755.
    """
    own, above = set(paths), set()
    for path in paths:
        while (path := path.rpartition(b"/")[0]) and path not in above:
            above.add(path)
    return tuple(
        contents.members[path].entry
        if path in contents.members
        else Entry(path=path, kind=Kind.DIRECTORY, mode=0o755)
        for path in sorted(above - own)
    )


def _name(entries: tuple[Entry, ...]) -> str:
    """Return a name for a layer: the deepest folder or file with more than half of its bytes."""
    folder = b""
    while True:
        sizes: dict[bytes, int] = {}
        for entry in entries:
            if entry.path.startswith(folder):
                end = entry.path.find(b"/", len(folder))
                top = entry.path if end < 0 else entry.path[: end + 1]
                sizes[top] = sizes.get(top, 0) + entry.size + 1
        largest = max(sizes, key=lambda top: (sizes[top], top), default=folder)
        if 2 * sizes.get(largest, 0) <= sum(sizes.values()) or not largest.endswith(b"/"):
            chosen = folder or largest
            return as_text(chosen.rstrip(b"/"))
        folder = largest
