"""Turn a single file that is a whole app (a program, a script or a jar) into a closure.

What a file is, is decided by its first bytes and never by its name.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from functools import partial

from msgspec import Struct

from regpush.closure import Closure, Role, Wishes
from regpush.entry import as_bytes
from regpush.errors import UsageError, printable
from regpush.files.filesystem import read_start, unreadable
from regpush.files.gitignore import parse
from regpush.files.listing import NOTHING, ROOT, list_program
from regpush.files.open_root import OpenRoot
from regpush.options import SourceOptions
from regpush.sources.directory import image_root, key_of
from regpush.sources.elf import HEADER, platform_of
from regpush.sources.inside import inside
from regpush.sources.part import Part
from regpush.sources.programs import programs
from regpush.sources.secrets import Watch
from regpush.sources.tree import Tree

_START = 512
"""Bytes that are read from the beginning of a file: a tar header has this size (POSIX pax, "ustar
Interchange Format")."""
_MANIFEST = "META-INF/MANIFEST.MF"
_LARGEST_MANIFEST = 1 << 20

# The first bytes of files that Linux cannot run, and the error message's words for them.
_OTHERS = (
    (b"MZ", "a program for Windows; build it for Linux"),
    (b"\xcf\xfa\xed\xfe", "a program for macOS; build it for Linux"),
    (b"\xce\xfa\xed\xfe", "a program for macOS; build it for Linux"),
    (b"\xca\xfe\xba\xbe", "a program for macOS or a class of Java; build it for Linux, or a jar"),
    (b"\x7fELF", "an object file or a program for an unknown processor"),
)


GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""The first bytes of gzip (RFC 1952) and zstd (RFC 8878) data."""


def begins_as_archive(start: bytes) -> bool:
    """Whether `start`, the first 512 bytes of a file, is a tar header, or gzip or zstd data."""
    return start.startswith((GZIP, ZSTD)) or start[257:262] == b"ustar"


def is_archive(path: str) -> bool:
    """Whether the file at `path` is a tar archive, or gzip or zstd data, by its first bytes.

    False where the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return begins_as_archive(file.read(_START))
    except OSError:
        return False


class _Program(Struct, frozen=True, kw_only=True):
    """A file that was recognised.

    `kind`: `program`, `script` or `jar`. `wishes`: the entry point that starts it, or a warning
    that none is known.
    """

    kind: str
    wishes: Wishes


def resolve(path: str, options: SourceOptions) -> tuple[str, Closure]:
    """Make the closure of the program, script or jar at `path`: one item, in `--root-dir`.

    Returns `program`, `script` or `jar`, for messages, and the closure. The proposed entry point is
    the file itself, or `java -jar` with the jar. Raises UsageError for a file of another kind, and
    SourceError for one that cannot be read.
    """
    at = image_root(options.root_dir)
    folder, name = os.path.split(os.fsencode(os.path.realpath(path)))
    try:
        root = OpenRoot(folder)
        tree = Tree(listing=list_program(root, name), at=at, profile=options.profile)
        program = _program(root, name, "/" + os.fsdecode(tree.in_image(name)), path)
    except OSError as error:
        raise unreadable(path, error) from error
    key = key_of(os.path.join(folder, name), options, frozenset())
    title = os.fsdecode(at.rpartition(b"/")[2]) or "root"
    part = Part(tree=tree, key=key, path=b"", name=title, tops=ROOT, stop_at=NOTHING)
    allowed = parse(as_bytes("\n".join(options.allow_secrets)))
    item = part.item(Role.OWN, Watch(tree, allowed).look)
    closure = Closure.build((item.path,), (item,), profile=options.profile)
    found = (partial(programs, tree, ROOT, NOTHING),)
    return program.kind, replace(
        closure, wishes=program.wishes, programs=found, inside=inside(tree)
    )


def _program(root: OpenRoot, name: bytes, in_image: str, path: str) -> _Program:
    if not stat.S_ISREG(os.stat(name, dir_fd=root.folder(b"").fd, follow_symlinks=False).st_mode):
        raise UsageError(f"{printable(path)} is neither a file nor a directory")
    start = read_start(root, name, _START)
    if platform_of(start[:HEADER]):
        return _Program(kind="program", wishes=Wishes(entrypoint=(in_image,)))
    if (manifest := _manifest(root, name)) is not None:
        return _jar(manifest, in_image, path)
    if start.startswith(b"#!"):
        return _Program(kind="script", wishes=Wishes(entrypoint=(in_image,)))
    what = next((said for magic, said in _OTHERS if start.startswith(magic)), "")
    if not what:
        what = "no program: neither an ELF file, nor a jar, nor a script with a '#!' line, nor a "
        what += "closure file; push the directory that contains it, with --entrypoint"
    raise UsageError(f"{printable(path)} is {what}")


def _jar(manifest: str, in_image: str, path: str) -> _Program:
    if _main_class(manifest):
        return _Program(kind="jar", wishes=Wishes(entrypoint=("java", "-jar", in_image)))
    unsaid = (
        f"the image has no entry point, because {printable(path)} names no Main-Class in its "
        f"manifest: give --entrypoint 'java -cp {printable(in_image)} CLASS', or build a jar that "
        "java -jar can start (Maven: maven-shade-plugin; Gradle: application or Spring Boot plugin)"
    )
    return _Program(kind="jar", wishes=Wishes(unsaid=unsaid))


def _manifest(root: OpenRoot, name: bytes) -> str | None:
    """Return the text of a jar's manifest; None for a file that is no jar."""
    import zipfile  # takes 2 ms, which other targets than jars save

    try:
        with (
            os.fdopen(root.open(name), "rb") as file,
            zipfile.ZipFile(file) as archive,
            archive.open(_MANIFEST) as manifest,
        ):
            return manifest.read(_LARGEST_MANIFEST).decode("utf-8", "replace")
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, ValueError, EOFError):
        return None


def _main_class(manifest: str) -> str:
    """Return the value of Main-Class in a jar's manifest; empty where it is missing.

    JAR File Specification, "JAR Manifest": a line that begins with a blank continues the line
    before it, and an empty line ends the main section.
    """
    text = manifest.replace("\r\n", "\n").replace("\r", "\n").replace("\n ", "")
    for line in text.split("\n"):
        if not line:
            break
        key, _, value = line.partition(":")
        if key.lower() == "main-class":
            return value.strip()
    return ""
