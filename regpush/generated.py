"""The one item regpush writes itself: links into the image's root, and `/tmp`.

It shares the top layer with the app. Essentials of store images will join it here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator

from regpush.closure import Closure, Identity, Item, Role, Scheme
from regpush.entry import ContentHash, Entry, Kind, TreeHash
from regpush.errors import UsageError, printable

_TMP = "/tmp"  # noqa: S108  a path in the image, not on this machine
PATH = "(links)"
"""In place of a path: the item lies in several places."""


def customisation(
    closure: Closure, symlinks: Iterable[tuple[str, str]], *, root: str
) -> Item | None:
    """The generated item for `closure`, or None where there is nothing to write.

    `symlinks` are (path in the image, target) pairs as the user gave them; a relative target
    is under `root`, the directory or profile that was asked for. `/tmp`, mode 1777, is
    written unless the closure is a whole root file system, or lands there. Raises UsageError
    for a link that lies in the way of an item or of another link.
    """
    entries: dict[bytes, Entry] = {}
    for path, target in symlinks:
        entry = _link(path, target, root)
        if entries.setdefault(entry.path, entry) != entry:
            raise UsageError(f"two different links were asked for at {printable(path)}")
    has_own = any(item.path in ("/", _TMP) for item in closure.items)
    if not has_own and b"tmp" not in entries:
        entries[b"tmp"] = Entry(path=b"tmp", kind=Kind.DIRECTORY, mode=0o1777)
    if not entries:
        return None
    _check_room(entries, closure)
    ordered = tuple(sorted(entries.values(), key=lambda entry: entry.path))
    parents = _parents(ordered)
    tree = TreeHash()
    for entry in (*parents, *ordered):
        content = entry.content if isinstance(entry.content, bytes) else b""
        is_file = entry.kind is Kind.FILE
        tree.add(entry, ContentHash(content).digest() if is_file else b"")

    def opened() -> Iterator[Entry]:
        return iter(ordered)

    return Item(
        path=PATH,
        name="links",
        origin="links",
        identity=Identity(Scheme.TREE, tree.digest()),
        size=0,
        entries=opened,
        parents=parents,
        role=Role.GENERATED,
    )


def _link(path: str, target: str, root: str) -> Entry:
    normal = posixpath.normpath("/" + path.strip("/"))
    parts = normal.split("/")
    reserved = ".." in path.split("/") or any(part.startswith(".wh.") for part in parts)
    if normal == "/" or reserved or "\0" in path + target or not target:
        raise UsageError(f"bad link '{printable(path)}={printable(target)}': such as /bin=bin")
    if not target.startswith("/"):
        target = posixpath.normpath(posixpath.join(root, target))
    image_path = normal.lstrip("/").encode("utf-8", "surrogateescape")
    link = target.encode("utf-8", "surrogateescape")
    return Entry(path=image_path, kind=Kind.SYMLINK, mode=0o777, link=link)


def _parents(entries: Collection[Entry]) -> tuple[Entry, ...]:
    paths = set()
    for entry in entries:
        path = entry.path
        while path := path.rpartition(b"/")[0]:
            paths.add(path)
    paths -= {entry.path for entry in entries}
    return tuple(Entry(path=path, kind=Kind.DIRECTORY, mode=0o755) for path in sorted(paths))


def _check_room(entries: dict[bytes, Entry], closure: Closure) -> None:
    """Every generated path must be free: no item's, above none, below no file and no link."""
    top = closure.roots[0].strip("/").encode("utf-8", "surrogateescape") if closure.roots else b""
    for path, entry in entries.items():
        for other in entries:
            if other != path and _within(other, path) and entry.kind is Kind.SYMLINK:
                raise _in_the_way(other, "another link")
        for item in closure.items:
            own = item.path.strip("/").encode("utf-8", "surrogateescape")
            if entry.kind is Kind.SYMLINK and _within(own, path):
                raise _in_the_way(path, item.path)
            # A part of a directory's own code may lie anywhere in it.
            home = top if item.role is Role.OWN else own
            if _within(path, home) or not home:
                _check_inside(path, item)


def _check_inside(path: bytes, item: Item) -> None:
    if item.role is not Role.OWN:
        raise _in_the_way(path, item.path)
    for entry in item.entries():
        if entry.path == path or (entry.kind is not Kind.DIRECTORY and _within(path, entry.path)):
            raise _in_the_way(path, "/" + entry.path.decode("utf-8", "surrogateescape"))


def _within(path: bytes, ancestor: bytes) -> bool:
    return path == ancestor or path.startswith(ancestor + b"/")


def _in_the_way(path: bytes, what: str) -> UsageError:
    return UsageError(f"a link cannot be at /{printable(path)}: {printable(what)} is in the way")
