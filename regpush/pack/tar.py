"""Turns items into the bytes of a layer: a deterministic tar stream.

POSIX.1-1988 ustar, with PAX records (POSIX.1-2001) only for what ustar cannot express. Members are
sorted bytewise by path, every mtime is 1, names of owners are empty, and the archive ends with two
zero blocks. Equal entries give equal bytes on every machine; a change in these bytes needs a new
`RECIPE_VERSION`.
"""

from __future__ import annotations

import heapq
import os
import struct
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from enum import Enum
from functools import cache
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from regpush.closure import Identity, Item, Look, Recorded, Role
from regpush.digest import Digest
from regpush.entry import LOOK_AT, Entry, Kind, OnDisk, Profile, Streamed, as_text, image_path
from regpush.errors import SourceError, printable
from regpush.files.content_hash import ContentHash
from regpush.files.filesystem import GuardedFile, files_ahead, open_ahead, read_whole
from regpush.pack.page import ROOM, Filled, Page, padding
from regpush.pack.splice import SPLICED, Takes, splice
from regpush.tree_hash import TreeHash

if TYPE_CHECKING:
    from regpush.sources.nar import NarHash

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_FRAMED = struct.Struct("100s24s12s12s8sc100s88s155s12x")  # neighbours in one field, where cached
_USTAR = b"ustar\x0000"
_MTIME = 1
_MTIME_FIELD = b"%011o\0" % _MTIME
_MAGIC_AND_OWNERS = _USTAR + bytes(32 + 32 + 8 + 8)
_TYPE = {
    Kind.FILE: b"0", Kind.HARDLINK: b"1", Kind.SYMLINK: b"2", Kind.CHARACTER: b"3",
    Kind.BLOCK: b"4", Kind.DIRECTORY: b"5", Kind.FIFO: b"6",
}  # fmt: skip
_DEVICES = (Kind.CHARACTER, Kind.BLOCK)
_FILE, _DIRECTORY = Kind.FILE, Kind.DIRECTORY  # `Kind.FILE` takes as long as a call of a function
_END = bytes(2 * ROOM)


class Parents(Enum):
    """Whether a layer has entries for the directories above its items.

    OMITTED is for images with a base, whose own directories, or links in their place, must stay.
    """

    WRITTEN = "written"
    OMITTED = "omitted"


class ArchiveOptions(Struct, frozen=True, kw_only=True):
    """The options that decide, besides the items, the bytes of an archive; part of every recipe."""

    profile: Profile = Profile.STORE
    parents: Parents = Parents.WRITTEN

    def to_json(self) -> dict[str, Any]:
        """Return the options as they are hashed in a recipe's canonical JSON."""
        return {"profile": self.profile.value, "parents": self.parents.value}


class Archive:
    """The archive of some items, read once from beginning to end. Not thread-safe.

    `takes`: decides which files that are compressed already are copied without compressing them
    again; None: no file. After the last byte, `identities` has the identity of every item; an
    identity that was not known before is computed from the bytes read.
    """

    def __init__(
        self, items: Sequence[Item], options: ArchiveOptions, takes: Takes | None = None
    ) -> None:
        self._items = items
        self._trees: list[tuple[Item, TreeHash]] = []
        self._writing = _written(items, options, self._trees, takes)
        next(self._writing)

    def readinto(self, block: bytearray) -> Filled:
        """Fill `block`, unless the archive ends or compressed content begins or ends before.

        Must not be called after the last block. Raises SourceError, always before the last bytes,
        where an item cannot be read, differs from its identity or from its store's record, or
        shares a path with another; and any error that `Item.look` raises.
        """
        return self._writing.send(block)

    @property
    def identities(self) -> tuple[tuple[str, Identity], ...]:
        """The path and identity of each item; known only after the last byte was read."""
        found = {item.path: tree.digest() for item, tree in self._trees}
        return tuple(
            (item.path, item.identity or Identity.tree(found[item.path])) for item in self._items
        )


def _written(
    items: Sequence[Item],
    options: ArchiveOptions,
    trees: list[tuple[Item, TreeHash]],
    takes: Takes | None,
) -> Generator[Filled, bytearray, None]:
    """Write the archive; a generator that is sent blocks and yields how each was filled.

    Raises SourceError, always before the last bytes.
    """
    block = yield Filled(0)
    page = Page(block)
    last = Entry(path=b"", kind=_DIRECTORY, mode=0)
    batches = _opened_ahead(_members(items, options, trees))
    for (entry, tree, nar, look, twins), fd in chain.from_iterable(batches):
        path, kind, _, _, _, size, _, _, content = entry
        if path == last.path:
            both_folders = kind is last.kind is _DIRECTORY
            if twins is _Twins.REFUSED or (twins is _Twins.FOLDERS and not both_folders):
                if fd >= 0:
                    os.close(fd)
                raise SourceError(f"two items own the same path: /{printable(path)}")
            continue
        last = entry
        head = header(entry)
        if kind is not _FILE:
            yield from page.put(head)
            if tree:
                tree.add(entry)
            if nar:
                nar.add(path)
        elif isinstance(content, bytes):
            yield from page.put(head + content + padding(len(content)))
            if tree:
                tree.add(entry, ContentHash(content).digest())
            if nar:
                nar.add(path, content)
        elif isinstance(content, Streamed):
            yield from page.put(head)
            if takes and content.deflated and size >= SPLICED:
                yield from splice(page, content.deflated, size, takes)
            else:
                yield from _made(page, content, entry, tree)
            yield from page.put(padding(size))
        elif page.has_room(len(head) + size + ROOM):
            start, view = page.member(head, size)
            read_whole(entry, content, fd, view)
            if look:
                look(entry, page.block, start, start + min(size, LOOK_AT))
            if tree:
                tree.add(entry, ContentHash(view).digest())
            if nar:
                nar.add(path, view)
        else:
            digest = ContentHash() if tree else None
            archived = nar if nar and nar.begin(path) else None
            with GuardedFile(entry, content, fd) as file:
                yield from page.put(head)
                if look:
                    first = file.head()
                    look(entry, first, 0, len(first))
                while True:
                    if page.is_full:
                        yield from page.turn()
                    count = file.readinto(page.free)
                    if not count:
                        break
                    view = page.take(count)
                    if digest:
                        digest.update(view)
                    if archived:
                        archived.update(view)
                file.finish()
            if archived:
                archived.end()
            yield from page.put(padding(size))
            if tree and digest:
                tree.add(entry, digest.digest())
    for item, found in trees:
        if item.identity and found.digest() != item.identity.digest:
            raise SourceError(
                f"{printable(item.path)} changed while it was being pushed; "
                "push from a copy that holds still"
            )
    yield from page.put(_END)
    yield Filled(page.used, is_last=True)


def _made(
    page: Page, content: Streamed, entry: Entry, tree: TreeHash | None
) -> Generator[Filled, bytearray, None]:
    """Write the content of `entry`, in pieces. Raises SourceError for another size than stated."""
    left, digest = entry.size, ContentHash() if tree else None
    for piece in content.open():
        left -= len(piece)
        if digest:
            digest.update(piece)
        yield from page.put(piece)
    if left:
        raise SourceError(
            f"/{printable(entry.path)}: its source gave {entry.size - left} bytes, but stated "
            f"{entry.size}"
        )
    if tree and digest:
        tree.add(entry, digest.digest())


class _Twins(Enum):
    """What is done with a member whose path an earlier member of the archive has.

    REFUSED: it is an error. FOLDERS: a folder is written once, and anything else is an error.
    DROPPED: it is not written, because packages may contain files of each other.
    """

    REFUSED = "refused"
    FOLDERS = "folders"
    DROPPED = "dropped"


_Member = tuple[Entry, TreeHash | None, "NarHash | None", Look | None, _Twins]


def _members(
    items: Sequence[Item], options: ArchiveOptions, trees: list[tuple[Item, TreeHash]]
) -> Iterator[_Member]:
    """Yield every member of the archive, sorted by path.

    Of members with equal paths, the first is that of a listed item, else that of the package whose
    item has the greatest path: the order, like the archive, must depend on the items alone.
    """
    parents = _parents(items) if options.parents is Parents.WRITTEN else []
    trees.extend((item, _hash_of_parents(item)) for item in items if item.is_listed)
    opened = [_opened(item, tree, _Twins.REFUSED) for item, tree in trees]
    packages = [item for item in items if not item.is_listed and not item.in_store]
    packages.sort(key=lambda item: image_path(item.path), reverse=True)
    opened += [_opened(item, None, _Twins.DROPPED) for item in packages]
    above: Iterator[_Member] = ((parent, None, None, None, _Twins.FOLDERS) for parent in parents)
    return _merged([_store_items(items), *opened, above])


def _merged(streams: Sequence[Iterator[_Member]]) -> Iterator[_Member]:
    """Merge sorted streams of members; among equal paths, that of the earlier stream comes first.

    Like `heapq.merge`, for streams of which few overlap: a layer may hold hundreds of items, but
    nearly always the next member is of the same item.
    """
    heads = [
        (first[0].path, number, first, stream)
        for number, stream in enumerate(streams)
        if (first := next(stream, None))
    ]
    heads.sort(reverse=True)  # numbers differ, so nothing beyond them is compared
    begun: list[tuple[bytes, int, _Member, Iterator[_Member]]] = []
    while heads or begun:
        if heads and (not begun or heads[-1] < begun[0]):
            heapq.heappush(begun, heads.pop())
            continue
        _, number, member, stream = heapq.heappop(begun)
        yield member
        limits = [*begun[:1], *heads[-1:]]
        if not limits:
            yield from stream
            return
        limit_path, limit_number = min(limits)[:2]
        for member in stream:
            path = member[0].path
            if path > limit_path or (path == limit_path and number > limit_number):
                heapq.heappush(begun, (path, number, member, stream))
                break
            yield member


def _opened_ahead(members: Iterator[_Member]) -> Iterator[Iterator[tuple[_Member, int]]]:
    """Yield batches of members, each member with its file's descriptor, which the caller closes.

    The descriptor is -1 for a member that is no file on disk. The files of the next batch are
    opened, and the disk is asked for them, before those of a batch are read: from a cold disk small
    files are read twice as fast.
    """
    count = max(files_ahead() // 2, 1)
    here: Iterator[tuple[_Member, int]] = iter(())
    following = _open_batch(members, count)
    try:
        while following:
            here, following = iter(following), []
            following = _open_batch(members, count)
            yield here
    finally:
        _close(chain(here, following))


def _open_batch(members: Iterator[_Member], count: int) -> list[tuple[_Member, int]]:
    """Open the files of the next `count` members; fewer at the end."""
    batch: list[tuple[_Member, int]] = []
    try:
        for member in islice(members, count):
            content = member[0].content
            batch.append((member, open_ahead(content) if isinstance(content, OnDisk) else -1))
    except BaseException:
        _close(batch)
        raise
    return batch


def _close(batch: Iterable[tuple[_Member, int]]) -> None:
    for _, fd in batch:
        if fd >= 0:
            os.close(fd)


def _hash_of_parents(item: Item) -> TreeHash:
    tree = TreeHash()
    for parent in item.parents:
        tree.add(parent)
    return tree


def _store_items(items: Sequence[Item]) -> Iterator[_Member]:
    """Yield the members of all store items, sorted by path; one item is listed at a time.

    That suffices because the paths of two store items never interleave. Those of a directory's
    items may: a Python package is in several places.
    """
    stored = (item for item in items if item.in_store)
    for item in sorted(stored, key=lambda item: image_path(item.path)):
        if item.recorded:
            yield from _compared(item, item.recorded)
        else:
            yield from _opened(item, None, _Twins.FOLDERS)


def _opened(item: Item, tree: TreeHash | None, twins: _Twins) -> Iterator[_Member]:
    return zip(item.entries(), repeat(tree), repeat(None), repeat(item.look), repeat(twins))


def _compared(item: Item, recorded: Recorded) -> Iterator[_Member]:
    """Yield the members of an item whose files must have the hash that its store recorded.

    Raises SourceError with the last member's content where they have another hash.
    """
    entries = list(item.entries())
    as_stored = entries if recorded.entries is item.entries else list(recorded.entries())
    if as_stored is not entries and [one.path for one in as_stored] != [
        one.path for one in entries
    ]:
        raise SourceError(
            f"{printable(item.path)} changed while it was being pushed; "
            "push from a copy that holds still"
        )

    def compare(found: Digest) -> None:
        if found != recorded.nar_hash:
            raise SourceError(
                f"{printable(item.path)} is damaged: the hash of its files is {found}, its store "
                f"recorded {recorded.nar_hash}; repair it: {printable(recorded.repair)}"
            )

    from regpush.sources.nar import NarHash  # only items of a store have a recorded hash

    nar = NarHash(as_stored, image_path(item.path), compare)
    return zip(entries, repeat(None), repeat(nar), repeat(item.look), repeat(_Twins.FOLDERS))


def _parents(items: Sequence[Item]) -> list[Entry]:
    """Make entries of the directories above `items`.

    They have the mode and owner of the directory in the source; without one, 0755 and root.
    """
    known: dict[bytes, Entry] = {}
    for item in sorted(items, key=lambda item: item.role is Role.GENERATED):
        for parent in item.parents:
            known.setdefault(parent.path, parent)
    for item in items:
        path = image_path(item.path)
        while path := path.rpartition(b"/")[0]:
            known.setdefault(path, Entry(path=path, kind=Kind.DIRECTORY, mode=0o755))
    return sorted(known.values(), key=lambda entry: entry.path)


def header(entry: Entry) -> bytes:
    """Return the header block of `entry`, after a pax header where ustar cannot express it."""
    path, kind, mode, uid, gid, size, link, xattrs, _ = entry
    if kind in _DEVICES:
        return _device(entry)
    whole = path + b"/" if kind is _DIRECTORY else path
    plain = (
        whole.isascii()
        and link.isascii()
        and len(link) <= 100
        and uid < 8**7
        and gid < 8**7
        and size < 8**11
        and not xattrs
    )
    prefix, name = (b"", whole) if len(whole) <= 100 else _split(whole)
    if plain and len(name) <= 100:
        return _ustar(_TYPE[kind], mode, name, prefix, link, uid, gid, size)
    return _pax(entry, whole)


def _device(entry: Entry) -> bytes:
    """Return the header of a device: a FIFO's header with another type and the device's numbers."""
    head = header(entry._replace(kind=Kind.FIFO, link=b""))
    numbers = b"".join(b"%07o\0" % int(number) for number in entry.link.split(b":"))
    block = head[-ROOM:]
    block = block[:148] + b" " * 8 + _TYPE[entry.kind] + block[157:329] + numbers + block[345:]
    return head[:-ROOM] + block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Cut a long name at the first slash that leaves at most 155 and 100 bytes.

    Returns (prefix, name); without such a slash, an empty prefix and the whole name.
    """
    cut = name.find(b"/", max(len(name) - 101, 1))
    if 0 < cut <= 155 and cut + 1 < len(name):
        return name[:cut], name[cut + 1 :]
    return b"", name


def _ustar(
    kind: bytes, mode: int, name: bytes, prefix: bytes, link: bytes, uid: int, gid: int, size: int
) -> bytes:  # fmt: skip
    """Return a ustar header block; fields that most members share are made once and cached.

    `name`, `prefix` and `link` must be ASCII of 100, 155 and 100 bytes at most.
    """
    owned, total = _frame(kind, mode, uid, gid)
    digits = b"%011o" % size
    # The lower half of an Adler-32 is 1 and the sum of the bytes, modulo 65,521 (RFC 1950, section
    # 8.2); these 366 bytes of ASCII are less. `sum` would take ten times as long.
    total += (zlib.adler32(b"%b%b%b%b" % (name, digits, link, prefix)) & 0xFFFF) - 1
    return _FRAMED.pack(
        name, owned, digits, _MTIME_FIELD, b"%06o\0 " % total, kind, link, _MAGIC_AND_OWNERS, prefix
    )


@cache
def _frame(kind: bytes, mode: int, uid: int, gid: int) -> tuple[bytes, int]:
    """Return the fields of mode and owner, and the checksum of a header with no other fields."""
    block = _block(
        name=b"", mode=mode, uid=uid, gid=gid, size=0, mtime=_MTIME, kind=kind, link=b"",
        prefix=b"",
    )  # fmt: skip
    without_checksum = block[:148] + b" " * 8 + block[156:]
    return block[100:124], sum(without_checksum) - sum(b"%011o" % 0)


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
    """Return a pax extended header, followed by a ustar header with the fields that fit.

    POSIX.1-2001 pax, "pax Extended Header".
    """
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
    kind = _TYPE[entry.kind]
    main = _ustar(kind, entry.mode, _ascii(name), b"", _ascii(entry.link), uid, gid, size)
    return extended + records + padding(len(records)) + main


def _record(key: bytes, value: bytes) -> bytes:
    """Return a pax record, `length key=value` and a line feed.

    `length` counts its own digits too.
    """
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
    return as_text(text).encode("ascii", "replace")[:100]
