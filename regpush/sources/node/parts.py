"""What locks of npm and of pnpm have in common: tarballs as items, links, what is told of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from regpush.closure import Identity, Item, LockedPackage, Role
from regpush.entry import Entry, TreeHash
from regpush.errors import UsageError
from regpush.events import InputWarned
from regpush.ownership import Rule
from regpush.sources.lock.artifact import Artifact, ArtifactLayout
from regpush.sources.lock.fetch import Fetcher
from regpush.sources.node.choice import NodeTarget
from regpush.sources.node.lock import Locked
from regpush.sources.node.npmrc import Npmrc
from regpush.sources.node.packument import listing
from regpush.sources.node.tarball import Manner, Tarball, parents
from regpush.sources.tools import Workshop

_TARBALL = 32 << 10
"""About the mean of 390 packages of an application (Nest, the AWS SDK, ESLint); the median is 6 kB.

So two or three share a layer where layers do not run short. Of those 390, a new version of one
sends 206 kB on average in 63 layers, of which 4 have less than 16 kB; with 256 KiB each, which
wheels have, it sent 360 kB, and 27 layers were so small.
"""
_PROGRAM = 2 << 20
"""A package for some machines only holds machine code: esbuild 4 MB, libvips 7 MB. It is alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProject:
    """A project in the folder `root`, and what its image is made for.

    `groups`: names of dependency groups. `root_dir`: where the project lies in the image, without
    a slash at its end.
    """

    root: str
    target: NodeTarget
    groups: tuple[str, ...]
    root_dir: str
    npmrc: Npmrc
    fetcher: Fetcher
    workshop: Workshop

    def opened(self, artifact: Artifact, layout: ArtifactLayout) -> Iterator[Entry]:
        """The entries of a package, whose tarball is fetched. Raises as `Fetcher.begin` says."""
        return layout.entries(self.fetcher.path(artifact))

    def unpacked(self, path: str, named: str, manner: Manner) -> Tarball:
        """The tarball at `path` of the package that people know as `named`. Raises SourceError."""
        what, scratch = f"the tarball of {named}", self.workshop.path("tarballs")
        return Tarball.open(path, what=what, scratch=scratch, manner=manner)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """What a lock makes of a project: `text` is the lock; `programs`, those of local packages."""

    text: bytes = field(repr=False)
    packages: Sequence[Item]
    links: Sequence[Item]
    programs: Sequence[Rule]


def artifact(one: Locked, project: NodeProject) -> Artifact:
    """The tarball of a package. Raises UsageError where the lock names none that is verified."""
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
    """The bytes that the tarball of a package is taken to have: no lock of Node says it.

    Layers are planned by it, so it depends on what the lock says alone.
    """
    return _PROGRAM if one.value.get("cpu") else _TARBALL


def warn_of_scripts(packages: Iterable[Locked], workshop: Workshop) -> None:
    """Name the packages whose install scripts npm or pnpm would run."""
    names = list(dict.fromkeys(one.named for one in packages if one.said("hasInstallScript")))
    if len(names) == 1:
        workshop.notify(InputWarned(message=f"{names[0]} has an install script, which is not run"))
    elif names:
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if names[10:] else "")
        workshop.notify(InputWarned(message=f"{shown} have install scripts, which are not run"))


def generated(name: str, made: Mapping[bytes, Entry], tops: Iterable[bytes]) -> Item:
    """An item of the links `made`, with the folders that they lie in, from `tops` on."""
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
