"""Turn a package's tarball into the image entries that npm or pnpm would write.

npm's `pacote` (`lib/fetcher.js`), `node-tar` (`strip: 1`) and `bin-links`. No code of a package is
executed.
"""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import partial

from msgspec import Struct

from regpush.entry import Entry, Kind, Streamed, as_bytes, image_path
from regpush.errors import SourceError, printable
from regpush.sources.node.built import Machine, is_lacking

LAYOUT = 1
"""A number in identities; raised with each change by which an equal tarball gives other entries."""

_BLOCK = 1 << 18
_ALL = 16 << 30
"""Maximum bytes of an unpacked tarball."""
_SMALL = 64 << 10
"""Files of at most this many bytes are read into memory, larger ones when their layer is packed."""
_SHEBANG = re.compile(rb"(#![^\n]+)\r\n")
_SHEBANG_LIMIT = 2048
_BIN_LIMIT = 64 << 20
_MANIFEST_LIMIT = 4 << 20


class Program(Struct, frozen=True, kw_only=True):
    """A symbolic link to a program of a package.

    `folder`: the `.bin` folder of the link, relative to the project. `name`: the link's name.
    `file`: the program's file, relative to the package's folder.
    """

    folder: str
    name: str
    file: str


class Place(Struct, frozen=True, kw_only=True):
    """Where a package is in the image; all paths but `root` are relative to `root`.

    `root`: the project's absolute image path. `at`: the package's folder. `tops`: the topmost
    folders that get entries for the package and its links. `programs`: links to programs of the
    package. `runnable`: further files of the package, relative to `at`, that are executable.
    `links`: further symbolic links, each a path and the path that it leads to.
    """

    root: str
    at: str
    tops: tuple[str, ...]
    programs: tuple[Program, ...] = ()
    runnable: frozenset[str] = frozenset()
    links: tuple[tuple[str, str], ...] = ()

    def path(self, relative: str) -> bytes:
        """Turn a path relative to `root` into the image path of an entry, in bytes."""
        return image_path(f"{self.root}/{relative}")


class _Unpacked:
    """A temporary file for an unpacked tarball; it is deleted together with this object."""

    def __init__(self, folder: str) -> None:
        self.fd, name = tempfile.mkstemp(dir=folder)
        weakref.finalize(self, os.close, self.fd)
        os.unlink(name)

    def blocks(self, at: int, size: int) -> Iterator[bytes]:
        """Yield `size` bytes of the tarball from the offset `at`, in pieces of bounded size.

        Raises SourceError where the file is shorter.
        """
        while size:
            piece = os.pread(self.fd, min(size, _BLOCK), at)
            if not piece:
                raise SourceError("a tarball is damaged: it ends in the middle of a file")
            at, size = at + len(piece), size - len(piece)
            yield piece


class _File(Struct, frozen=True):
    mode: int
    size: int
    at: int


class Manner(Enum):
    """The package manager by whose rules files of a tarball get their names and modes."""

    NPM = "npm"
    PNPM = "pnpm"


class Tarball(Struct, frozen=True, kw_only=True):
    """The contents of a package's tarball; errors call it `what`.

    `folders`: the mode of each folder by name. `files`: the files by name. Names are relative to
    the package: the first component, usually `package/`, is cut off.
    """

    what: str
    unpacked: _Unpacked
    folders: Mapping[str, int]
    files: Mapping[str, _File]

    @classmethod
    def open(cls, path: str, *, what: str, scratch: str, manner: Manner) -> Tarball:
        """Decompress the tarball at `path` into a temporary file in the folder `scratch`.

        Raises SourceError for a file that is no tarball, and for one with names or links that an
        image cannot contain.
        """
        os.makedirs(scratch, exist_ok=True)
        unpacked = _unpack(path, what, scratch)
        folders, files = _listed(unpacked, what, manner)
        return cls(what=what, unpacked=unpacked, folders=folders, files=files)

    def manifest(self, folder: str = "") -> bytes:
        """Return the bytes of the `package.json` in `folder`; empty where the file is missing."""
        file = self.files.get(f"{folder}/package.json".lstrip("/"), _File(0, 0, 0))
        return b"".join(self.unpacked.blocks(file.at, min(file.size, _MANIFEST_LIMIT)))

    def check_complete(self, machine: Machine) -> None:
        """Raise SourceError where only an install script could make machine code for `machine`."""
        if is_lacking(self.files, self.manifest(), machine):
            raise SourceError(
                f"{self.what} has no machine code for {machine}: its install script would compile "
                "or download it, and regpush runs no scripts; use a version with prebuilt files, "
                "or install on that platform and push the folder without the prefix node:"
            )

    def entries(self, place: Place) -> Iterator[Entry]:
        """Yield the entries of the package as installed at `place`, sorted by path.

        These are folders, files and links, with the folders above them from `place.tops` on.
        Programs get mode 0755, and a carriage return at the end of their `#!` line is removed.
        Raises SourceError for a script of more than 64 MiB.
        """
        programs = [one for one in place.programs if one.file in self.files]
        made: dict[bytes, Entry | str] = {
            place.path(f"{place.at}/{name}"): name for name in self.files
        }
        for name, mode in self.folders.items():
            path = place.path(f"{place.at}/{name}")
            made[path] = Entry(path=path, kind=Kind.DIRECTORY, mode=mode)
        links = [program_link(place.root, one, place.at) for one in programs]
        links += [link(place.root, at, to) for at, to in place.links]
        for one in links:
            made.setdefault(one.path, one)
        for top in place.tops:
            for folder in parents(made, place.path(top)):
                made.setdefault(folder.path, folder)
        runnable = place.runnable | {one.file for one in place.programs}
        for path in sorted(made):
            entry = made[path]
            if isinstance(entry, str):
                yield self._file(path, self.files[entry], is_program=entry in runnable)
            else:
                yield entry

    def _file(self, path: bytes, file: _File, *, is_program: bool) -> Entry:
        size, mode, unpacked = file.size, file.mode, self.unpacked
        content: bytes | Streamed = Streamed(partial(unpacked.blocks, file.at, size))
        if is_program:
            mode = 0o755
            head = b"".join(unpacked.blocks(file.at, min(size, _SHEBANG_LIMIT)))
            if match := _SHEBANG.match(head):
                if size > _BIN_LIMIT:
                    raise SourceError(
                        f"{self.what}: the script {printable(path)} is larger than 64 MiB, the "
                        "maximum"
                    )
                rest = match.end()
                after = b"".join(unpacked.blocks(file.at + rest, size - rest))
                content = match[1] + b"\n" + after
                size -= 1
        if size <= _SMALL and isinstance(content, Streamed):
            content = b"".join(content.open())
        return Entry(path=path, kind=Kind.FILE, mode=mode, size=size, content=content)


def _unpack(path: str, what: str, scratch: str) -> _Unpacked:
    unpacked, size = _Unpacked(scratch), 0
    try:
        with open(path, "rb") as file:
            for piece in _inflated(file.read(_BLOCK), partial(file.read, _BLOCK)):
                size += os.write(unpacked.fd, piece)
                if size > _ALL:
                    raise SourceError(f"{what} would unpack to more than 16 GiB, the maximum")
    except zlib.error as error:
        raise SourceError(f"{what} is not a tarball: {printable(str(error))}") from error
    except OSError as error:
        raise SourceError(f"cannot unpack {what}: {error.strerror}") from error
    return unpacked


def _inflated(part: bytes, more: partial[bytes]) -> Iterator[bytes]:
    """Decompress gzip data into pieces of bounded size; data that is not gzip is passed through.

    `part`: the first bytes. `more`: reads the next ones. Raises zlib.error for damaged or truncated
    data.
    """
    if part[:2] != b"\x1f\x8b":
        while part:
            yield part
            part = more()
        return
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    while part:
        piece = inflate.decompress(part, _BLOCK)
        if piece:
            yield piece
        part = inflate.unconsumed_tail or (b"" if inflate.eof else more())
        if inflate.eof:
            part = inflate.unused_data or more()
            if part[:2] != b"\x1f\x8b":
                return  # data after the last member is no part of the archive
            inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    raise zlib.error("the gzip data is truncated")


def _listed(
    unpacked: _Unpacked, what: str, manner: Manner
) -> tuple[dict[str, int], dict[str, _File]]:
    """Return the modes of folders by name, and the files by name; see `Tarball` for names.

    Of several files with one name, the last is used. Links and devices are left out, as npm and
    pnpm do. Raises SourceError for a damaged tarball, and for names that an image cannot contain.
    """
    folders: dict[str, int] = {}
    files: dict[str, _File] = {}
    ignores: set[str] = set()
    try:
        with (
            open(f"/proc/self/fd/{unpacked.fd}", "rb") as file,
            tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive,
        ):
            for one in archive:
                name = _name(one.name, what)
                if not name:
                    continue
                if one.isdir() and manner is Manner.NPM:
                    folders[name] = (one.mode | 0o777) & 0o755
                elif one.isreg() and not one.issparse():
                    if manner is Manner.NPM:
                        name, mode = _renamed(name, ignores), (one.mode | 0o666) & 0o755
                    else:
                        mode = 0o755 if one.mode & 0o111 else 0o644
                    if name:
                        files[name] = _File(mode, one.size, one.offset_data)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise SourceError(f"{what} is not a tarball: {printable(str(error))}") from error
    for name in (*files, *folders):
        above = name
        while above := above.rpartition("/")[0]:
            folders.setdefault(above, 0o755)
    if clash := next((name for name in files if name in folders), None):
        raise SourceError(f"{what} contains {printable(clash)} both as a file and as a folder")
    return folders, files


def _renamed(name: str, ignores: set[str]) -> str:
    """Return the name under which npm unpacks the file `name`.

    npm renames `.gitignore` to `.npmignore`, and skips it (an empty name here) where the folder
    already has a `.npmignore`. `ignores`: folders with a `.npmignore` so far; updated here.
    """
    folder, _, base = name.rpartition("/")
    if base == ".npmignore":
        ignores.add(folder)
    if base != ".gitignore":
        return name
    return "" if folder in ignores else f"{folder}/.npmignore".lstrip("/")


def _name(name: str, what: str) -> str:
    """Return `name` without its first component; empty where it has only one.

    Raises SourceError for a name that an image cannot contain.
    """
    parts = [part for part in name.split("/")[1:] if part not in ("", ".")]
    if ".." in parts or any(part.startswith(".wh.") or "\0" in part for part in parts):
        raise SourceError(
            f"{what} contains a file named '{printable(name)}': a name may have no '..', no zero "
            "byte, and no part that begins with .wh., which would delete a file in a layer"
        )
    return "/".join(parts)


def program_link(root: str, program: Program, at: str) -> Entry:
    """Return the symbolic link to `program` of the package in the folder `at`, below `root`."""
    return link(root, f"{program.folder}/{program.name}", f"{at}/{program.file}")


def link(root: str, at: str, to: str) -> Entry:
    """Return a symbolic link at the path `at` to the path `to`, both relative to `root`."""
    target = os.path.relpath(to, os.path.dirname(at))
    return Entry(
        path=image_path(f"{root}/{at}"),
        kind=Kind.SYMLINK,
        mode=0o777,
        link=as_bytes(target),
    )


def parents(paths: Iterable[bytes], top: bytes) -> Iterator[Entry]:
    """Yield an entry for each folder above `paths`, from the folder `top` on, unsorted."""
    found: set[bytes] = set()
    for path in paths:
        above = path
        while (above := above.rpartition(b"/")[0]) not in found:
            if above != top and not above.startswith(top + b"/"):
                break
            found.add(above)
    return (Entry(path=path, kind=Kind.DIRECTORY, mode=0o755) for path in found)
