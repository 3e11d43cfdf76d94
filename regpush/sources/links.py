"""Generate an item with the user's links (`-S`, `--link-root`) and essentials such as `/tmp`.

The item is in the top layer, with the app. The user's links replace essentials.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from msgspec import Struct

from regpush.closure import Closure, Identity, Item, Role
from regpush.entry import Entry, Kind, absolute, as_bytes, image_path
from regpush.errors import UsageError, printable
from regpush.files.content_hash import ContentHash
from regpush.files.filesystem import blocks
from regpush.options import ImageOptions
from regpush.ownership import Rule, Rules
from regpush.sources import essentials
from regpush.sources.essentials import Essentials
from regpush.tree_hash import TreeHash

PATH = "(links)"
"""The path of the generated item; no file path, because its entries are in several folders."""


class Customisation(Struct, frozen=True, kw_only=True, eq=False):
    """A closure with the generated item, and with owners and modes set; and the image's options.

    `rules`: the rules for owners and modes, which record what they matched. `skipped`: paths of
    essentials that a link of the user replaces. `unknown`: the names in `--user` that the image's
    `/etc/passwd` and `/etc/group` do not have, as far as these files are known on this machine.
    """

    closure: Closure
    options: ImageOptions
    rules: Rules
    skipped: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def customise(
    closure: Closure,
    options: ImageOptions,
    rules: Sequence[Rule] = (),
    *,
    base: str | None = None,
) -> Customisation:
    """Add the user's links and the essentials to `closure`, and set owners and modes by `rules`.

    A link's relative target is relative to the closure's first root: a directory or a profile.
    Without a `base` image, the image gets `/tmp`, unless the closure is a whole root file system or
    has an item at `/tmp`; an image of store items gets the other essentials too. With a `base`
    none are added, because the base has them. Raises UsageError for a link at the path of an item
    or of another link, and for a `--user` that the generated `/etc/passwd` does not have.
    """
    links = _links(options.symlinks, closure.roots[0])
    _check_room(links, closure)
    wanted = Essentials(entries=()) if base else _essentials(closure, options)
    fitting = [entry for entry in wanted.entries if not _is_taken(entry, closure)]
    added = {entry.path: entry for entry in fitting if not _gives_way(entry, links)}
    skipped = tuple(absolute(entry.path) for entry in fitting if entry.path not in added)
    if b"etc/passwd" in added:
        essentials.check_user(options.user or "")
    placed = Rules(rules, closure)
    item = _item((*added.values(), *links.values()), placed)
    return Customisation(
        closure=placed.apply(closure.with_items((item,)) if item else closure),
        options=_with_certificates(options, wanted.bundle, added),
        rules=placed,
        skipped=skipped,
        unknown=_unknown(options.user, closure, links, base) if b"etc/passwd" not in added else (),
    )


def _unknown(
    user: str | None, closure: Closure, links: Collection[bytes], base: str | None
) -> tuple[str, ...]:
    """Return the names in `user` (`USER:GROUP`) that the image's passwd and group files lack.

    No container starts as such a user; numbers need no entry. The files of a `base` image are not
    read, so with a base only a file of the app that replaces one of them is checked. Empty where a
    link of the user hides these files.
    """
    names = dict(zip((b"etc/passwd", b"etc/group"), (user or "").partition(":")[::2], strict=True))
    wanted = {path: name for path, name in names.items() if name and not name.isdigit()}
    if not wanted or any(path in links for path in (*wanted, b"etc")):
        return ()
    found = _own_files(closure, wanted)
    if found is None:
        return ()
    known = {path: {line.partition(b":")[0] for line in text.split(b"\n")}
             for path, text in found.items()}  # fmt: skip
    return tuple(
        name
        for path, name in wanted.items()
        if (path in known or not base) and as_bytes(name) not in known.get(path, ())
    )


def _own_files(closure: Closure, wanted: Collection[bytes]) -> dict[bytes, bytes] | None:
    """Return the contents of the closure's files at the image paths `wanted`, by path.

    Only items of a directory are searched: packages of a lock file have no users, and would have to
    be downloaded. None where one of the paths is not a regular file, or where `/etc` is a link.
    """
    found: dict[bytes, bytes] = {}
    top = image_path(closure.roots[0])
    if top and not _within(b"etc", top):
        return found
    for item in filter(lambda one: one.is_listed, closure.items):
        for entry in item.entries():
            if entry.path == b"etc" and entry.kind is Kind.SYMLINK:
                return None
            if entry.path in wanted and entry.kind is not Kind.FILE:
                return None
            if entry.path in wanted:
                found[entry.path] = b"".join(map(bytes, blocks(entry)))
    return found


def _essentials(closure: Closure, options: ImageOptions) -> Essentials:
    from_store = all(closure[path].in_store for path in closure.roots)
    if from_store and options.essentials:
        return essentials.of_store(closure)
    return essentials.of_any()


def _with_certificates(
    options: ImageOptions, bundle: str, added: Collection[bytes]
) -> ImageOptions:
    """Add the variable SSL_CERT_FILE to the environment in `options`, if `bundle` is not empty.

    `bundle`: the store path of the certificates. The variable names Debian's usual path instead, if
    a link at it was `added`, so that a file mounted there takes effect.
    """
    if not bundle or essentials.CERTIFICATES in dict(options.env):
        return options
    usual = [absolute(path) for path in essentials.BUNDLE_PATHS if path in added]
    variable = (essentials.CERTIFICATES, usual[0] if usual else bundle)
    return replace(options, env=(*options.env, variable))


def _item(entries: Collection[Entry], rules: Rules) -> Item | None:
    if not entries:
        return None
    ordered = tuple(map(rules.adjust, sorted(entries, key=lambda entry: entry.path)))
    parents = tuple(map(rules.adjust, _parents(ordered)))
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
        identity=Identity.tree(tree.digest()),
        size=sum(entry.size for entry in ordered),
        entries=opened,
        parents=parents,
        role=Role.GENERATED,
    )


def _links(symlinks: Iterable[tuple[str, str]], root: str) -> dict[bytes, Entry]:
    """Return the entries of the user's links, by image path.

    `symlinks`: pairs of image path and target. Raises UsageError for a malformed link, and for two
    different links at one path.
    """
    entries: dict[bytes, Entry] = {}
    for path, target in symlinks:
        entry = _link(path, target, root)
        if entries.setdefault(entry.path, entry) != entry:
            raise UsageError(
                f"-S and --link-root make two different links at {printable(path)}; leave out one"
            )
    return entries


def _link(path: str, target: str, root: str) -> Entry:
    normal = posixpath.normpath("/" + path.strip("/"))
    parts = normal.split("/")
    reserved = ".." in path.split("/") or any(part.startswith(".wh.") for part in parts)
    if normal == "/" or reserved or "\0" in path + target or not target:
        raise UsageError(
            f"bad link '{printable(path)}={printable(target)}': expected PATH=TARGET, such as "
            "/bin=bin"
        )
    if not target.startswith("/"):
        target = posixpath.normpath(posixpath.join(root, target))
    return Entry(path=image_path(normal), kind=Kind.SYMLINK, mode=0o777, link=as_bytes(target))


def _parents(entries: Collection[Entry]) -> tuple[Entry, ...]:
    paths = set()
    for entry in entries:
        path = entry.path
        while path := path.rpartition(b"/")[0]:
            paths.add(path)
    paths -= {entry.path for entry in entries}
    return tuple(Entry(path=path, kind=Kind.DIRECTORY, mode=0o755) for path in sorted(paths))


def _is_taken(entry: Entry, closure: Closure) -> bool:
    """Whether an item of `closure` prevents the essential `entry`.

    It does if it is at the entry's path; and, for a file or link, if it is above or below it.
    """
    own = (image_path(item.home) for item in closure.items)
    if entry.kind is Kind.DIRECTORY:
        return any(path in (b"", entry.path) for path in own)
    return any(_within(path, entry.path) or _within(entry.path, path) for path in own)


def _gives_way(entry: Entry, links: Collection[bytes]) -> bool:
    """Whether a link of the user, at one of the paths `links`, replaces or hides `entry`.

    `entry`: a file or directory that regpush adds to images, such as `/tmp` or `/etc/passwd`.
    """
    if entry.kind is Kind.DIRECTORY:
        return any(_within(entry.path, link) for link in links)
    return any(_within(entry.path, link) or _within(link, entry.path) for link in links)


def _check_room(links: dict[bytes, Entry], closure: Closure) -> None:
    """Raise UsageError for a link at or above an item's path, or below a file or another link."""
    top = image_path(closure.roots[0]) if closure.roots else b""
    for path in links:
        for other in links:
            if other != path and _within(other, path):
                raise _in_the_way(other, "another link")
        for item in closure.items:
            own = image_path(item.home)
            if _within(own, path):
                raise _in_the_way(path, item.path)
            # The items of a directory's own code may have files anywhere in it.
            home = top if item.role.is_code else own
            if _within(path, home) or not home:
                _check_inside(path, item)


def _check_inside(path: bytes, item: Item) -> None:
    if not item.role.is_code:
        raise _in_the_way(path, item.path)
    for entry in item.entries():
        if entry.path == path or (entry.kind is not Kind.DIRECTORY and _within(path, entry.path)):
            raise _in_the_way(path, absolute(entry.path))


def _within(path: bytes, ancestor: bytes) -> bool:
    return path == ancestor or path.startswith(ancestor + b"/")


def _in_the_way(path: bytes, what: str) -> UsageError:
    return UsageError(
        f"a link (-S or --link-root) at /{printable(path)} is not possible, because "
        f"{printable(what)} is at, above or below this path"
    )
