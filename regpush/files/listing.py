"""A listing of a tree, from one scan of the disk: names and lstat data, no contents of files.

A listing takes some 150 bytes a file and can be turned into entries any number of times, so that no
directory is read twice. Everything is bytes, because names on disk have no encoding. No symbolic
link is followed, even one that replaces a folder meanwhile: see `open_root`.
"""

from __future__ import annotations

import bisect
import errno
import os
import stat
import struct
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from operator import itemgetter
from typing import NamedTuple, Protocol, TypeAlias

from regpush.entry import Entry, Kind, OnDisk, Profile
from regpush.errors import SourceError, printable
from regpush.files.filesystem import unreadable
from regpush.files.open_root import OpenRoot

_ROW = struct.Struct("=QqqqQIIII")
_PERMISSIONS = 40 if sys.byteorder == "little" else 43  # the last byte of a row's mode
_EXECUTABLE = bytes(1 if byte & 0o111 else 0 for byte in range(256))
_PRIVATE = bytes(0 if byte & 0o004 else 1 for byte in range(256))
_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}
_FILE = Kind.FILE
_FORMAT = stat.S_IFMT(0xFFFF)
_REGULAR, _DIRECTORY, _LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
_tuple = tuple.__new__
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_NO_LINKS: Mapping[bytes, bytes] = {}

ByFolder: TypeAlias = Mapping[bytes, Collection[bytes]]
"""Paths of a tree, given as sets of names by the folder they are in; the tree's root is the name
b"" in the folder b""."""

NOTHING: ByFolder = {}
ROOT: ByFolder = {b"": (b"",)}

LeaveOut: TypeAlias = Callable[[bytes, Mapping[bytes, "os.DirEntry[str]"]], Collection[bytes]]
"""Called with a folder's path and its content by name; returns the names to leave out, with
everything below them."""


class Row(NamedTuple):
    """The lstat data of one name, as far as regpush uses them, in the order of `_ROW`.

    `size` is 0 for all but files. A directory's row is all 0 except for mode and owner, and ctime
    where extended attributes are kept: the other values change with its content, which the listing
    has itself. `names`: st_nlink.
    """

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    mode: int
    uid: int
    gid: int
    names: int

    @classmethod
    def unpack(cls, rows: bytes) -> Iterator[Row]:
        """Decode `rows`, packed rows one after the other, into an iterator of Row."""
        return map(cls._make, _ROW.iter_unpack(rows))


def _having(rows: bytes, table: bytes) -> Sequence[int]:
    """Return the indexes of the rows for which `table` maps the last byte of the mode to 1."""
    flags = rows[_PERMISSIONS :: _ROW.size].translate(table)
    return [index for index, flag in enumerate(flags) if flag] if 1 in flags else ()


class Folder(NamedTuple):
    """One directory: its own packed row, and the names in it, sorted, with their rows.

    `folders`: the names that are directories. `links`: targets of symbolic links by name.
    `special`: sockets and FIFOs in it, which are not among `names`, because no layer holds them.
    """

    row: bytes
    names: tuple[bytes, ...]
    rows: bytes
    folders: tuple[bytes, ...]
    links: Mapping[bytes, bytes]
    special: tuple[bytes, ...] = ()

    def has(self, name: bytes) -> bool:
        """Whether `name` is one of `names`."""
        index = bisect.bisect_left(self.names, name)
        return index < len(self.names) and self.names[index] == name

    def row_of(self, name: bytes) -> bytes:
        """Return the packed row of `name`, which must be one of `names`."""
        index = bisect.bisect_left(self.names, name) * _ROW.size
        return self.rows[index : index + _ROW.size]

    def private(self) -> Sequence[tuple[bytes, Row]]:
        """Return each of `names` whose mode lacks the read bit for others (0o004), with its row.

        Takes hardly any time where the folder has no such name.
        """
        return [
            (self.names[index], Row(*_ROW.unpack_from(self.rows, index * _ROW.size)))
            for index in _having(self.rows, _PRIVATE)
        ]

    def without(self, leaving: Collection[bytes]) -> Folder:
        """Return the folder without the names `leaving`, all of which it must have."""
        kept = [
            (name, row)
            for name, row in zip(self.names, _cut(self.rows), strict=True)
            if name not in leaving
        ]
        return self._replace(
            names=tuple(name for name, _ in kept),
            rows=b"".join(row for _, row in kept),
            folders=tuple(name for name in self.folders if name not in leaving),
            links={name: link for name, link in self.links.items() if name not in leaving},
        )


class Names(NamedTuple):
    """Some of the names in one folder of a listing, sorted, with packed rows and link targets."""

    folder: bytes
    names: Sequence[bytes]
    rows: bytes
    links: Mapping[bytes, bytes]

    def sizes(self) -> Sequence[int]:
        """Return the `Row.size` of each name, in the order of `names`."""
        return _column(self.rows, 1)

    def executable(self) -> Sequence[int]:
        """Return the indexes of names with any execute permission bit; fast without such names."""
        return _having(self.rows, _EXECUTABLE)

    def row(self, index: int) -> bytes:
        """Return the packed row of the name at `index`."""
        return self.rows[index * _ROW.size : (index + 1) * _ROW.size]


_Step: TypeAlias = tuple[bytes, tuple[int, ...], bytes]
"""A path, the fields of its `Row`, and a link's target. Plain tuples: they are made by `zip`."""


class Listing(NamedTuple):
    """The tree at `root`. Paths in arguments and results are relative to `root`.

    `row` and `link`: the packed row and the link target of `root` itself. `folders`: all
    directories by path; empty where `root` is no directory. `xattrs`: whether entries get extended
    attributes, which are read when the entries are made.
    """

    root: OpenRoot
    row: bytes
    link: bytes
    folders: Mapping[bytes, Folder]
    xattrs: bool

    def on_disk(self, path: bytes) -> bytes:
        """Return the absolute path on this machine of `path`, for messages."""
        return self.root.on_disk(path)

    def select(self, tops: ByFolder, stop_at: ByFolder = NOTHING) -> Iterator[Names]:
        """Yield the names of `tops` and of everything below them, one folder at a time.

        `stop_at` and everything below it are left out.
        """
        yield from self._tops(tops)
        yield from self.below(tops, stop_at)

    def below(self, tops: ByFolder, stop_at: ByFolder = NOTHING) -> Iterator[Names]:
        """Yield the names below `tops`, without `tops` themselves; a folder precedes its folders.

        `stop_at` and everything below it are left out.
        """
        pending = self._opened(tops)
        while pending:
            path = pending.pop()
            if path in stop_at:
                yield self._kept(path, stop_at)
                pending += self._folders(path, stop_at)
                continue
            # As for `stop_at`, but without two calls: nearly all folders come here, twice a push.
            _, names, rows, folders, links, _ = self.folders[path]
            yield Names(path, names, rows, links)
            if folders:
                prefix = path + b"/" if path else b""
                pending += [prefix + name for name in folders]

    def entries(
        self, at: bytes, profile: Profile, tops: ByFolder = ROOT, stop_at: ByFolder = NOTHING
    ) -> Iterator[Entry]:
        """Yield the entries of `tops` and everything below them, except `stop_at` and below.

        The entries' paths are below the image path `at`, in archive order. With an empty `at` the
        root gives no entry, because it is the image's root. Raises SourceError where extended
        attributes cannot be read.
        """
        above = map(_steps, self._tops(tops))
        below = (run for top in self._opened(tops) for run in self._runs(top, stop_at))
        steps: Iterable[_Step] = chain.from_iterable(chain(above, below))
        if sum(map(len, tops.values())) > 1:
            steps = sorted(steps, key=itemgetter(0))
        entry = _Maker(self.root, profile, self.xattrs).entry
        prefix = at + b"/" if at else b""
        for path, row, link in steps:
            if path:
                yield entry(path, prefix + path, row, link)
            elif at:
                yield entry(path, at, row, link)

    def mode(self, path: bytes) -> int:
        """Return the st_mode (type and permission bits) of `path`, which is not the root."""
        folder, _, name = path.rpartition(b"/")
        return next(Row.unpack(self._row(folder, name))).mode

    def directory(self, path: bytes, at: bytes, profile: Profile) -> Entry:
        """Make the entry of the directory `path` alone, at the image path `at`."""
        (row,) = Row.unpack(self.folders[path].row)
        return _Maker(self.root, profile, self.xattrs).entry(path, at, row, b"")

    def _tops(self, tops: ByFolder) -> Iterator[Names]:
        for folder, unsorted in sorted(tops.items()):
            names = sorted(unsorted)
            rows = b"".join([self._row(folder, name) for name in names])
            links = self.folders[folder].links if self.folders else {b"": self.link}
            chosen = {name: links[name] for name in names if name in links} if links else links
            yield Names(folder, names, rows, chosen)

    def _opened(self, tops: ByFolder) -> list[bytes]:
        """Return the paths of those `tops` that are folders, sorted by folder and name."""
        paths = (
            join(folder, name) for folder, names in sorted(tops.items()) for name in sorted(names)
        )
        return [path for path in paths if path in self.folders]

    def _row(self, folder: bytes, name: bytes) -> bytes:
        return self.folders[folder].row_of(name) if name else self.row

    def _kept(self, path: bytes, stop_at: ByFolder) -> Names:
        folder = self.folders[path]
        if path not in stop_at:
            return Names(path, folder.names, folder.rows, folder.links)
        stop = stop_at[path]
        rows = zip(folder.names, _cut(folder.rows), strict=True)
        return Names(
            path,
            [name for name in folder.names if name not in stop],
            b"".join(row for name, row in rows if name not in stop),
            {name: link for name, link in folder.links.items() if name not in stop},
        )

    def _folders(self, path: bytes, stop_at: ByFolder) -> list[bytes]:
        prefix = path + b"/" if path else b""
        folders = self.folders[path].folders
        if path in stop_at:
            folders = tuple(name for name in folders if name not in stop_at[path])
        return [prefix + name for name in folders]

    def _runs(self, top: bytes, stop_at: ByFolder) -> Iterator[Iterable[_Step]]:
        """Yield everything below the folder `top`, in archive order, many steps at a time.

        The paths of `stop_at`, and everything below them, are left out.
        """
        open_folders = [self._mixed(top, stop_at)]
        while open_folders:
            part = next(open_folders[-1], None)
            if part is None:
                open_folders.pop()
            elif isinstance(part, bytes):
                open_folders.append(self._mixed(part, stop_at))
            else:
                yield part

    def _mixed(self, path: bytes, stop_at: ByFolder) -> Iterator[Iterable[_Step] | bytes]:
        """Yield the content of the folder `path` in archive order.

        In place of the content of a folder in it, the folder's bare path is yielded, where its name
        with a slash would be sorted: the content of `a` comes after `a-b`.
        """
        kept = self._kept(path, stop_at)
        steps = _steps(kept)
        begun = 0
        for end in sorted(folder + b"/" for folder in self._folders(path, stop_at)):
            name_and_slash = end[len(path) + 1 :] if path else end
            index = bisect.bisect_left(kept.names, name_and_slash)
            yield islice(steps, index - begun)
            yield end[:-1]
            begun = index
        yield steps


def _steps(selected: Names) -> Iterator[_Step]:
    names, links = selected.names, selected.links
    paths = map((selected.folder + b"/").__add__, names) if selected.folder else names
    targets = map(links.get, names, repeat(b"")) if links else repeat(b"")
    return zip(paths, _ROW.iter_unpack(selected.rows), targets, strict=False)  # targets never end


class Known(Protocol):
    """Folders that an earlier listing of the tree found, by path."""

    def get(self, path: bytes, /) -> Folder | None:
        """Return the folder at `path` as `list_folder` returned it.

        None where it was not listed.
        """


def open_root(path: bytes) -> OpenRoot:
    """Open the tree at `path`, a path without symbolic links. Raises SourceError."""
    try:
        return OpenRoot(path)
    except OSError as error:
        raise unreadable(path, error) from error


def scan(
    path: bytes,
    *,
    leave_out: LeaveOut | None = None,
    xattrs: bool = False,
    known: Known | None = None,
) -> Listing:
    """List the tree at `path`, a path without symbolic links, by `scan_root`."""
    return scan_root(open_root(path), leave_out=leave_out, xattrs=xattrs, known=known)


def scan_root(
    root: OpenRoot,
    *,
    leave_out: LeaveOut | None = None,
    xattrs: bool = False,
    known: Known | None = None,
) -> Listing:
    """List `root` and everything below it, in sorted order, without the names of `leave_out`.

    Folders that `known` has are not listed again. Raises SourceError, naming the path, for a file
    or folder that cannot be read, for devices, and for names beginning `.wh.`, which layers
    reserve; without `leave_out`, which means that everything must be packed, for sockets and FIFOs
    as well.
    """
    row = row_of_root(root, xattrs=xattrs)
    mode = next(Row.unpack(row)).mode
    kind = _kind(root.path, mode)
    folders: dict[bytes, Folder] = {}
    pending = [iter([(b"", row)])] if kind is Kind.DIRECTORY else []
    while pending:
        path, own_row = next(pending[-1], (None, b""))
        if path is None:
            pending.pop()
            continue
        folder = known.get(path) if known else None
        if folder is None or folder.row != own_row:
            folder = list_folder(root, path, own_row, leave_out, xattrs=xattrs)
        folders[path] = folder
        pending.append(folders_in(path, folder, folder.folders))
    link = _readlink(root.path) if kind is Kind.SYMLINK else b""
    return Listing(root=root, row=row, link=link, folders=folders, xattrs=xattrs)


def list_program(root: OpenRoot, name: bytes) -> Listing:
    """List one file, `name` in `root`, made executable, in a folder of mode 0755.

    Artifacts of CI lose their modes, and a user who names a program wants it to run. Raises
    OSError.
    """
    status = os.stat(name, dir_fd=root.folder(b"").fd, follow_symlinks=False)
    row = next(Row.unpack(_pack(status, False)))
    own_row = _ROW.pack(*Row(0, 0, 0, 0, 0, stat.S_IFDIR | 0o755, 0, 0, 0))
    file_row = _ROW.pack(*row._replace(mode=row.mode & ~0o777 | 0o755))
    folder = Folder(own_row, (name,), file_row, (), _NO_LINKS)
    return Listing(root=root, row=own_row, link=b"", folders={b"": folder}, xattrs=False)


def row_of_root(root: OpenRoot, *, xattrs: bool = False) -> bytes:
    """Return the packed row of the root itself. Raises SourceError where it cannot be read."""
    try:
        return _pack(root.status(), xattrs)
    except OSError as error:
        raise unreadable(root.path, error) from error


def folders_in(
    path: bytes, folder: Folder, names: Iterable[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield path and packed row of each of the folders `names`.

    `path`: the path of `folder`, in which they lie. An iterator, because the list of 20,000
    packages in one folder would take 4 MB.
    """
    prefix = path + b"/" if path else b""
    return ((prefix + name, folder.row_of(name)) for name in names)


def walk(root: bytes, at: bytes, profile: Profile) -> list[Entry]:
    """List `root` and everything below it, as entries below the image path `at`.

    `root`: a path without symbolic links. Raises SourceError for a file that cannot be read or
    packed.
    """
    return list(scan(root).entries(at, profile))


def size(selected: Iterable[Names], profile: Profile) -> int:
    """Return the sum of the sizes of the files in `selected`, in bytes.

    With the TREE profile, a file with several names counts once.
    """
    rows = b"".join(names.rows for names in selected)
    total = sum(_column(rows, 1))
    if profile is not Profile.TREE:
        return total
    linked: dict[tuple[int, int], int] = {}
    for row in Row.unpack(rows):
        if row.names > 1 and row.size:
            total -= row.size
            linked[row.device, row.inode] = row.size
    return total + sum(linked.values())


def newest_ns(selected: Iterable[Names]) -> int:
    """Return the latest mtime or ctime in `selected`, in nanoseconds since 1970.

    0 without names.
    """
    rows = b"".join(names.rows for names in selected)
    return max(max(_column(rows, field), default=0) for field in (2, 3))


def by_folder(paths: Iterable[bytes]) -> ByFolder:
    """Group `paths` by their folder: each folder's path with the names in it."""
    found: dict[bytes, set[bytes]] = {}
    for path in paths:
        folder, _, name = path.rpartition(b"/")
        found.setdefault(folder, set()).add(name)
    if len(found) == 1:  # nearly always one path; there is such a mapping for each package
        ((folder, names),) = found.items()
        return {folder: tuple(names)} if len(names) == 1 else found
    return found


def merged(several: Iterable[ByFolder]) -> ByFolder:
    """Return the union of all paths in `several`."""
    found: dict[bytes, set[bytes]] = {}
    for paths in several:
        for folder, names in paths.items():
            found.setdefault(folder, set()).update(names)
    return found


def join(*parts: bytes) -> bytes:
    """Join relative paths by slashes; empty ones are skipped."""
    return b"/".join(part for part in parts if part)


def list_folder(
    root: OpenRoot,
    path: bytes,
    own_row: bytes,
    leave_out: LeaveOut | None,
    *,
    xattrs: bool = False,
) -> Folder:
    """List the folder `path` of the tree at `root`; `own_row` is the folder's own packed row.

    Raises SourceError, naming the path, for a file that cannot be read or packed.
    """
    folders: list[bytes] = []
    links: dict[bytes, bytes] = {}
    rows: list[bytes] = []
    special: list[bytes] = []
    pack = _ROW.pack
    name = b""
    try:
        # Names are looked up in this open folder, even if another one takes its path meanwhile.
        opened = root.folder(path)
        with os.scandir(opened.fd) as children:
            found = {child.name.encode(_ENCODING, _ERRORS): child for child in children}
        for name in leave_out(path, found) if leave_out else ():
            del found[name]
        names = sorted(found)
        for name in names:
            # Popped, because each keeps 500 bytes of stat, and a folder may hold 20,000 names.
            status = found.pop(name).stat(follow_symlinks=False)
            # Unpacked here for speed: this runs for every file, before anything else begins.
            mode, inode, device, count, uid, gid, size = status[:7]
            if mode & _FORMAT == _REGULAR:
                mtime_ns, ctime_ns = status.st_mtime_ns, status.st_ctime_ns
                rows.append(pack(inode, size, mtime_ns, ctime_ns, device, mode, uid, gid, count))
                continue
            if leave_out and (stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)):
                special.append(name)
                continue
            if mode & _FORMAT == _DIRECTORY:
                folders.append(name)
            elif mode & _FORMAT == _LINK:
                links[name] = os.readlink(name, dir_fd=opened.fd)
            else:
                _kind(root.on_disk(join(path, name)), mode)
            rows.append(_pack(status, xattrs))
    except OSError as error:
        raise unreadable(root.on_disk(join(path, name)), error) from error
    if special:
        names = [name for name in names if name not in special]
    # Names with this prefix are next to each other, because `names` is sorted.
    at = bisect.bisect_left(names, b".wh.")
    if at < len(names) and names[at].startswith(b".wh."):
        raise SourceError(
            f"{printable(root.on_disk(join(path, names[at])))}: names beginning '.wh.' mark "
            "deletions in layers; rename it"
        )
    packed = b"".join(rows)
    return Folder(own_row, tuple(names), packed, tuple(folders), links or _NO_LINKS, tuple(special))


def _kind(path: bytes, mode: int) -> Kind:
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is None:
        raise SourceError(
            f"{printable(path)}: {_special(mode)} cannot be packed into a layer; list it in "
            ".regpushignore to leave it out"
        )
    return kind


def _special(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "a special file"


def _pack(status: os.stat_result, xattrs: bool) -> bytes:
    if stat.S_ISDIR(status.st_mode):
        ctime_ns = status.st_ctime_ns if xattrs else 0
        return _ROW.pack(0, 0, 0, ctime_ns, 0, status.st_mode, status.st_uid, status.st_gid, 0)
    return _ROW.pack(
        status.st_ino,
        status.st_size if stat.S_ISREG(status.st_mode) else 0,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_dev,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_nlink,
    )


def _column(rows: bytes, field: int) -> memoryview[int]:
    """Return the values of the field number `field` (0 to 3) of all `rows`."""
    return memoryview(rows).cast("q")[field :: _ROW.size // 8]


def _cut(rows: bytes) -> Iterator[bytes]:
    return (rows[start : start + _ROW.size] for start in range(0, len(rows), _ROW.size))


class _Maker:
    """Makes entries from rows, in archive order, for one profile."""

    def __init__(self, root: OpenRoot, profile: Profile, xattrs: bool) -> None:
        self._root = root
        self._keeps = profile is Profile.TREE
        self._xattrs = xattrs
        self._modes: dict[int, tuple[Kind, int]] = {}
        self._first: dict[tuple[int, int], bytes] = {}

    def entry(self, path: bytes, at: bytes, row: tuple[int, ...], link: bytes) -> Entry:
        """Make the entry of `path` at the image path `at`.

        With the TREE profile, every name of a file but the first is a hard link to the first.
        """
        inode, size, mtime_ns, ctime_ns, device, st_mode, uid, gid, names = row
        kind, mode = self._modes.get(st_mode) or self._of_mode(st_mode)
        if not self._keeps:
            uid = gid = 0
        if kind is _FILE:
            if names > 1 and self._keeps:
                first = self._first.setdefault((device, inode), at)
                if first != at:
                    return Entry(at, Kind.HARDLINK, mode, uid, gid, link=first)
            xattrs = _xattrs(self._root, path, kind) if self._xattrs else ()
            # Like `OnDisk(…)` and `Entry(…)`, in a third of the time.
            content = _tuple(OnDisk, (self._root, path, inode, mtime_ns, ctime_ns))
            return _tuple(Entry, (at, kind, mode, uid, gid, size, b"", xattrs, content))
        xattrs = _xattrs(self._root, path, kind) if self._xattrs else ()
        return Entry(at, kind, mode, uid, gid, 0, link, xattrs)

    def _of_mode(self, st_mode: int) -> tuple[Kind, int]:
        """Return the kind and the permission bits that an entry has for an st_mode."""
        kind = _KINDS[stat.S_IFMT(st_mode)]
        user = st_mode >> 6 & 7
        mode = st_mode & 0o7777 if self._keeps else user << 6 | (user & 5) * 0o11
        found = self._modes[st_mode] = kind, 0o777 if kind is Kind.SYMLINK else mode
        return found


def _readlink(path: bytes) -> bytes:
    try:
        return os.readlink(path)
    except OSError as error:
        raise unreadable(path, error) from error


def _xattrs(root: OpenRoot, path: bytes, kind: Kind) -> tuple[tuple[bytes, bytes], ...]:
    # Only Linux has attributes that an image can keep.
    if not hasattr(os, "listxattr"):
        return ()
    above, _, name = path.rpartition(b"/")
    try:
        # No system call asks for attributes relative to a descriptor and leaves links alone, but
        # lookup through the folder's own entry in /proc does (proc_pid_fd(5)).
        opened = root.folder(path if kind is Kind.DIRECTORY else above)
        at: int | bytes = opened.fd
        if kind is not Kind.DIRECTORY:
            at = b"/proc/self/fd/%d/%b" % (opened.fd, name)
        follow = isinstance(at, int)
        names = sorted(os.listxattr(at, follow_symlinks=follow))
        found = [(os.fsencode(n), os.getxattr(at, n, follow_symlinks=follow)) for n in names]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()  # the file system has no extended attributes
        raise unreadable(root.on_disk(path), error) from error
    if odd := [name for name in names if "=" in name]:
        raise SourceError(
            f"{printable(root.on_disk(path))}: an archive cannot hold the attribute "
            f"'{printable(odd[0])}'"
        )
    return tuple(found)
