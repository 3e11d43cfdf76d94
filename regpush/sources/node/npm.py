"""Turn a lock of npm into items: one for each tarball, in npm's folders in `node_modules`."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from regpush.closure import Item
from regpush.entry import Entry, image_path
from regpush.errors import UsageError
from regpush.ownership import Rule
from regpush.sources.lock.artifact import Artifact, ArtifactLayout, item_of
from regpush.sources.lock.graph import acyclic
from regpush.sources.node.built import Machine
from regpush.sources.node.choice import choose, is_wanted
from regpush.sources.node.lock import Locked, NodeLock, check_fresh, read
from regpush.sources.node.parts import (
    NodeParts,
    NodeProject,
    artifact,
    generated,
    likely_size,
    warn_of_engines,
    warn_of_scripts,
)
from regpush.sources.node.tarball import LAYOUT, Manner, Place, Program, link, program_link


def parts(path: str, project: NodeProject) -> NodeParts:
    """Make the items of the lock of npm at `path`. Raises UsageError, SourceError."""
    lock = read(path)
    check_fresh(lock)
    chosen = choose(lock, project.target, groups=project.groups)
    warn_of_scripts(chosen.values(), project.workshop)
    warn_of_engines(chosen.values(), project)
    local = list(_local_programs(lock, project))
    return NodeParts(
        text=lock.text,
        packages=_packages(lock, chosen, project),
        links=list(_links(lock, project, local)),
        programs=[
            Rule(pattern=glob.escape(f"{one.text('resolved')}/{file}"), mode=0o755)
            for one, _, file in local
        ],
    )


def _local_programs(lock: NodeLock, project: NodeProject) -> Iterator[tuple[Locked, str, str]]:
    """Yield each program of a local package that exists: the link to the package, name, file."""
    for one in lock.packages.values():
        local = lock.target(one)
        if one.said("link") and local and is_wanted(lock, one, project.groups):
            for name, file in local.bins().items():
                if os.path.isfile(os.path.join(lock.root, one.text("resolved"), file)):
                    yield one, name, file


def _packages(lock: NodeLock, chosen: Mapping[str, Locked], project: NodeProject) -> list[Item]:
    """Make an item of each tarball; packages that are bundled in the tarball are part of it."""
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
    artifacts = {at: artifact(one, project) for at, one in own.items()}
    paths = {at: _path(project.root_dir, at, artifacts[at]) for at in own}
    machine = project.target.machine

    def layout(one: Locked) -> ArtifactLayout:
        place = Place(
            root=project.root_dir,
            at=one.at,
            tops=(one.modules,),
            programs=programs.get(one.at, ()),
        )
        must_run_on = None if _is_whole(lock, one, own) else machine
        return ArtifactLayout(
            path=paths[one.at],
            folder=f"{place.root}/{one.modules}",
            rules=_rules(place, must_run_on),
            entries=partial(_entries, one.named, place, must_run_on, project),
        )

    return [
        item_of(
            artifacts[at],
            layout(one),
            opened=project.opened,
            begin=project.fetcher.begin,
            references=tuple(paths[needed] for needed in edges[at]),
            unsaid=likely_size(one),
        )
        for at, one in own.items()
    ]


def _rules(place: Place, must_run_on: Machine | None) -> Mapping[str, object]:
    """Collect what decides the bytes of a package besides its tarball; part of identities."""
    return {
        "npm": LAYOUT,
        "path": f"{place.root}/{place.at}",
        "bin": [[one.folder, one.name, one.file] for one in place.programs],
        # Part of the recipe: a layer with it was made of a package that has its machine code.
        **({"complete": str(must_run_on)} if must_run_on else {}),
    }


def _entries(
    named: str, place: Place, must_run_on: Machine | None, project: NodeProject, path: str
) -> Iterator[Entry]:
    tarball = project.unpacked(path, named, Manner.NPM)
    if must_run_on:
        tarball.check_complete(must_run_on)
    return tarball.entries(place)


def _owner(one: Locked, chosen: Mapping[str, Locked]) -> str:
    """Return the folder of the package whose tarball contains `one`.

    This is `one` itself, or a package that bundles `one`.
    """
    while one.said("inBundle"):
        if one.parent not in chosen:
            return one.at  # the project bundles it, when it is packed itself
        one = chosen[one.parent]
    return one.at


def _programs(
    chosen: Mapping[str, Locked], owners: Mapping[str, str]
) -> dict[str, tuple[Program, ...]]:
    """Find the programs of each tarball, by the folder of the package that the tarball is of.

    Of several programs with one name in a folder, the first is used, like in npm.
    """
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


def _path(root: str, at: str, artifact: Artifact) -> str:
    """Return the path of a package's item: the package's folder, `@`, and the version."""
    version = artifact.package.version or artifact.package.hashes[0][1][:12]
    return f"{root.rstrip('/')}/{at}@{version}"


def _is_whole(lock: NodeLock, one: Locked, chosen: Mapping[str, Locked]) -> bool:
    """Whether a package works without its install script, as far as the lock tells.

    True where it has no script, where it is optional, or where its binary is in an optional
    package.
    """
    if not one.said("hasInstallScript") or one.said("optional"):
        return True
    binaries = (lock.find(name, one.at) for name in one.table("optionalDependencies"))
    return any(found and found.at in chosen and "cpu" in found.value for found in binaries)


def _links(
    lock: NodeLock, project: NodeProject, programs: Sequence[tuple[Locked, str, str]]
) -> Iterator[Item]:
    """Make an item of the links to local packages and to their `programs`; none without links."""
    root = project.root_dir
    made: dict[bytes, Entry] = {}
    tops: list[str] = []
    for one in lock.packages.values():
        if not one.said("link") or not is_wanted(lock, one, project.groups):
            continue
        resolved, local = one.text("resolved"), lock.target(one)
        if local is None or not resolved:
            raise UsageError(f"{lock.shown} links {one.named} to nothing that it has")
        tops.append(one.modules)
        entry = link(root, one.at, resolved)
        made[entry.path] = entry
    for one, name, file in programs:
        program = Program(folder=f"{one.modules}/.bin", name=name, file=file)
        entry = program_link(root, program, one.at)
        made.setdefault(entry.path, entry)
    if made:
        yield generated("workspaces", made, [image_path(f"{root}/{top}") for top in tops])
