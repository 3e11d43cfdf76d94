"""Implement `--link-root`: symbolic links in `/` of the image to all files of a store directory."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence

from regpush.closure import Closure
from regpush.entry import Entry, Kind, absolute, as_text
from regpush.errors import UsageError, printable

_MAX_LINKS = 40
"""Maximum symbolic links that are followed for one path, as in Linux (path_resolution(7))."""
_ABOUT = ("nix-support", "manifest")
"""Files and folders at the top of a store item or profile that get no links: they are metadata."""


def link_roots(closure: Closure, roots: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return links (image path, target), sorted, by which the directories `roots` appear in `/`.

    `roots`: paths in store items, or relative to the closure's first root. Directories with one
    image path are merged. A link to a directory of another item counts as a directory, because Nix
    and Guix profiles consist of such links. Items are listed, and downloaded if necessary. Raises
    UsageError where the closure is not of store items, where a root is no directory of the closure,
    and where two files would have one image path; SourceError where an item cannot be listed.
    """
    if roots and not all(closure[root].in_store for root in closure.roots):
        raise UsageError(
            "--link-root is only for store paths and for nix: and guix: targets; for a directory, "
            "make links by -S PATH=TARGET"
        )
    trees = _Trees(closure)
    links: dict[str, str] = {}
    folders: dict[str, str] = {}
    for root in roots:
        start = posixpath.normpath(posixpath.join(closure.roots[0], root))
        top = trees.directory(start)
        if top is None:
            raise UsageError(
                f"bad --link-root '{printable(root)}': {printable(start)} is not a directory in "
                "the closure that is pushed"
            )
        for path, target in trees.files(top, "", folders):
            taken = links.setdefault(path, target)
            if taken != target:
                raise _both(taken, target, path)
    for path in links.keys() & folders.keys():
        raise _both(folders[path], links[path], path)
    return tuple(sorted(links.items()))


class _Trees:
    """Looks up files in the items of a closure; an item is listed when it is first needed."""

    def __init__(self, closure: Closure) -> None:
        self._closure = closure
        self._listed: dict[str, Mapping[str, Mapping[str, Entry]]] = {}

    def files(self, directory: str, at: str, folders: dict[str, str]) -> Iterator[tuple[str, str]]:
        """Yield a link (image path, target) for everything below `directory` except directories.

        `at`: the image path at which `directory` appears. `folders`: gets the directories below it,
        by image path.
        """
        for name in sorted(self._children(directory)):
            source, path = f"{directory}/{name}", f"{at}/{name}"
            if not at and name in _ABOUT and directory in self._closure:
                continue
            inner = self.directory(source)
            if inner is None:
                yield path, source
            else:
                folders.setdefault(path, source)
                yield from self.files(inner, path, folders)

    def directory(self, path: str) -> str | None:
        """Return `path` if it is a directory, or the directory to which it links in other items.

        None for a file, a missing path, or a link within one item.
        """
        for _ in range(_MAX_LINKS):
            entry = self._entry(path)
            if entry is None or entry.kind is Kind.FILE:
                return None
            if entry.kind is Kind.DIRECTORY:
                return path
            link = as_text(entry.link)
            if not link.startswith("/"):
                return None  # a link within the item works unchanged; it may lead in circles
            path = posixpath.normpath(link)
        return None

    def _item(self, path: str) -> str | None:
        while path not in self._closure:
            if path in ("/", ""):
                return None
            path = posixpath.dirname(path)
        return path

    def _entry(self, path: str) -> Entry | None:
        item = self._item(path)
        if item is None:
            return None
        return self._folders(item).get(posixpath.dirname(path), {}).get(posixpath.basename(path))

    def _children(self, directory: str) -> Mapping[str, Entry]:
        item = self._item(directory)
        return self._folders(item).get(directory, {}) if item else {}

    def _folders(self, item: str) -> Mapping[str, Mapping[str, Entry]]:
        """Return the entries of the item with the path `item`, by directory and then by name."""
        if item not in self._listed:
            folders: dict[str, dict[str, Entry]] = {}
            for entry in self._closure[item].entries():
                path = absolute(entry.path)
                folders.setdefault(posixpath.dirname(path), {})[posixpath.basename(path)] = entry
            self._listed[item] = folders
        return self._listed[item]


def _both(one: str, other: str, path: str) -> UsageError:
    return UsageError(
        f"--link-root: {printable(one)} and {printable(other)} would both be linked at "
        f"{printable(path)}; leave out one of the roots"
    )
