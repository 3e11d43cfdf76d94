"""Turn a directory into a closure: items of the app's own code, and an item for each package."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from functools import partial

from msgspec.structs import replace

from regpush import __version__
from regpush.closure import Closure, Role
from regpush.concurrency import Cancellation
from regpush.entry import as_bytes, image_path
from regpush.errors import SourceError, UsageError, plural, printable
from regpush.events import InputWarned, Listener, Note
from regpush.files import scan_ahead
from regpush.files.gitignore import Patterns, parse
from regpush.files.ignore import IGNORE_FILE, LeaveOut, read_ignore_file
from regpush.files.listing import (
    NOTHING,
    ROOT,
    ByFolder,
    Listing,
    Row,
    by_folder,
    join,
    merged,
    open_root,
    scan_root,
)
from regpush.options import SourceOptions
from regpush.ownership import Rules
from regpush.sources import dependencies, own_state
from regpush.sources.bytecode import Cleaned, without_stale
from regpush.sources.dangling import BasePresence, dangling, first_of, warning
from regpush.sources.dependencies import DependencyFolder, Rest
from regpush.sources.inside import inside
from regpush.sources.modes import widening
from regpush.sources.part import Part
from regpush.sources.programs import programs
from regpush.sources.secrets import Watch
from regpush.sources.split import Grain, Grains, PackagePiece, large_files, split
from regpush.sources.tree import STANDARD_DIRECTORIES, Tree

# `_SOURCE` and `_ASSETS` are fine, so that own code is spread evenly: a few megabytes of it become
# layers of less than 100 kB in gzip. `_PACKAGE` is coarse, because a package usually changes as a
# whole; it is divided at all for developers who patch a file of a large package.
_COARSE = Grain(whole=8 << 20, piece=512 << 10, most=2 << 20)
_SOURCE = Grains(
    fine=Grain(whole=128 << 10, piece=64 << 10, most=256 << 10), coarse=_COARSE, limit=16 << 20
)
_ASSETS = Grains(
    fine=Grain(whole=0, piece=256 << 10, most=512 << 10), coarse=_COARSE, limit=16 << 20
)
_LARGE = 64 << 10
"""A file of own code with at least this many bytes is an asset: hardly any source file has more."""
_PACKAGE = Grain(whole=8 << 20, piece=4 << 20, most=8 << 20)

_ROOT_DIR = re.compile(r"/|(?:/(?!\.{1,2}(?:/|$))[^/\0]+)+")


def resolve(
    path: str,
    options: SourceOptions,
    *,
    notify: Listener,
    cancel: Cancellation,
    without: frozenset[bytes] = frozenset(),
) -> Closure:
    """List the directory `path`, without reading its files, and make its closure.

    The closure's root is the item of the app's own code. Items have no identity yet, because that
    takes reading their files. `without`: names of files and folders to leave out everywhere. Raises
    UsageError for a malformed `--root-dir` or `.regpushignore`, and for a file of own code whose
    name marks it as a secret; SourceError for a directory that cannot be listed.
    """
    at = image_root(options.root_dir)
    physical = os.fsencode(os.path.realpath(path))
    listing, leave_out, patterns = _listed(physical, at, options, without, cancel)
    if at:
        cleaned = without_stale(listing, patterns.brings_back if patterns else lambda _: False)
        listing = cleaned.listing
        for message in _of_bytecode(cleaned):
            notify(Note(message=message))
    kept = STANDARD_DIRECTORIES if options.base else ()
    tree = Tree(listing=listing, at=at, profile=options.profile, kept=kept)
    allowed = parse(as_bytes("\n".join(options.allow_secrets)))
    watch = Watch(tree, allowed)
    folders = dependencies.find(tree)
    theirs = by_folder(path for folder in folders for path in folder.claims())
    watch.check_names(listing.below(ROOT, theirs))
    key = key_of(physical, options, without)
    own, assets = _own_code(tree, key, theirs)
    packages = [part for folder in folders for part in _packages(tree, folder, key)]
    for message in _remarks(tree, leave_out, [*own, *assets, *packages]):
        notify(Note(message=message))
    for message in _doubts(listing, patterns, allowed):
        notify(InputWarned(message=message))
    if broken := dangling(tree, BasePresence.SOME if options.base else BasePresence.NONE):
        notify(InputWarned(message=warning(broken, path)))
    code = [part.item(Role.OWN, watch.look) for part in own]
    code += [part.item(Role.ASSET, watch.look) for part in assets]
    rest = [part.item(Role.ORDINARY) for part in packages]
    rest += [part.item(Role.RECORD) for part in _records(tree, folders, key)]
    closure = Closure.build((code[0].path,), (*code, *rest), profile=options.profile)
    if message := widening(tree, Rules(options.rules, closure)):
        notify(Note(message=message))
    return dataclasses.replace(
        closure,
        inside=inside(tree),
        programs=(
            partial(programs, tree, ROOT, theirs),
            partial(programs, tree, theirs, NOTHING),
        ),
    )


def _listed(
    physical: bytes,
    at: bytes,
    options: SourceOptions,
    without: frozenset[bytes],
    cancel: Cancellation,
) -> tuple[Listing, LeaveOut, Patterns | None]:
    """List the directory `physical`, which becomes the image path `at`.

    Returns the listing, the filter that left files out, and the patterns of `.regpushignore`, None
    without that file. Raises SourceError where the directory cannot be read, UsageError for a
    malformed `.regpushignore`, CancelledError.
    """
    # `scan_ahead`, a second process that lists in advance, supports neither the image path `/` nor
    # extended attributes.
    own = own_state.below(physical, options.own_state)
    plain = at and not (without or own or options.preserve_xattrs)
    ahead = scan_ahead.take(physical) if plain else None
    root = ahead.root if ahead else open_root(physical)
    patterns = read_ignore_file(root, check=cancel.check)
    leave_out = LeaveOut(patterns, in_image=at, names=without, paths=own, check=cancel.check)
    xattrs = options.preserve_xattrs
    listing = scan_root(root, leave_out=leave_out, xattrs=xattrs, known=ahead)
    if not listing.folders:
        raise SourceError(
            f"{printable(physical)} is not a directory any more: another program changed it during "
            "the push; push a copy of it"
        )
    if ahead:
        ahead.listed(listing.folders)
        leave_out.saw_git(ahead.git)
    return listing, leave_out, patterns


def image_root(root_dir: str) -> bytes:
    """Convert the value of `--root-dir` into an image path without outer slashes.

    Raises UsageError where it is not an absolute path.
    """
    if not _ROOT_DIR.fullmatch(root_dir) or "/.wh." in root_dir:
        raise UsageError(
            f"bad --root-dir '{printable(root_dir)}': expected an absolute path such as /srv/app, "
            "without '..' or a slash at its end"
        )
    return image_path(root_dir)


def key_of(root: bytes, options: SourceOptions, without: frozenset[bytes]) -> bytes:
    """Return a sha256 (32 bytes) over all settings that decide a directory's items.

    Items with equal keys and equal lstat data are equal, and passed the same search for secrets.
    `root`: the directory's path. `without`: names that are left out everywhere.
    """
    said = [
        __version__,  # another version may find other secrets and cut items at other places
        os.fsdecode(root),
        options.deciding,
        *sorted(map(os.fsdecode, without)),
    ]
    return hashlib.sha256(json.dumps(said).encode()).digest()


def _own_code(tree: Tree, key: bytes, stop_at: ByFolder) -> tuple[list[Part], list[Part]]:
    """Divide the app's own code into parts of source code and parts of assets.

    Own code is everything but `stop_at`. The first part of source code is the one with the
    directory's root. Parts are named by their image paths, because the directory's name on this
    machine must not decide which parts share a layer.
    """
    linked = _linked(tree, stop_at)
    large: list[PackagePiece] = []
    if not _is_small(tree.listing, stop_at):
        grain = _ASSETS.of(tree.listing, stop_at)
        large = large_files(tree.listing, stop_at, grain, least=_LARGE, leave=linked)
    apart = merged((stop_at, *(piece.tops for piece in large)))
    pieces = split(tree.listing, ROOT, apart, _SOURCE.of(tree.listing, apart), leave=linked)
    if not (pieces or large):
        linked = NOTHING
    apart = merged((apart, linked, *(piece.tops for piece in pieces)))
    tops = merged((ROOT, linked))
    name = os.fsdecode(tree.at.rpartition(b"/")[2]) or "root"
    root = Part(tree=tree, key=key, path=b"", name=name, tops=tops, stop_at=apart)

    def parts(several: Sequence[PackagePiece], below: ByFolder) -> list[Part]:
        return [
            replace(root, path=one.path, name=one.name, tops=one.tops, stop_at=below)
            for one in several
        ]

    return [root, *parts(pieces, apart)], parts(large, NOTHING)


def _is_small(listing: Listing, stop_at: ByFolder) -> bool:
    """Whether the app's own code (all but `stop_at`) is so small that it stays one part."""
    size = sum(sum(found.sizes()) for found in listing.below(ROOT, stop_at))
    return size < _SOURCE.fine.whole


def _packages(tree: Tree, folder: DependencyFolder, key: bytes) -> Iterator[Part]:
    """Yield the parts of a dependency folder.

    The first part has the files that belong to no package, if these are dependencies; each further
    one is a package, or a piece of a package of more than 8 MiB.
    """
    path, name = folder.path, os.fsdecode(os.path.basename(folder.path))
    records = by_folder(folder.records)
    if folder.rest is Rest.DEPENDENCIES:
        claimed = by_folder(top for package in folder.packages for top in package.tops)
        yield Part(
            tree=tree,
            key=key,
            path=path,
            name=name,
            tops=by_folder((path,)),
            stop_at=merged((claimed, records)),
        )
    for one in folder.packages:
        tops = by_folder(one.tops)
        pieces = [] if tree.keeps_links else split(tree.listing, tops, records, _PACKAGE)
        home = Part(
            tree=tree,
            key=key,
            path=one.path,
            name=one.name,
            tops=tops,
            # Most packages share one object here, because there may be very many of them.
            stop_at=merged((records, *(piece.tops for piece in pieces))) if pieces else records,
        )
        yield home
        for piece in pieces:
            # A piece is named by its path: strategies keep items of one name together.
            yield replace(home, path=piece.path, name=piece.name, tops=piece.tops)


def _records(tree: Tree, folders: Sequence[DependencyFolder], key: bytes) -> Iterator[Part]:
    """Yield one part: the `records` of `folders`, files that differ after every installation."""
    paths = [path for folder in folders for path in folder.records]
    if paths:
        tops = by_folder(paths)
        yield Part(tree=tree, key=key, path=min(paths), name="records", tops=tops, stop_at=NOTHING)


def _of_bytecode(cleaned: Cleaned) -> Iterator[str]:
    if cleaned.count:
        yield (
            f"{plural(cleaned.count, 'compiled Python file')} left out, such as "
            f"{printable(cleaned.first)}: Python would not use them in the image; '!*.pyc' in "
            ".regpushignore keeps them"
        )


def _linked(tree: Tree, stop_at: ByFolder) -> ByFolder:
    """Return the files of the app's own code that have several names (hard links) in it.

    They must stay in one part, because a hard link needs its file in the same layer. Empty where
    hard links are not kept (`Tree.keeps_links`).
    """
    if not tree.keeps_links:
        return NOTHING
    paths: dict[tuple[int, int], list[bytes]] = {}
    for found in tree.listing.below(ROOT, stop_at):
        for name, row in zip(found.names, Row.unpack(found.rows), strict=True):
            if row.names > 1 and stat.S_ISREG(row.mode):
                paths.setdefault((row.device, row.inode), []).append(join(found.folder, name))
    return by_folder(path for names in paths.values() if len(names) > 1 for path in names)


def _remarks(tree: Tree, leave_out: LeaveOut, parts: Sequence[Part]) -> Iterator[str]:
    """Yield notes for the user about files that were left out of the image or changed in it."""
    if leave_out.git:
        yield f"{printable(leave_out.git)} is left out"
    for path in sorted(leave_out.own):
        yield f"{printable(path)} is left out: it belongs to regpush itself and not to the app"
    if leave_out.device:
        yield "the content of /dev is left out"
    if special := _special(tree):
        yield f"sockets and FIFOs are left out: {first_of(special)}"
    if b".dockerignore" in tree.names(b""):
        yield ".dockerignore has no effect; list files to leave out in .regpushignore"
    if tree.keeps_links and (shared := _shared_file(parts)):
        first, second = (printable(tree.in_image(path)) for path in shared)
        yield (
            f"/{first} and /{second} are hard links of one file here, and become separate files, "
            "because they belong to different packages"
        )


def _doubts(listing: Listing, patterns: Patterns | None, allowed: Patterns) -> Iterator[str]:
    """Yield warnings about patterns of `.regpushignore` and `--allow-secret` without effect."""
    file = printable(listing.on_disk(IGNORE_FILE))
    for where, one in ((file, patterns), ("--allow-secret", allowed)):
        for useless in one.useless if one else ():
            yield f"{where}: '{printable(useless.pattern)}' matches nothing: {useless.why}"
    if patterns and all(found.names == found.folders for found in listing.folders.values()):
        yield f"{file} leaves out every file: the image contains only the directory's folders"


def _special(tree: Tree) -> list[bytes]:
    """List the paths of sockets and FIFOs in the tree, sorted."""
    folders = tree.listing.folders.items()
    return sorted(join(path, name) for path, folder in folders for name in folder.special)


def _shared_file(parts: Sequence[Part]) -> tuple[bytes, bytes] | None:
    """Find two hard links of one file that are in different parts; return their paths, or None."""
    seen: dict[tuple[int, int], tuple[Part, bytes]] = {}
    for part in parts:
        for selected in part.names():
            for name, row in zip(selected.names, Row.unpack(selected.rows), strict=True):
                if row.names > 1:
                    path = join(selected.folder, name)
                    holder, first = seen.setdefault((row.device, row.inode), (part, path))
                    if holder is not part:
                        return first, path
    return None
