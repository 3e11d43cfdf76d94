"""Items to the bytes of a layer: a deterministic tar stream, cut into blocks of 1 MiB.

POSIX.1-1988 ustar, with PAX records (POSIX.1-2001) only for what ustar cannot say. Members
are sorted bytewise by path, every mtime is 1, names of owners are empty, and the archive ends
with two zero blocks. The same entries give the same bytes on every machine; a change in
these bytes needs a new `RECIPE_VERSION`.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from regpush.closure import Item, Role, Scheme
from regpush.entry import Entry, Kind, OnDisk, Profile, TreeHash
from regpush.errors import SourceError, printable
from regpush.filesystem import GuardedFile

BLOCK = 1 << 20
"""Bytes in each block of the stream but the last: what the compressors' determinism rests on."""

RECIPE_VERSION = 1
"""Stands in every recipe; raised whenever the same items would give other bytes."""

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_USTAR = b"ustar\x0000"
_ROOM = 512
_MTIME = 1
_TYPE = {Kind.FILE: b"0", Kind.HARDLINK: b"1", Kind.SYMLINK: b"2", Kind.DIRECTORY: b"5"}
_ZEROS = bytes(_ROOM)
_END = bytes(2 * _ROOM)


class Parents(Enum):
    """Whether a layer says what the directories above its items are.

    OMITTED is for images with a base, whose own directories, or links, must stay.
    """

    WRITTEN = "written"
    OMITTED = "omitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOptions:
    """What, besides the items, decides the bytes of an archive; part of every recipe."""

    profile: Profile = Profile.STORE
    parents: Parents = Parents.WRITTEN

    def to_json(self) -> dict[str, Any]:
        """For the canonical JSON of a recipe."""
        return {"profile": self.profile.value, "parents": self.parents.value}


def pack(items: Sequence[Item], options: ArchiveOptions) -> Iterator[memoryview]:
    """The archive of `items`, in blocks of exactly 1 MiB but the last.

    A block is valid until the next is asked for: its memory is used again. Raises SourceError,
    always before the last block, where an item cannot be read, is no longer what its identity
    says, or shares a path with another.
    """
    writer = _Writer()
    hashes: list[tuple[Item, TreeHash]] = []
    last = Entry(path=b"", kind=Kind.DIRECTORY, mode=0)
    for entry, tree in _members(items, options, hashes):
        if entry.path == last.path:
            # A parent that an item of this layer holds itself; any other twin is a conflict.
            if tree or entry.kind is not Kind.DIRECTORY or last.kind is not Kind.DIRECTORY:
                raise SourceError(f"two items own the same path: /{printable(entry.path)}")
            continue
        last = entry
        yield from writer.put(header(entry))
        content = entry.content
        if entry.kind is not Kind.FILE:
            if tree:
                tree.add(entry)
            continue
        digest = hashlib.sha256() if tree else None
        if isinstance(content, OnDisk):
            with GuardedFile(entry, content) as file:
                while count := file.readinto(writer.free()):
                    if digest:
                        digest.update(writer.free()[:count])
                    yield from writer.advance(count)
                file.finish()
        else:
            if digest:
                digest.update(content)
            yield from writer.put(content)
        yield from writer.pad(entry.size)
        if tree and digest:
            tree.add(entry, digest.digest())
    for item, tree in hashes:
        if item.identity and tree.digest() != item.identity.digest:
            raise SourceError(
                f"{printable(item.path)} changed while it was being pushed; "
                "push from a copy that holds still"
            )
    yield from writer.put(_END)
    yield from writer.rest()


class _Writer:
    """One block of memory that fills up, is handed out, and fills up again."""

    def __init__(self) -> None:
        self._block = memoryview(bytearray(BLOCK))
        self._used = 0

    def free(self) -> memoryview:
        """What is left of the block; never empty."""
        return self._block[self._used :]

    def advance(self, count: int) -> Iterator[memoryview]:
        """Count `count` bytes of `free` as written; hand out the block if it is full."""
        self._used += count
        if self._used == BLOCK:
            self._used = 0
            yield self._block

    def put(self, data: bytes) -> Iterator[memoryview]:
        end = self._used + len(data)
        if end < BLOCK:
            self._block[self._used : end] = data
            self._used = end
            return
        view = memoryview(data)
        while view:
            free = self.free()
            part = view[: len(free)]
            free[: len(part)] = part
            view = view[len(part) :]
            yield from self.advance(len(part))

    def pad(self, size: int) -> Iterator[memoryview]:
        """Zeros up to the next record of 512 bytes after `size` bytes of content."""
        return self.put(_ZEROS[: -size % _ROOM])

    def rest(self) -> Iterator[memoryview]:
        if self._used:
            yield self._block[: self._used]


_Member = tuple[Entry, TreeHash | None]


def _members(
    items: Sequence[Item], options: ArchiveOptions, hashes: list[tuple[Item, TreeHash]]
) -> Iterator[_Member]:
    """Everything the archive holds, sorted; of equal paths the item's own comes first."""
    parents = _parents(items) if options.parents is Parents.WRITTEN else []
    hashes.extend(
        (item, _hash_of_parents(item)) for item in items if item.scheme is Scheme.TREE
    )
    trees = {item.path: tree for item, tree in hashes}
    opened = [_opened(item, trees[item.path]) for item in items if item.path in trees]
    above: Iterator[_Member] = ((parent, None) for parent in parents)
    # Stable: of members that compare equal, the earlier iterable's comes first.
    return heapq.merge(_store_items(items), *opened, above, key=_sort_key)


def _hash_of_parents(item: Item) -> TreeHash:
    tree = TreeHash()
    for parent in item.parents:
        tree.add(parent)
    return tree


def _store_items(items: Sequence[Item]) -> Iterator[_Member]:
    """The members of all store items, opened one at a time: theirs never interleave.

    Items of a directory may: a Python package lies in several places.
    """
    stored = (item for item in items if item.scheme is Scheme.NAR)
    for item in sorted(stored, key=lambda item: _image_path(item.path)):
        yield from _opened(item, None)


def _opened(item: Item, tree: TreeHash | None) -> Iterator[_Member]:
    return ((entry, tree) for entry in item.entries())


def _sort_key(member: _Member) -> bytes:
    return member[0].path


def _parents(items: Sequence[Item]) -> list[Entry]:
    """The directories above `items`: as the source has them, else 0755 and root's."""
    known: dict[bytes, Entry] = {}
    for item in sorted(items, key=lambda item: item.role is Role.GENERATED):
        for parent in item.parents:
            known.setdefault(parent.path, parent)
    for item in items:
        path = _image_path(item.path)
        while path := path.rpartition(b"/")[0]:
            known.setdefault(path, Entry(path=path, kind=Kind.DIRECTORY, mode=0o755))
    return sorted(known.values(), key=lambda entry: entry.path)


def _image_path(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape").strip(b"/")


def header(entry: Entry) -> bytes:
    """The header block of `entry`, preceded by a PAX header where ustar cannot hold it."""
    name = entry.path + b"/" if entry.kind is Kind.DIRECTORY else entry.path
    prefix = b""
    plain = (
        name.isascii()
        and entry.link.isascii()
        and len(entry.link) <= 100
        and entry.uid < 8**7
        and entry.gid < 8**7
        and entry.size < 8**11
        and not entry.xattrs
    )
    if plain and len(name) > 100:
        prefix, name = _split(name)
        plain = bool(prefix)
    if plain:
        return _ustar(
            entry, name, prefix, entry.link, uid=entry.uid, gid=entry.gid, size=entry.size
        )
    return _pax(entry, entry.path + b"/" if entry.kind is Kind.DIRECTORY else entry.path)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Cut a long name at the first slash that leaves at most 155 and 100 bytes, or not at all."""
    cut = name.find(b"/", 1)
    while 0 < cut <= 155:
        if len(name) - cut - 1 <= 100 and cut + 1 < len(name):
            return name[:cut], name[cut + 1 :]
        cut = name.find(b"/", cut + 1)
    return b"", name


def _ustar(
    entry: Entry, name: bytes, prefix: bytes, link: bytes, *, uid: int, gid: int, size: int
) -> bytes:
    return _block(
        name=name, mode=entry.mode, uid=uid, gid=gid, size=size, mtime=_MTIME,
        kind=_TYPE[entry.kind], link=link, prefix=prefix,
    )  # fmt: skip


def _block(
    *, name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, kind: bytes,
    link: bytes, prefix: bytes,
) -> bytes:  # fmt: skip
    block = _HEADER.pack(
        name, b"%07o" % mode, b"%07o" % uid, b"%07o" % gid, b"%011o" % size, b"%011o" % mtime,
        b"        ", kind, link, _USTAR, b"", b"", b"", b"", prefix,
    )  # fmt: skip
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _pax(entry: Entry, name: bytes) -> bytes:
    """POSIX.1-2001 pax, "pax Extended Header": records, then a ustar header as far as it goes."""
    fields = {b"SCHILY.xattr." + key: value for key, value in entry.xattrs}
    texts = {b"path": name, b"linkpath": entry.link}
    fields |= {k: text for k, text in texts.items() if len(text) > 100 or not text.isascii()}
    uid, gid, size = entry.uid, entry.gid, entry.size
    if uid >= 8**7:
        fields[b"uid"], uid = b"%d" % uid, 0
    if gid >= 8**7:
        fields[b"gid"], gid = b"%d" % gid, 0
    if size >= 8**11:
        fields[b"size"], size = b"%d" % size, 0
    records = b"".join(_record(key, value) for key, value in fields.items())
    if not all(_is_utf8(text) for text in texts.values()):
        records = _record(b"hdrcharset", b"BINARY") + records
    extended = _block(
        name=b"././@PaxHeader", mode=0, uid=0, gid=0, size=len(records), mtime=0, kind=b"x",
        link=b"", prefix=b"",
    )  # fmt: skip
    padding = _ZEROS[: -len(records) % _ROOM]
    main = _ustar(entry, _ascii(name), b"", _ascii(entry.link), uid=uid, gid=gid, size=size)
    return extended + records + padding + main


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value` and a line feed, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ascii(text: bytes) -> bytes:
    return text.decode("utf-8", "surrogateescape").encode("ascii", "replace")[:100]
