"""The parts of a Node project's image, put together: packages, own code, links."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from regpush.closure import Closure, Identity, Item, LockedPackage, Role, Wishes
from regpush.digest import Digest
from regpush.entry import Entry, TreeHash
from regpush.errors import UsageError, printable
from regpush.events import InputWarned, Note
from regpush.options import SourceOptions
from regpush.ownership import Rule, Rules
from regpush.platform import Platform
from regpush.sources import directory
from regpush.sources.lock.artifact import Artifact, ArtifactLayout, item_of
from regpush.sources.lock.fetch import Fetcher
from regpush.sources.lock.graph import acyclic
from regpush.sources.lock.keep import of_npm
from regpush.sources.lock.logins import Logins, without_login
from regpush.sources.node import base, tarball
from regpush.sources.node.built import Machine
from regpush.sources.node.choice import NodeTarget, choose, is_wanted
from regpush.sources.node.lock import Locked, NodeLock, check_fresh, read, read_manifest
from regpush.sources.node.npmrc import Npmrc
from regpush.sources.node.tarball import Place, Program
from regpush.sources.platforms import of_host
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop

PATH = "(workspaces)"
"""In place of a path: the item lies in several folders."""


def resolve(
    path: str,
    options: SourceOptions,
    platform: Platform | None,
    workshop: Workshop,
    surroundings: Surroundings,
) -> tuple[str, Closure]:
    """What kind of thing the project at `path` is, for people, and its closure.

    No tarball is fetched before its item is opened. Raises UsageError for what cannot be pushed,
    SourceError, what reading the base raises, CancelledError.
    """
    lock = read(path)
    check_fresh(lock)
    manifest = read_manifest(lock.root)
    platform = platform or of_host()
    reference = options.base
    if reference is None and not options.bare:
        reference = base.default_base(lock.root, manifest)
    facts = surroundings.base(reference, platform) if reference else None
    target = NodeTarget(platform=platform, libc=base.libc(options.lock.libc, facts))
    chosen = choose(lock, target, groups=options.lock.groups)
    _warn(chosen, workshop)
    npmrc = Npmrc.of(lock.root, surroundings.settings.indexes.npm)
    fetcher = _fetcher(npmrc, options.lock.index_url or "", workshop, surroundings)
    packages = _packages(lock, chosen, npmrc, target.machine, options.root_dir, fetcher, workshop)
    code = _code(lock, replace(options, base=reference), workshop)
    links = list(_links(lock, options))
    closure = Closure.build(
        (code.items[0].path,), (*code.items, *packages, *links), profile=options.profile
    )
    words, unsaid = base.entrypoint(lock.root, manifest)
    return (
        f"Node project, {len(packages)} packages by {lock.shown}",
        replace(
            closure,
            system=platform.system,
            locks=((os.path.basename(lock.path), Digest.of(lock.text)),),
            wishes=Wishes(
                base="" if options.base else reference or "",
                workdir=options.root_dir,
                entrypoint=words,
                unsaid=unsaid,
            ),
        ),
    )


def _fetcher(npmrc: Npmrc, mirror: str, workshop: Workshop, surroundings: Surroundings) -> Fetcher:
    logins = Logins(surroundings.settings.netrc_file)
    if mirror:
        logins.add(*without_login(mirror))
    npmrc.add_to(logins)
    for name in npmrc.unset():
        message = f"{printable(name)} is not set, and .npmrc has a login by it"
        workshop.notify(Note(message=message))
    return Fetcher(workshop, surroundings, logins, mirror=mirror, elsewhere=of_npm(npmrc.cache))


def _code(lock: NodeLock, options: SourceOptions, workshop: Workshop) -> Closure:
    """The project's own files. Programs of local packages may be run, as npm sees to it."""
    programs = [
        Rule(pattern=glob.escape(f"{one.text('resolved')}/{file}"), mode=0o755)
        for one, _, file in _local_programs(lock, options)
    ]
    code = directory.resolve(
        lock.root,
        replace(options, rules=(*programs, *options.rules)),
        notify=workshop.notify,
        cancel=workshop.cancel,
        # A lock changes with each package, and nothing at run time reads it or .npmrc.
        without=frozenset({b"node_modules", b".npmrc", os.fsencode(os.path.basename(lock.path))}),
    )
    return Rules(programs, code).apply(code)


def _local_programs(lock: NodeLock, options: SourceOptions) -> Iterator[tuple[Locked, str, str]]:
    """Each link to a local package with the name and the file of a program that exists."""
    for one in lock.packages.values():
        local = lock.target(one)
        if one.said("link") and local and is_wanted(lock, one, options.lock.groups):
            for name, file in local.bins().items():
                if os.path.isfile(os.path.join(lock.root, one.text("resolved"), file)):
                    yield one, name, file


def _warn(chosen: Mapping[str, Locked], workshop: Workshop) -> None:
    names = [one.named for one in chosen.values() if one.said("hasInstallScript")]
    if len(names) == 1:
        workshop.notify(InputWarned(message=f"{names[0]} has an install script, which is not run"))
    elif names:
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if names[10:] else "")
        workshop.notify(InputWarned(message=f"{shown} have install scripts, which are not run"))


def _packages(
    lock: NodeLock,
    chosen: Mapping[str, Locked],
    npmrc: Npmrc,
    machine: Machine,
    root: str,
    fetcher: Fetcher,
    workshop: Workshop,
) -> list[Item]:
    """An item for each tarball; what is bundled in one belongs to it."""
    owners = {at: _owner(one, chosen) for at, one in chosen.items()}
    own = {at: one for at, one in chosen.items() if owners[at] == at}
    needs = {
        at: tuple(
            owners[found.at]
            for name, _ in one.needs()
            if (found := lock.find(name, at)) is not None and found.at in owners
        )
        for at, one in own.items()
    }
    edges = acyclic(needs)
    programs = _programs(chosen, owners)
    artifacts = {at: _artifact(one, lock.root, npmrc) for at, one in own.items()}
    paths = {at: _path(root, at, artifact) for at, artifact in artifacts.items()}

    def place(at: str) -> Place:
        return Place(
            root=root.rstrip("/"),
            at=at,
            modules=own[at].modules,
            programs=programs.get(at, ()),
            must_run_on=None if _is_whole(lock, own[at], own) else machine,
        )

    return [
        item_of(
            artifacts[at],
            _layout(one, paths[at], workshop, place(at)),
            opened=partial(_opened, fetcher),
            begin=fetcher.begin,
            references=tuple(paths[needed] for needed in edges[at]),
        )
        for at, one in own.items()
    ]


def _opened(fetcher: Fetcher, artifact: Artifact, layout: ArtifactLayout) -> Iterator[Entry]:
    return layout.entries(fetcher.path(artifact))


def _owner(one: Locked, chosen: Mapping[str, Locked]) -> str:
    """The folder of the package whose tarball holds `one`: its own, or of one that bundles it."""
    while one.said("inBundle"):
        if one.parent not in chosen:
            return one.at  # the project bundles it, when it is packed itself
        one = chosen[one.parent]
    return one.at


def _programs(
    chosen: Mapping[str, Locked], owners: Mapping[str, str]
) -> dict[str, tuple[Program, ...]]:
    """The programs of each tarball. Of several of one name the first keeps it, as npm does it."""
    taken: set[tuple[str, str]] = set()
    found: dict[str, list[Program]] = {}
    for at, one in sorted(chosen.items(), key=lambda pair: (pair[0].lower(), pair[0])):
        owner = owners[at]
        inside = at[len(owner) :].lstrip("/")
        for name, file in sorted(one.bins().items()):
            folder = f"{one.modules}/.bin"
            if (folder, name) not in taken:
                taken.add((folder, name))
                program = Program(folder=folder, name=name, file=f"{inside}/{file}".lstrip("/"))
                found.setdefault(owner, []).append(program)
    return {owner: tuple(several) for owner, several in found.items()}


def _artifact(one: Locked, root: str, npmrc: Npmrc) -> Artifact:
    """The tarball of a package. Raises UsageError where the lock names none that is verified."""
    url, path = one.text("resolved"), ""
    if url.startswith(("git", "ssh:")) or url.partition("#")[0].endswith(".git"):
        raise UsageError(
            f"{one.named} comes from git, so the lock has no hash of its files: depend on a "
            "release of it, or on a tarball ('npm pack')"
        )
    if url.startswith("file:"):
        url, path = "", os.path.join(root, url.removeprefix("file:"))
    elif not url and one.version:
        url = npmrc.tarball(one.name, one.version)
    elif url.startswith(("https://", "http://")):
        url = npmrc.placed(url)
    else:
        raise UsageError(f"the lock does not say where {one.named} is: run 'npm install'")
    package = LockedPackage(kind="npm", name=one.name, version=one.version, hashes=one.hashes())
    filename = (url or path).partition("?")[0].rpartition("/")[2]
    return Artifact(package=package, filename=filename, url=url, path=path)


def _path(root: str, at: str, artifact: Artifact) -> str:
    """The folder of a package and its version: no file, since the folder alone names no version."""
    version = artifact.package.version or artifact.package.hashes[0][1][:12]
    return f"{root.rstrip('/')}/{at}@{version}"


def _layout(one: Locked, path: str, workshop: Workshop, place: Place) -> ArtifactLayout:
    return ArtifactLayout(
        path=path,
        folder=f"{place.root}/{place.modules}",
        rules=place.rules(),
        entries=partial(_entries, place, one.named, workshop),
    )


def _entries(place: Place, named: str, workshop: Workshop, path: str) -> Iterator[Entry]:
    scratch = workshop.path("tarballs")
    os.makedirs(scratch, exist_ok=True)
    return tarball.entries(path, place, what=f"the tarball of {named}", scratch=scratch)


def _is_whole(lock: NodeLock, one: Locked, chosen: Mapping[str, Locked]) -> bool:
    """Whether a package works without its install script, as far as the lock tells.

    It has none, the project can do without it, or its binary is in an optional package.
    """
    if not one.said("hasInstallScript") or one.said("optional"):
        return True
    binaries = (lock.find(name, one.at) for name in one.table("optionalDependencies"))
    return any(found and found.at in chosen and "cpu" in found.value for found in binaries)


def _links(lock: NodeLock, options: SourceOptions) -> Iterator[Item]:
    """An item of the links to local packages and to their programs, where there are any."""
    root = options.root_dir.rstrip("/")
    made: dict[bytes, Entry] = {}
    tops: list[str] = []
    for one in lock.packages.values():
        if not one.said("link") or not is_wanted(lock, one, options.lock.groups):
            continue
        resolved, local = one.text("resolved"), lock.target(one)
        if local is None or not resolved:
            raise UsageError(f"{lock.shown} links {one.named} to nothing that it has")
        tops.append(one.modules)
        folder, _, name = one.at.rpartition("/")
        entry = tarball.program_link(root, Program(folder=folder, name=name, file=resolved), ".")
        made[entry.path] = entry
    for one, name, file in _local_programs(lock, options):
        program = Program(folder=f"{one.modules}/.bin", name=name, file=file)
        entry = tarball.program_link(root, program, one.at)
        made.setdefault(entry.path, entry)
    if made:
        yield _generated(made, [f"{root}/{top}".strip("/").encode() for top in tops])


def _generated(made: dict[bytes, Entry], tops: Sequence[bytes]) -> Item:
    for top in tops:
        below = {path: entry for path, entry in made.items() if path.startswith(top + b"/")}
        made |= {one.path: one for one in tarball.parents(below, top)}
    entries = tuple(made[path] for path in sorted(made))
    tree = TreeHash()
    for entry in entries:
        tree.add(entry)
    return Item(
        path=PATH,
        name="workspaces",
        origin="workspaces",
        identity=Identity.tree(tree.digest()),
        size=0,
        entries=partial(iter, entries),
        role=Role.GENERATED,
    )
