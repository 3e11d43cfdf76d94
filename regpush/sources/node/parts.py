"""Code for lock files of both npm and pnpm: items of tarballs, items of links, warnings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from msgspec import Struct

from regpush.closure import Identity, Item, LockedPackage, Role
from regpush.entry import Entry
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
from regpush.tree_hash import TreeHash

_TARBALL = 32 << 10
"""Assumed size in bytes of a tarball, because lock files of npm and pnpm state none.

Measured on an application with Nest, the AWS SDK and ESLint: 390 tarballs, mean 32 kB, median 6 kB.
With this value the application has 63 layers, 4 of them smaller than 16 kB, and a new version of
one package sends 206 kB on average. With 256 KiB, the value for wheels, 27 layers were smaller than
16 kB, and a new version sent 360 kB.
"""
_PROGRAM = 2 << 20
"""Assumed size in bytes of the tarball of a package for some architectures only.

Such packages contain machine code: esbuild has 4 MB, libvips 7 MB. The size is large enough that
each of them gets a layer of its own.
"""


class NodeProject(Struct, frozen=True, kw_only=True):
    """A Node project in the folder `root`, and what its image needs.

    `target`: the platform that packages must run on. `node`: Node's version in the base image as
    (major, minor, patch), None where it is not known. `groups`: names of dependency groups to
    include. `root_dir`: the project's image path, without a slash at its end.
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
        """Wait for the download of a package's tarball, and yield the package's entries.

        Raises SourceError where the tarball cannot be downloaded or its hash differs from the lock
        file's, AuthError, TransientError after retries, CancelledError.
        """
        return layout.entries(self.fetcher.path(artifact))

    def unpacked(self, path: str, named: str, manner: Manner) -> Tarball:
        """Unpack the tarball at `path` by the rules of npm or pnpm, as `manner` says.

        `named`: the package's name and version, for errors. Raises SourceError for a damaged file.
        """
        what, scratch = f"the tarball of {named}", self.workshop.path("tarballs")
        return Tarball.open(path, what=what, scratch=scratch, manner=manner)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """What a lock file gives to an image.

    `text`: the lock file's bytes. `packages`: an item for each tarball. `links`: at most one item,
    of symbolic links. `programs`: rules that make the programs of local packages executable.
    """

    text: bytes = field(repr=False)
    packages: Sequence[Item]
    links: Sequence[Item]
    programs: Sequence[Rule]


def artifact(one: Locked, project: NodeProject) -> Artifact:
    """Describe the tarball of the package `one`: its hash, and its URL or path.

    Raises UsageError where the lock file states no hash or no location of the tarball.
    """
    url, path, listed = one.text("resolved"), "", None
    if url.startswith(("git", "ssh:")) or url.partition("#")[0].endswith(".git"):
        raise UsageError(
            f"{one.named} comes from git, so the lock file has no hash of its files: depend on a "
            "release of it, or on a tarball ('npm pack')"
        )
    if url.startswith("file:"):
        url, path = "", os.path.join(project.root, url.removeprefix("file:"))
    elif not url and one.version:
        url = project.npmrc.tarball(one.name, one.version)
        listed = listing(one, project.npmrc)
    elif url.startswith(("https://", "http://")):
        url = project.npmrc.with_registry_host(url)
    else:
        raise UsageError(
            f"the lock file has no usable 'resolved' for {one.named}: create the lock file again"
        )
    package = LockedPackage(kind="npm", name=one.name, version=one.version, hashes=one.hashes())
    filename = (url or path).partition("?")[0].rpartition("/")[2]
    return Artifact(package=package, filename=filename, url=url, path=path, listing=listed)


def likely_size(one: Locked) -> int:
    """Return the assumed size in bytes of the package's tarball.

    Lock files of Node state no sizes. Layers are planned by this value, so it must depend on the
    lock file alone.
    """
    return _PROGRAM if one.value.get("cpu") else _TARBALL


def warn_of_scripts(packages: Iterable[Locked], workshop: Workshop) -> None:
    """Warn about packages with install scripts: npm or pnpm would run these, regpush does not."""
    names = list(dict.fromkeys(one.named for one in packages if one.flag("hasInstallScript")))
    if len(names) == 1:
        message = f"{names[0]} has an install script, which regpush does not run"
        workshop.notify(InputWarned(message=message))
    elif names:
        message = f"{_joined(names)} have install scripts, which regpush does not run"
        workshop.notify(InputWarned(message=message))


def warn_of_engines(packages: Iterable[Locked], project: NodeProject) -> None:
    """Warn about packages whose `engines.node` excludes the base image's Node version.

    npm warns about them too (EBADENGINE), and like npm this leaves out optional packages (Arborist,
    `build-ideal-tree.js`). Warns about none where the base image's Node version is not known.
    """
    if project.node is None:
        return
    names = [
        f"{one.named} ({printable(wanted)})"
        for one in packages
        if not one.flag("optional")
        if (wanted := one.table("engines").get("node")) and not admits(wanted, project.node)
    ]
    if names:
        version = ".".join(map(str, project.node))
        message = (
            f"the base image has Node {version}, but packages ask for another: {_joined(names)}"
        )
        project.workshop.notify(InputWarned(message=message))


def _joined(names: Iterable[str]) -> str:
    """Join up to ten different `names` by commas, and add how many more there are."""
    several = list(dict.fromkeys(names))
    return ", ".join(several[:10]) + (f" and {len(several) - 10} more" if several[10:] else "")


def generated(name: str, made: Mapping[bytes, Entry], tops: Iterable[bytes]) -> Item:
    """Make an item called `name` of the links `made` (by image path) and of the folders above them.

    `tops`: the topmost of these folders, as image paths.
    """
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
