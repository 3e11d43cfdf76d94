"""The hash of a Nix archive, for items whose store does not tell it, or is not believed.

Nix manual, "Nix Archive (NAR) Format".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator

from regpush.digest import Digest
from regpush.entry import Entry, Kind, Profile
from regpush.files.filesystem import blocks
from regpush.files.listing import scan

_ROOT = b"nar"


def nar_hash(path: str, check: Callable[[], None] = lambda: None) -> tuple[Digest, int]:
    """The sha256 of the archive of the file tree at `path`, and the archive's size in bytes.

    `check` is called for each file and may raise. Raises SourceError for what cannot be read.
    """
    return hash_entries(scan(os.fsencode(path)).entries(_ROOT, Profile.STORE), _ROOT, check)


def hash_entries(
    entries: Iterable[Entry], root: bytes, check: Callable[[], None]
) -> tuple[Digest, int]:
    """As `nar_hash`, of `entries` of the store profile that lie at `root` and below."""
    digest, size = hashlib.sha256(), 0
    for part in _archive(entries, root, check):
        digest.update(part)
        size += len(part)
    return Digest("sha256", digest.hexdigest()), size


def _archive(
    entries: Iterable[Entry], root: bytes, check: Callable[[], None]
) -> Iterator[bytes | memoryview]:
    # Siblings are sorted by their names, not as whole paths, where a "-" precedes the "/".
    ordered = sorted(entries, key=lambda entry: entry.path.split(b"/"))
    yield _strings(b"nix-archive-1")
    depth = 0
    for entry in ordered:
        check()
        above = entry.path[len(root) :].split(b"/")[1:]
        yield _strings(b")", b")") * (depth - len(above))
        depth = len(above)
        if above:
            yield _strings(b"entry", b"(", b"name", above[-1], b"node")
        yield from _node(entry)
        if entry.kind is Kind.DIRECTORY:
            depth += 1
        elif above:
            yield _strings(b")")
    if depth:
        yield _strings(b")", b")") * (depth - 1) + _strings(b")")


def _node(entry: Entry) -> Iterator[bytes | memoryview]:
    """One file-system object; that of a directory stays open."""
    if entry.kind is Kind.DIRECTORY:
        yield _strings(b"(", b"type", b"directory")
    elif entry.kind is Kind.SYMLINK:
        yield _strings(b"(", b"type", b"symlink", b"target", entry.link, b")")
    else:
        yield _strings(b"(", b"type", b"regular")
        if entry.mode & 0o100:
            yield _strings(b"executable", b"")
        yield _strings(b"contents") + entry.size.to_bytes(8, "little")
        yield from blocks(entry)
        yield bytes(-entry.size % 8) + _strings(b")")


def _strings(*values: bytes) -> bytes:
    """Each value with its length (64 bits, little endian) before it, padded to 8 bytes."""
    return b"".join(
        len(value).to_bytes(8, "little") + value + bytes(-len(value) % 8) for value in values
    )
