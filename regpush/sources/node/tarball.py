"""A package's tarball becomes the entries that npm would leave of it.

npm's `pacote` (`lib/fetcher.js`), `node-tar` (`strip: 1`) and `bin-links`. Nothing of it is
executed.
"""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
import weakref
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from regpush.entry import Entry, Kind, Streamed
from regpush.errors import SourceError, printable
from regpush.sources.node.built import Machine, is_lacking

LAYOUT = 1
"""Stands in identities; raised whenever the same tarball would give other entries."""

_BLOCK = 1 << 18
_ALL = 16 << 30
"""Bytes that a tarball unpacks to at most."""
_SMALL = 64 << 10
"""Bytes of a file that is read at once; a larger one is read while it is written."""
_SHEBANG = re.compile(rb"(#![^\n]+)\r\n")
_SHEBANG_LIMIT = 2048
_BIN_LIMIT = 64 << 20
_MANIFEST_LIMIT = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A link `name` in the folder `folder`, to `file` of the package; relative to the project.

    `file` is relative to the folder of the package that is laid out.
    """

    folder: str
    name: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a package lies: in `at`, relative to `root`, an absolute path of the image.

    `modules`: the folder, relative to `root`, that it and its links lie in. `must_run_on`: of a
    package with an install script, the machine that it must bring machine code for if it has any.
    """

    root: str
    at: str
    modules: str
    programs: tuple[Program, ...] = ()
    must_run_on: Machine | None = None

    def path(self, relative: str) -> bytes:
        """The path of an entry."""
        return f"{self.root}/{relative}".strip("/").encode("utf-8", "surrogateescape")

    def rules(self) -> Mapping[str, object]:
        """What of it decides the bytes of the package; stands in identities."""
        return {
            "npm": LAYOUT,
            "path": f"{self.root.rstrip('/')}/{self.at}",
            "bin": [[one.folder, one.name, one.file] for one in self.programs],
            # So a layer with this recipe was made of a package that does not lack it.
            **({"complete": str(self.must_run_on)} if self.must_run_on else {}),
        }


class _Unpacked:
    """The unpacked tarball: a file without a name, as long as something refers to this."""

    def __init__(self, folder: str) -> None:
        self.fd, name = tempfile.mkstemp(dir=folder)
        weakref.finalize(self, os.close, self.fd)
        os.unlink(name)

    def blocks(self, at: int, size: int) -> Iterator[bytes]:
        """Bytes of it, in pieces of bounded size."""
        while size:
            piece = os.pread(self.fd, min(size, _BLOCK), at)
            if not piece:
                raise SourceError("a tarball ended while it was read")
            at, size = at + len(piece), size - len(piece)
            yield piece


@dataclass(frozen=True, slots=True)
class _File:
    mode: int
    size: int
    at: int


def entries(path: str, place: Place, *, what: str, scratch: str) -> Iterator[Entry]:
    """The sorted entries of the tarball at `path`.

    `what` names it in errors. `scratch`: a folder for a temporary file. Raises SourceError for
    what is not a tarball, holds what cannot lie in an image, or lacks the machine code that its
    install script would compile.
    """
    unpacked = _unpack(path, what, scratch)
    folders, files = _listed(unpacked, what)
    if place.must_run_on:
        file = files.get("package.json", _File(0, 0, 0))
        manifest = b"".join(unpacked.blocks(file.at, min(file.size, _MANIFEST_LIMIT)))
        if is_lacking(files, manifest, place.must_run_on):
            raise SourceError(
                f"{what} has no machine code for {place.must_run_on}: its install script compiles "
                "or fetches it, and nothing is run here; take a version with prebuilds, or run "
                "'npm ci' on that platform and push the folder as a directory"
            )
    return _entries(unpacked, folders, files, place, what)


def _unpack(path: str, what: str, scratch: str) -> _Unpacked:
    unpacked, size = _Unpacked(scratch), 0
    try:
        with open(path, "rb") as file:
            for piece in _inflated(file.read(_BLOCK), partial(file.read, _BLOCK)):
                size += os.write(unpacked.fd, piece)
                if size > _ALL:
                    raise SourceError(f"{what} would unpack to more than 16 GiB")
    except zlib.error as error:
        raise SourceError(f"{what} is not a tarball: {printable(str(error))}") from error
    except OSError as error:
        raise SourceError(f"cannot unpack {what}: {error.strerror}") from error
    return unpacked


def _inflated(part: bytes, more: partial[bytes]) -> Iterator[bytes]:
    """What gzip members hold, in bounded pieces; what is not gzip is given as it is."""
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
                return  # what lies behind the last member is no part of the archive
            inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    raise zlib.error("it ends too early")


def _listed(unpacked: _Unpacked, what: str) -> tuple[dict[str, int], dict[str, _File]]:
    """Folders with their modes, and files, by names without their first component.

    The last of one name counts. Links and devices are left out, as npm leaves them out.
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
                if one.isdir():
                    folders[name] = (one.mode | 0o777) & 0o755
                elif one.isreg() and not one.issparse():
                    folder, _, base = name.rpartition("/")
                    if base == ".npmignore":
                        ignores.add(folder)
                    elif base == ".gitignore":
                        if folder in ignores:
                            continue
                        name = f"{folder}/.npmignore".lstrip("/")
                    mode = (one.mode | 0o666) & 0o755
                    files[name] = _File(mode, one.size, one.offset_data)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise SourceError(f"{what} is not a tarball: {printable(str(error))}") from error
    for name in (*files, *folders):
        above = name
        while above := above.rpartition("/")[0]:
            folders.setdefault(above, 0o755)
    if clash := next((name for name in files if name in folders), None):
        raise SourceError(f"{what} holds {printable(clash)} as a file and as a folder")
    return folders, files


def _name(name: str, what: str) -> str:
    """`name` without its first component; empty where nothing is left."""
    parts = [part for part in name.split("/")[1:] if part not in ("", ".")]
    if ".." in parts or any(part.startswith(".wh.") or "\0" in part for part in parts):
        raise SourceError(f"{what} holds '{printable(name)}', a name that no package may have")
    return "/".join(parts)


def _entries(
    unpacked: _Unpacked,
    folders: Mapping[str, int],
    files: Mapping[str, _File],
    place: Place,
    what: str,
) -> Iterator[Entry]:
    programs = [one for one in place.programs if one.file in files]
    made: dict[bytes, Entry | str] = {place.path(f"{place.at}/{name}"): name for name in files}
    for name, mode in folders.items():
        path = place.path(f"{place.at}/{name}")
        made[path] = Entry(path=path, kind=Kind.DIRECTORY, mode=mode)
    for one in programs:
        link = program_link(place.root, one, place.at)
        made[link.path] = link
    for folder in parents(made, place.path(place.modules)):
        made.setdefault(folder.path, folder)
    runnable = {one.file for one in programs}
    for path in sorted(made):
        entry = made[path]
        if isinstance(entry, str):
            yield _file(unpacked, path, files[entry], what, is_program=entry in runnable)
        else:
            yield entry


def program_link(root: str, program: Program, at: str) -> Entry:
    """The link to a program of the package in `at`."""
    target = os.path.relpath(f"{at}/{program.file}", program.folder)
    path = f"{root}/{program.folder}/{program.name}".strip("/")
    return Entry(
        path=path.encode("utf-8", "surrogateescape"),
        kind=Kind.SYMLINK,
        mode=0o777,
        link=target.encode("utf-8", "surrogateescape"),
    )


def parents(paths: Mapping[bytes, object], top: bytes) -> Iterator[Entry]:
    """The folders that `paths` lie in, `top` and below."""
    found: set[bytes] = set()
    for path in paths:
        above = path
        while len(above := above.rpartition(b"/")[0]) >= len(top) and above and above not in found:
            found.add(above)
    return (Entry(path=path, kind=Kind.DIRECTORY, mode=0o755) for path in found)


def _file(unpacked: _Unpacked, path: bytes, file: _File, what: str, *, is_program: bool) -> Entry:
    size, mode = file.size, file.mode
    content: bytes | Streamed = Streamed(partial(unpacked.blocks, file.at, size))
    if is_program:
        mode = 0o755
        head = b"".join(unpacked.blocks(file.at, min(size, _SHEBANG_LIMIT)))
        if match := _SHEBANG.match(head):
            if size > _BIN_LIMIT:
                raise SourceError(f"{what} has a script that is larger than 64 MiB")
            rest = match.end()
            content = match[1] + b"\n" + b"".join(unpacked.blocks(file.at + rest, size - rest))
            size -= 1
    if size <= _SMALL and isinstance(content, Streamed):
        content = b"".join(content.open())
    return Entry(path=path, kind=Kind.FILE, mode=mode, size=size, content=content)
