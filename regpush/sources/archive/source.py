"""Turn a tar archive of a root file system into a closure with one item for each layer."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Self

from msgspec import Struct

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
from regpush.sources.archive.spool import ArchiveStorage, Storage, TemporaryStorage
from regpush.sources.elf import HEADER, platform_of
from regpush.sources.file import GZIP, ZSTD, begins_as_archive
from regpush.sources.secrets import by_content, by_name
from regpush.sources.surroundings import Ship

STDIN = "-"
SPOOL = 256 << 20
"""Maximum bytes of files that are stored in temporary files while a stream is read.

A single layer may have more.
"""

_PIECE = 1 << 20
_MAX_LINKS = 40
"""Maximum symbolic links that are followed for one path, as in Linux (path_resolution(7))."""


def resolve(
    path: str, options: SourceOptions, most_layers: int, ship: Ship, cancel: Cancellation
) -> tuple[str, Closure]:
    """Read the archive at `path` (`-` is standard input) to its end, and make its closure.

    Returns a phrase that describes the archive in messages, and the closure, whose items are the
    layers, lowest first. When temporary files exceed `SPOOL`, finished layers are sent by `ship`
    and deleted, and their items cannot be opened any more. Raises UsageError for a file that is no
    archive of a root file system, or has entries that an image cannot contain; SourceError for one
    that cannot be read.
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
        raise UsageError(
            "'-' reads an archive from standard input, which is a terminal here: pipe one in, as "
            "in docker export NAME | regpush - --to REF"
        )
    if options.rules:
        raise UsageError(
            f"{options.rules[0]}: an archive's owners and modes cannot be changed; set them when "
            "the archive is made (tar --owner, --mode), or push a directory"
        )
    if options.root_dir not in ("/", SourceOptions().root_dir):
        raise UsageError(
            f"--root-dir: {printable(path)} is an archive, whose files are always placed at / of "
            "the image; for another place, unpack it and push the directory"
        )


class _OpenArchive(Struct, frozen=True, kw_only=True):
    """An open archive; `start`: its first 512 bytes, which were already read from `fd`.

    `in_place`: reads contents again from the archive itself; None where that is not possible, for a
    stream or a compressed file.
    """

    fd: int
    start: bytes
    in_place: ArchiveStorage | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.in_place:
            os.close(self.fd)

    @property
    def kind(self) -> str:
        """A phrase for messages: `tar archive`, `tar.gz archive` or `tar.zst archive`."""
        if self.start.startswith(GZIP):
            return "tar.gz archive"
        return "tar.zst archive" if self.start.startswith(ZSTD) else "tar archive"

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of the tar archive, decompressed."""
        if self.start.startswith(GZIP):
            return gunzip(self._raw())
        return unzstd(self._raw()) if self.start.startswith(ZSTD) else self._raw()

    def _raw(self) -> Iterator[bytes]:
        yield self.start
        while piece := os.read(self.fd, _PIECE):
            yield piece

    def new_storage(self) -> Storage:
        """Return a storage for the contents of one layer."""
        return self.in_place or TemporaryStorage()


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
        what = "is empty" if not start else "is not a tar archive (plain, gzip or zstd)"
        raise UsageError(
            f"{printable(path)} {what}; name the archive of a root file system, such as "
            "'docker export' writes"
        )
    still = seekable and not start.startswith((GZIP, ZSTD))
    return _OpenArchive(fd=fd, start=start, in_place=ArchiveStorage(fd) if still else None)


class _Cutter:
    """Cuts the entries of an archive into layers.

    Finished layers are sent early, by `ship`, so that temporary files need `SPOOL` bytes at most.
    """

    def __init__(self, stream: _OpenArchive, contents: PathsSoFar, cuts: Cuts, ship: Ship) -> None:
        self._stream, self._contents, self._cuts, self._ship = stream, contents, cuts, ship
        self._layer = LayerSoFar(stream.new_storage())
        self._waiting: deque[tuple[Item, Storage]] = deque()
        self._shipping: deque[tuple[Future[None], Storage]] = deque()
        self.items: list[Item] = []

    def room_for(self, path: bytes, size: int) -> Storage:
        """Return the storage for the content of the next entry, at `path` with `size` bytes.

        `add` must be called with that entry next. May end the current layer and wait until layers
        are sent. Raises UsageError for a path that occurs again when no further layer is left.
        """
        if path in self._layer:
            if self._cuts.is_last:
                raise self._contents.refuse(
                    path,
                    "occurs twice in the archive, and no further layer is left for its second "
                    "version: raise --max-layers",
                )
            self._cuts.cut()
            self._end()
        if self._cuts.begins(path, size):
            self._end()
        self._make_room(size)
        return self._layer.storage

    def add(self, member: Unpacked) -> None:
        """Add an entry, for which `room_for` was called, to the current layer."""
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
        self._waiting.append((item, self._layer.storage))
        self._layer = LayerSoFar(self._stream.new_storage())

    def _make_room(self, size: int) -> None:
        """Send finished layers and delete their files, until `size` more bytes may be stored."""
        while self._stored_bytes + size > SPOOL and (self._waiting or self._shipping):
            while self._waiting:
                item, storage = self._waiting.popleft()
                number = len(self.items) - len(self._waiting) - 1
                self._shipping.append((self._ship(number, item), storage))
            future, storage = self._shipping.popleft()
            future.result()
            storage.delete()

    @property
    def _stored_bytes(self) -> int:
        storages = [storage for _, storage in (*self._waiting, *self._shipping)]
        return sum(one.size for one in storages) + self._layer.storage.size


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
            storage = cutter.room_for(place, whole.size)
            cutter.add(found.take(place, whole, data, storage))
        _refuse_image(path, place, found)
    if not found.members:
        raise UsageError(f"{printable(path)} is an archive without entries")
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
    """Raise UsageError if the entry at `place` shows that the archive is a saved image.

    A saved image contains layers as files: an OCI layout has a file `oci-layout` (image-layout.md),
    and `docker save` writes `manifest.json` beside the layers.
    """
    saved = place == b"manifest.json" and any(
        name.endswith(b"/layer.tar") or name == b"blobs" for name in found.members
    )
    if saved or place == b"oci-layout":
        raise UsageError(
            f"{printable(path)} is a saved image, not a root file system: push it by skopeo copy "
            "(docker-archive:FILE or oci-archive:FILE), or push the output of 'docker export'"
        )


def _runs_on(found: PathsSoFar) -> dict[Platform, str]:
    """Return the platforms of the programs in the archive, each with the path of one program.

    Platforms are read from ELF headers.
    """
    runs_on: dict[Platform, str] = {}
    for path, member in found.members.items():
        if platform := platform_of(member.start[:HEADER]):
            runs_on.setdefault(platform, os.fsdecode(path))
    return runs_on


def _find(found: PathsSoFar, path: str) -> Present | None:
    """Describe the entry at the image path `path`, following symbolic links; None without one."""
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
    """Return the shortest prefix of `path` that is a symbolic link, and the rest of `path`.

    Returns (None, b"") where there is none.
    """
    end = 0
    while end >= 0:
        end = path.find(b"/", end + 1)
        part = path if end < 0 else path[:end]
        member = found.members.get(part)
        if member and member.entry.kind is Kind.SYMLINK:
            return part, path[len(part) + 1 :]
    return None, b""
