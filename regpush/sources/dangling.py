"""Find symbolic links of a directory that will be broken in the image.

A workspace's `node_modules/lib -> ../../lib` works on the machine that pushes, and so does a link
into a Nix or Guix store; but their targets are not in the image. Links are packed unchanged, and
the user gets a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from regpush.entry import as_bytes, as_text
from regpush.errors import printable
from regpush.files.listing import Folder, join
from regpush.sources.store_path import is_base
from regpush.sources.tree import Tree

_MAX_LINKS = 40
"""Maximum symbolic links that are followed for one path, as in Linux (path_resolution(7))."""
_SHOWN = 3

# Paths that a container runtime mounts: the folders by OCI runtime-spec, config-linux.md, "Default
# Filesystems"; the files in /etc, and secrets below /run, by Docker and Kubernetes.
_MOUNTED: tuple[list[bytes], ...] = (
    [b"dev"],
    [b"proc"],
    [b"run"],
    [b"sys"],
    [b"etc", b"hostname"],
    [b"etc", b"hosts"],
    [b"etc", b"resolv.conf"],
)
# Directories that a base image probably has (Filesystem Hierarchy Standard 3.0, chapters 3 and 4).
_OF_A_BASE = frozenset(
    (b"bin", b"etc", b"lib", b"lib32", b"lib64", b"libx32", b"opt", b"sbin", b"srv", b"usr", b"var")
)


class BasePresence(Enum):
    """Whether the image has a base image, to whose files absolute links may lead."""

    NONE = "none"
    SOME = "some"


class Dangling(NamedTuple):
    """A symbolic link that will probably be broken in the image.

    `path`: the link, relative to the directory. `target`: its text. `place`: the missing image path
    to which it leads, as a list of names.
    """

    path: bytes
    target: bytes
    place: list[bytes]

    @property
    def store(self) -> bytes:
        """The store into which the link leads, such as `/nix/store`; empty if into none."""
        names = [as_text(name) for name in self.place]
        at = next((at for at, name in enumerate(names) if is_base(name)), 0)
        return b"/" + b"/".join(self.place[:at]) if at else b""


def dangling(tree: Tree, base: BasePresence) -> list[Dangling]:
    """List the symbolic links of `tree` that will be broken in the image, sorted by path.

    These are links whose target is outside of the directory or missing. A link is left out if its
    target probably exists in a container, in a base image or a mount; and if it leads to another
    broken link, which is listed instead.
    """
    found = (
        Dangling(path, target, place)
        for path, target in _links(tree)
        if (place := _missing_target(tree, path, target)) is not None
    )
    return sorted(one for one in found if not _is_provided(one, base))


def warning(broken: Sequence[Dangling], directory: str) -> str:
    """Return a warning about `broken` (not empty), the broken links in `directory`."""
    count = len(broken)
    what = "1 symbolic link leads" if count == 1 else f"{count} symbolic links lead"
    text = (
        f"{what} out of {printable(directory)} or to a missing file, and will be broken in the "
        "image: "
        f"{first_of(b'%b -> %b' % one[:2] for one in broken)}"
    )
    into = [one for one in broken if one.store]
    if not into:
        return text
    example = join(as_bytes(directory), into[0].path)
    return (
        f"{text}; to push the items of {printable(into[0].store)} with their dependencies, name "
        f"the link as a target (store:{printable(example)}); --link-root . links their files "
        "into /"
    )


def first_of(names: Iterable[bytes]) -> str:
    """Join the first three `names` by commas, printable, and add how many more there are."""
    several = list(names)
    shown = ", ".join(map(printable, several[:_SHOWN]))
    more = len(several) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _links(tree: Tree) -> Iterator[tuple[bytes, bytes]]:
    """Yield path and target of each link except those that `_leads_straight` finds unbroken.

    The others need the slow check of `_missing_target`.
    """
    folders = tree.listing.folders
    for folder, listed in folders.items():
        for name, target in listed.links.items():
            if not _leads_straight(folders, folder, target):
                yield join(folder, name), target


def _leads_straight(folders: Mapping[bytes, Folder], folder: bytes, target: bytes) -> bool:
    """Whether a link in `folder` leads to an existing file of the tree without further links.

    True for nearly all links, and pnpm makes ten for each package; this check takes a tenth of the
    time of `_missing_target`.
    """
    if target.startswith(b"/"):
        return False
    while folder and target.startswith(b"../"):
        folder, target = folder.rpartition(b"/")[0], target[3:]
    above, _, name = join(folder, target).rpartition(b"/")
    found = folders.get(above)
    return found is not None and found.has(name) and name not in found.links


def _is_provided(link: Dangling, base: BasePresence) -> bool:
    """Whether the target of `link` will probably exist when a container runs.

    True for paths that a runtime mounts (/proc, /etc/hosts) and for `/tmp`; with a base image also
    for absolute targets in its usual directories (/usr, /lib).
    """
    if link.place == [b"tmp"] or any(link.place[: len(one)] == one for one in _MOUNTED):
        return True
    return (
        base is BasePresence.SOME and link.target.startswith(b"/") and link.place[0] in _OF_A_BASE
    )


def _missing_target(tree: Tree, path: bytes, target: bytes) -> list[bytes] | None:
    """Follow the link at `path`; return the missing image path to which it leads, as names.

    None where the target exists, and where the link leads to another link that is broken.
    """
    root = _names(tree.at)
    at = [] if target.startswith(b"/") else _names(tree.in_image(path))[:-1]
    pending = [(name, True) for name in reversed(_names(target))]
    followed = 0
    while pending:
        name, is_own = pending.pop()
        if name == b"..":
            at = at[:-1]
            continue
        at = [*at, name]
        if at == root[: len(at)]:
            continue
        above = b"/".join(at[len(root) : -1])
        folder = tree.listing.folders.get(above) if at[: len(root)] == root else None
        link = folder.links.get(name, b"") if folder else b""
        if folder is None or not folder.has(name):
            return [*at, *(name for name, _ in reversed(pending))] if is_own else None
        if link:
            followed += 1
            if followed > _MAX_LINKS:  # the links lead in a circle
                return at
            at = [] if link.startswith(b"/") else at[:-1]
            pending += [(name, False) for name in reversed(_names(link))]
    return None


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in (b"", b".")]
