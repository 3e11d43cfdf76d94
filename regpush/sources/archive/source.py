"""Turn an archive of a root file system into a closure: one item a layer, lowest first."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from regpush.closure import Closure, Inside, Item, Present, Programs
from regpush.concurrency import Cancellation
from regpush.entry import Entry, Kind, Profile, as_bytes, image_path
from regpush.errors import UsageError, VerificationError, printable
from regpush.files.decompression import gunzip, unzstd
from regpush.files.filesystem import unreadable
from regpush.files.gitignore import Patterns, parse
from regpush.files.untar import contents
from regpush.options import SourceOptions
from regpush.platform import Platform
from regpush.sources.archive.contents import LayerSoFar, PathsSoFar, Unpacked
from regpush.sources.archive.cutting import Cuts
from regpush.sources.archive.spool import Held, InFile, TemporaryHold
from regpush.sources.elf import HEADER, platform_of
from regpush.sources.file import GZIP, ZSTD, begins_as_archive
from regpush.sources.secrets import by_content, by_name
from regpush.sources.surroundings import Ship

STDIN = "-"
SPOOL = 256 << 20
"""Bytes of a stream that are kept at most; a single layer that has more is kept too."""

_PIECE = 1 << 20
_MAX_LINKS = 40
"""Links followed before giving up, as Linux does (path_resolution(7))."""


def resolve(
    path: str, options: SourceOptions, most_layers: int, ship: Ship, cancel: Cancellation
) -> tuple[str, Closure]:
    """Make the closure of the archive at `path`, which is read to its end.

    Returns the kind of the archive, for people, and the closure. `-` is standard input. Every item
    is a layer of its own. Where the spool is full, items are given to `ship` and cannot be opened
    afterwards. Raises UsageError for a file that is no root file system's archive, or contains what
    an image cannot, and SourceError for one that cannot be read.
    """
    _check(path, options)
    with _opened(path) as stream:
        try:
            return _read(stream, path, options, Cuts(most_layers), ship, cancel)
        except VerificationError as error:
            raise UsageError(f"{printable(path)} is not a complete archive: {error}") from error
        except OSError as error:
            raise unreadable(path, error) from error


def _check(path: str, options: SourceOptions) -> None:
    if path == STDIN and os.isatty(0):
        raise UsageError("'-' is an archive on standard input, and that is a terminal")
    if options.rules:
        raise UsageError(
            f"{options.rules[0]}: owners and modes are those of the archive; set them where it is "
            "made (tar --owner, --mode), or push its directory"
        )
    if options.root_dir not in ("/", SourceOptions().root_dir):
        raise UsageError(
            f"--root-dir: {printable(path)} is a root file system and lands at /; for something "
            "else, unpack it and push the directory"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenArchive:
    """An open archive, and its first 512 bytes.

    `in_place`: reads any place of the file; None for a stream or a compressed file.
    """

    fd: int
    start: bytes
    in_place: InFile | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.in_place:
            os.close(self.fd)

    @property
    def kind(self) -> str:
        """The kind of archive, for people."""
        if self.start.startswith(GZIP):
            return "tar.gz archive"
        return "tar.zst archive" if self.start.startswith(ZSTD) else "tar archive"

    def pieces(self) -> Iterator[bytes]:
        """Read the bytes of the tar archive, decompressed where it is compressed."""
        if self.start.startswith(GZIP):
            return gunzip(self._raw())
        return unzstd(self._raw()) if self.start.startswith(ZSTD) else self._raw()

    def _raw(self) -> Iterator[bytes]:
        yield self.start
        while piece := os.read(self.fd, _PIECE):
            yield piece

    def hold(self) -> Held:
        """Make a new place to keep the contents of a layer."""
        return self.in_place or TemporaryHold()


def _opened(path: str) -> _OpenArchive:
    try:
        fd = os.dup(0) if path == STDIN else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        seekable = stat.S_ISREG(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0
        start = b""
        while len(start) < 512 and (piece := os.read(fd, 512 - len(start))):
            start += piece
    except OSError as error:
        raise unreadable(path, error) from error
    if not begins_as_archive(start):
        what = "is empty" if not start else "is no tar archive, nor one that gzip or zstd packed"
        raise UsageError(f"{printable(path)} {what}: pipe one in, as 'docker export' writes it")
    still = seekable and not start.startswith((GZIP, ZSTD))
    return _OpenArchive(fd=fd, start=start, in_place=InFile(fd) if still else None)


class _Cutter:
    """Cuts entries into layers, and sends layers early so that the spool does not overflow."""

    def __init__(self, stream: _OpenArchive, contents: PathsSoFar, cuts: Cuts, ship: Ship) -> None:
        self._stream, self._contents, self._cuts, self._ship = stream, contents, cuts, ship
        self._layer = LayerSoFar(stream.hold())
        self._waiting: deque[tuple[Item, Held]] = deque()
        self._shipping: deque[tuple[Future[None], Held]] = deque()
        self.items: list[Item] = []

    def room_for(self, path: bytes, size: int) -> Held:
        """Choose where to keep the content of the entry at `path`; `add` must get that entry next.

        May end the current layer. Raises UsageError.
        """
        if path in self._layer:
            if self._cuts.is_last:
                raise self._contents.refuse(path, "is twice in one layer: raise --max-layers")
            self._cuts.cut()
            self._end()
        if self._cuts.begins(path, size):
            self._end()
        self._make_room(size)
        return self._layer.held

    def add(self, member: Unpacked) -> None:
        """Add an entry to the current layer."""
        self._layer.add(member)

    def finish(self) -> list[Item]:
        """End the last layer; return all layers as items, lowest layer first."""
        if self._layer.first or not self.items:
            self._end()
        for future, _ in self._shipping:
            future.result()
        return self.items

    def _end(self) -> None:
        first = os.fsdecode(self._layer.first)
        path = f"/{first}" if self.items else "/"
        if any(path == item.path for item in self.items):
            path += f" ({len(self.items)})"
        below = self.items[-1].path if self.items else None
        item = self._layer.item(self._contents, path, below)
        self.items.append(item)
        self._waiting.append((item, self._layer.held))
        self._layer = LayerSoFar(self._stream.hold())

    def _make_room(self, size: int) -> None:
        """Send finished layers, and wait for them, until `size` more bytes fit into the spool."""
        while self._held + size > SPOOL and (self._waiting or self._shipping):
            while self._waiting:
                item, held = self._waiting.popleft()
                number = len(self.items) - len(self._waiting) - 1
                self._shipping.append((self._ship(number, item), held))
            future, held = self._shipping.popleft()
            future.result()
            held.let_go()

    @property
    def _held(self) -> int:
        held = [held for _, held in (*self._waiting, *self._shipping)]
        return sum(one.size for one in held) + self._layer.held.size


def _read(
    stream: _OpenArchive,
    path: str,
    options: SourceOptions,
    cuts: Cuts,
    ship: Ship,
    cancel: Cancellation,
) -> tuple[str, Closure]:
    allowed = parse(as_bytes("\n".join(options.allow_secrets)))
    found = PathsSoFar(path, partial(_check_secret, path, allowed))
    cutter = _Cutter(stream, found, cuts, ship)
    for whole, data in contents(stream.pieces(), cancel):
        if place := found.path_of(whole):
            held = cutter.room_for(place, whole.size)
            cutter.add(found.take(place, whole, data, held))
        _refuse_image(path, place, found)
    if not found.members:
        raise UsageError(f"{printable(path)} holds nothing")
    items = cutter.finish()
    closure = Closure.build((items[0].path,), tuple(items), profile=Profile.TREE)
    runs_on = _runs_on(found)
    said = "".join(f"{platform} {place}\n" for platform, place in sorted(runs_on.items()))
    stamp = hashlib.sha256(as_bytes(said)).digest()
    programs = Programs(stamp=stamp, newest_ns=0, read=lambda: runs_on)
    inside = Inside(place=path, find=partial(_find, found), natives=tuple, guess=str)
    return stream.kind, replace(closure, stacked=True, programs=(lambda: programs,), inside=inside)


def _check_secret(path: str, allowed: Patterns, entry: Entry, start: bytes) -> None:
    why = by_name(entry.path) or by_content(entry.path, start)
    if why and not allowed.match(entry.path):
        raise UsageError(
            f"{printable(path)}: {printable(entry.path)} looks like a secret: {why}; leave it out "
            f"of the archive or keep it with --allow-secret '{printable(entry.path)}'"
        )


def _refuse_image(path: str, place: bytes, found: PathsSoFar) -> None:
    """Raise UsageError for an archive of an image, in which layers are files.

    An OCI layout has a file `oci-layout` (image-layout.md); `docker save` writes `manifest.json`
    beside the layers.
    """
    saved = place == b"manifest.json" and any(
        name.endswith(b"/layer.tar") or name == b"blobs" for name in found.members
    )
    if saved or place == b"oci-layout":
        raise UsageError(
            f"{printable(path)} is an image in an archive: skopeo copy docker-archive:FILE, or "
            "oci-archive:FILE, pushes it; of a container, push what 'docker export' writes"
        )


def _runs_on(found: PathsSoFar) -> dict[Platform, str]:
    """Map each platform that programs in the archive are for to the path of one program.

    Platforms are read from ELF headers.
    """
    runs_on: dict[Platform, str] = {}
    for path, member in found.members.items():
        if platform := platform_of(member.start[:HEADER]):
            runs_on.setdefault(platform, os.fsdecode(path))
    return runs_on


def _find(found: PathsSoFar, path: str) -> Present | None:
    """Describe what is at the image path `path`; links are followed. None for nothing."""
    wanted = image_path(posixpath.normpath(path))
    for _ in range(_MAX_LINKS):
        at, rest = _first_link(found, wanted)
        if at is None:
            member = found.members.get(wanted)
            if member is None:
                return None
            return Present(
                kind=member.entry.kind, mode=member.entry.mode, link="", start=member.start
            )
        link = found.members[at].entry.link
        target = posixpath.join(b"/" + at.rpartition(b"/")[0], link, rest)
        wanted = posixpath.normpath(target).strip(b"/")
    return None


def _first_link(found: PathsSoFar, path: bytes) -> tuple[bytes | None, bytes]:
    """Find the first part of `path` that is a link; return it and the rest of the path.

    (None, b"") where no part is a link.
    """
    end = 0
    while end >= 0:
        end = path.find(b"/", end + 1)
        part = path if end < 0 else path[:end]
        member = found.members.get(part)
        if member and member.entry.kind is Kind.SYMLINK:
            return part, path[len(part) + 1 :]
    return None, b""
