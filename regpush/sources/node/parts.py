"""Shared by locks of npm and pnpm: tarballs as items, links as items, warnings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from regpush.closure import Identity, Item, LockedPackage, Role
from regpush.entry import Entry, TreeHash
from regpush.errors import UsageError, printable
from regpush.events import InputWarned
from regpush.ownership import Rule
from regpush.sources.lock.artifact import Artifact, ArtifactLayout
from regpush.sources.lock.fetch import Fetcher
from regpush.sources.node.base import admits
from regpush.sources.node.choice import NodeTarget
from regpush.sources.node.lock import Locked
from regpush.sources.node.npmrc import Npmrc
from regpush.sources.node.packument import listing
from regpush.sources.node.tarball import Manner, Tarball, parents
from regpush.sources.tools import Workshop

_TARBALL = 32 << 10
"""Assumed bytes of a tarball: the mean of 390 packages of an application; the median is 6 kB.

The application uses Nest, the AWS SDK and ESLint. Two or three such packages share a layer while
layers are not scarce. Of those 390, a new version of one sends 206 kB on average in 63 layers, of
which 4 have less than 16 kB; with 256 KiB each, which wheels have, it sent 360 kB, and 27 layers
were so small.
"""
_PROGRAM = 2 << 20
"""Assumed bytes of a package for some machines only, which is machine code.

esbuild has 4 MB, libvips 7 MB. Such a package is alone in its layer.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProject:
    """A project in the folder `root`, and the target of its image.

    `groups`: names of dependency groups. `root_dir`: the project's image path, without a slash at
    its end. `node`: the version of Node in the base, where that is known.
    """

    root: str
    target: NodeTarget
    node: tuple[int, ...] | None
    groups: tuple[str, ...]
    root_dir: str
    npmrc: Npmrc
    fetcher: Fetcher
    workshop: Workshop

    def opened(self, artifact: Artifact, layout: ArtifactLayout) -> Iterator[Entry]:
        """Download the tarball of a package, and yield the package's entries.

        Raises SourceError where the file cannot be downloaded or differs from the lock, AuthError,
        TransientError after retries, CancelledError.
        """
        return layout.entries(self.fetcher.path(artifact))

    def unpacked(self, path: str, named: str, manner: Manner) -> Tarball:
        """Unpack the tarball at `path`; `named` is the package for people. Raises SourceError."""
        what, scratch = f"the tarball of {named}", self.workshop.path("tarballs")
        return Tarball.open(path, what=what, scratch=scratch, manner=manner)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """The items of a lock; `text`: its bytes, `programs`: rules for local programs' modes."""

    text: bytes = field(repr=False)
    packages: Sequence[Item]
    links: Sequence[Item]
    programs: Sequence[Rule]


def artifact(one: Locked, project: NodeProject) -> Artifact:
    """Describe the tarball of a package.

    Raises UsageError where the lock lacks the tarball's hash or place.
    """
    url, path, listed = one.text("resolved"), "", None
    if url.startswith(("git", "ssh:")) or url.partition("#")[0].endswith(".git"):
        raise UsageError(
            f"{one.named} comes from git, so the lock has no hash of its files: depend on a "
            "release of it, or on a tarball ('npm pack')"
        )
    if url.startswith("file:"):
        url, path = "", os.path.join(project.root, url.removeprefix("file:"))
    elif not url and one.version:
        url = project.npmrc.tarball(one.name, one.version)
        listed = listing(one, project.npmrc)
    elif url.startswith(("https://", "http://")):
        url = project.npmrc.placed(url)
    else:
        raise UsageError(f"the lock does not say where {one.named} is: lock again")
    package = LockedPackage(kind="npm", name=one.name, version=one.version, hashes=one.hashes())
    filename = (url or path).partition("?")[0].rpartition("/")[2]
    return Artifact(package=package, filename=filename, url=url, path=path, listing=listed)


def likely_size(one: Locked) -> int:
    """Assume the bytes of a package's tarball, because no lock of Node states them.

    Layers are planned by this size, so it depends on the lock alone.
    """
    return _PROGRAM if one.value.get("cpu") else _TARBALL


def warn_of_scripts(packages: Iterable[Locked], workshop: Workshop) -> None:
    """Warn about packages whose install scripts npm or pnpm would run."""
    names = list(dict.fromkeys(one.named for one in packages if one.said("hasInstallScript")))
    if len(names) == 1:
        workshop.notify(InputWarned(message=f"{names[0]} has an install script, which is not run"))
    elif names:
        message = f"{_some(names)} have install scripts, which are not run"
        workshop.notify(InputWarned(message=message))


def warn_of_engines(packages: Iterable[Locked], project: NodeProject) -> None:
    """Warn about packages for another Node than the base has, as npm does (EBADENGINE).

    Optional packages are left out (npm, Arborist, `build-ideal-tree.js`).
    """
    if project.node is None:
        return
    names = [
        f"{one.named} ({printable(wanted)})"
        for one in packages
        if not one.said("optional")
        if (wanted := one.table("engines").get("node")) and not admits(wanted, project.node)
    ]
    if names:
        version = ".".join(map(str, project.node))
        message = f"Node {version} of the base is not what packages ask for: {_some(names)}"
        project.workshop.notify(InputWarned(message=message))


def _some(names: Iterable[str]) -> str:
    """List up to ten of `names`, each once, and say how many more there are."""
    several = list(dict.fromkeys(names))
    return ", ".join(several[:10]) + (f" and {len(several) - 10} more" if several[10:] else "")


def generated(name: str, made: Mapping[bytes, Entry], tops: Iterable[bytes]) -> Item:
    """Make an item of the links `made`, and of the folders above them, from `tops` on."""
    every = dict(made)
    for top in dict.fromkeys(tops):
        below = {path: entry for path, entry in every.items() if path.startswith(top + b"/")}
        every |= {one.path: one for one in parents(below, top)}
    entries = tuple(every[path] for path in sorted(every))
    tree = TreeHash()
    for entry in entries:
        tree.add(entry)
    return Item(
        path=f"({name})",
        name=name,
        origin=name,
        identity=Identity.tree(tree.digest()),
        size=0,
        entries=partial(iter, entries),
        role=Role.GENERATED,
    )
