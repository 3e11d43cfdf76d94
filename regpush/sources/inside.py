"""Find programs and libraries in a directory, by the first bytes of files, not by their names."""

from __future__ import annotations

import json
import os
import posixpath
import re
import stat
from collections.abc import Iterator
from functools import partial

from regpush.closure import Inside, Native, Present
from regpush.entry import HEAD, Kind
from regpush.errors import SourceError
from regpush.files.filesystem import read_small, read_start
from regpush.files.listing import Row, join
from regpush.platform import Platform
from regpush.sources.elf import HEADER, platform_of
from regpush.sources.tree import Tree

_MAX_LINKS = 40
"""Maximum symbolic links that are followed for one path, as in Linux (path_resolution(7))."""

_LIBRARY = re.compile(rb"\.so(?:\.[0-9.]+)?$|\.(?:node|dylib|pyd)$")
# The first bytes of programs for macOS: Mach-O of 32 and 64 bits, in both byte orders, and for
# several processors (loader.h, fat.h).
_MACH_O = (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xca\xfe\xba\xbe")
_PACKAGES = re.compile(rb"(?:.*/)?(?:node_modules|(?:site|dist)-packages)/([^/]+)", re.DOTALL)


def inside(tree: Tree) -> Inside:
    """Return functions that answer questions about the files of `tree`.

    A file is read only when a question needs it.
    """
    return Inside(
        place=os.fsdecode(tree.on_disk(b"")),
        find=partial(_find, tree),
        natives=lambda: [*_natives(tree)],
        guess=lambda: next(_guesses(tree), ""),
    )


def _find(tree: Tree, path: str) -> Present | None:
    """Describe the file or directory at the image path `path`, following symbolic links.

    None where `path` is outside of the directory or does not exist. A link that leads out of the
    directory is described itself.
    """
    wanted = posixpath.normpath(path)
    for _ in range(_MAX_LINKS):
        place = _below(tree, os.fsencode(wanted))
        if place is None:
            return None
        link, rest = _first_link(tree, place)
        if link is None:
            return _present(tree, place)
        above, _, name = link.rpartition(b"/")
        target = tree.listing.folders[above].links[name]
        start = b"/" + tree.in_image(above)
        wanted = posixpath.normpath(os.fsdecode(posixpath.join(start, target, rest)))
        if _below(tree, os.fsencode(wanted)) is None:
            return Present(kind=Kind.SYMLINK, mode=0o777, link=os.fsdecode(target), start=b"")
    return None


def _below(tree: Tree, image_path: bytes) -> bytes | None:
    """Convert an image path into a path in the tree; None where it is outside of the tree."""
    path = image_path.strip(b"/")
    if not tree.at:
        return path
    if path == tree.at:
        return b""
    return path[len(tree.at) + 1 :] if path.startswith(tree.at + b"/") else None


def _first_link(tree: Tree, path: bytes) -> tuple[bytes | None, bytes]:
    """Return the shortest prefix of `path` that is a symbolic link, and the rest of `path`.

    Returns (None, b"") where there is none.
    """
    folder, names = b"", path.split(b"/")
    for number, name in enumerate(names):
        known = tree.listing.folders.get(folder)
        if known is None:
            break
        folder = join(folder, name)
        if name in known.links:
            return folder, b"/".join(names[number + 1 :])
    return None, b""


def _present(tree: Tree, path: bytes) -> Present | None:
    if path in tree.listing.folders:
        return Present(kind=Kind.DIRECTORY, mode=0o755, link="", start=b"")
    folder, _, name = path.rpartition(b"/")
    known = tree.listing.folders.get(folder)
    if known is None or name not in known.names:
        return None
    (row,) = Row.unpack(known.row_of(name))
    start = read_start(tree.listing.root, path, HEAD)
    return Present(kind=Kind.FILE, mode=stat.S_IMODE(row.mode), link="", start=start)


def _natives(tree: Tree) -> Iterator[Native]:
    for path, folder in sorted(tree.listing.folders.items()):
        for name in folder.names:
            if _LIBRARY.search(name) and name not in folder.folders and name not in folder.links:
                where = join(path, name)
                if runs_on := _runs_on(read_start(tree.listing.root, where, HEADER)):
                    match = _PACKAGES.match(where)
                    group = os.fsdecode(match[1]) if match else ""
                    yield Native(path=os.fsdecode(where), group=group, runs_on=runs_on)


def _runs_on(start: bytes) -> Platform | str | None:
    if start.startswith(_MACH_O):
        return "macOS"
    if start.startswith(b"MZ"):
        return "Windows"
    return platform_of(start)


def _guesses(tree: Tree) -> Iterator[str]:
    """Yield phrases for messages, each with a probable entry point and the file that suggests it.

    The most probable one comes first: `'node app.js', as scripts.start in its package.json says`.
    """
    for line in tree.lines(b"Procfile") if b"Procfile" in tree.names(b"") else ():
        kind, colon, command = line.partition(":")
        if colon and kind.strip() == "web" and command.strip():
            yield f"'{command.strip()}', as its Procfile says"
    package = _document(tree, b"package.json")
    scripts = package.get("scripts")
    start = scripts.get("start") if isinstance(scripts, dict) else None
    if isinstance(start, str) and start.strip():
        yield f"'{start.strip()}', as scripts.start in its package.json says"
    project = _document(tree, b"pyproject.toml").get("project")
    named = project.get("scripts") if isinstance(project, dict) else None
    if isinstance(named, dict) and len(named) == 1:
        yield f"'{next(iter(named))}', the only one of [project.scripts] in its pyproject.toml"
    programs = list(_top_programs(tree))
    if len(programs) == 1:
        yield f"'{os.fsdecode(b'/' + tree.in_image(programs[0]))}', the only program in it"
    jars = [name for name in tree.names(b"") if name.endswith(b".jar")]
    if len(jars) == 1:
        yield f"'java -jar {os.fsdecode(b'/' + tree.in_image(jars[0]))}', the only jar in it"


def _top_programs(tree: Tree) -> Iterator[bytes]:
    """Yield the paths of executable ELF programs in the directory itself and in its `bin`."""
    for folder in (b"", b"bin"):
        known = tree.listing.folders.get(folder)
        if known is None:
            continue
        for name, row in zip(known.names, Row.unpack(known.rows), strict=True):
            path = join(folder, name)
            executable = stat.S_ISREG(row.mode) and row.mode & 0o111 and not _LIBRARY.search(name)
            if executable and platform_of(read_start(tree.listing.root, path, HEADER)):
                yield path


def _document(tree: Tree, name: bytes) -> dict[str, object]:
    """Return the parsed JSON or TOML file `name`; empty where it is missing or malformed."""
    if name not in tree.names(b""):
        return {}
    import tomllib  # takes 3 ms, which directories without such a file save

    try:
        text = read_small(tree.listing.root, name).decode()
        value = tomllib.loads(text) if name.endswith(b".toml") else json.loads(text)
    except (OSError, SourceError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
