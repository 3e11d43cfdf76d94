"""Turn a `package-lock.json` into items: one for each tarball, with the folders that npm uses."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from regpush.closure import Item
from regpush.entry import Entry, image_path
from regpush.errors import UsageError, printable
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
    """Make the items of a project with the lock file of npm at `path`.

    Raises UsageError where the lock file cannot be pushed, SourceError where it cannot be read.
    """
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
    """Yield the programs of local packages whose file exists.

    For each: the lock file's entry for the link to the local package, the program's name, and its
    file relative to the package.
    """
    for one in lock.packages.values():
        local = lock.target(one)
        if one.flag("link") and local and is_wanted(lock, one, project.groups):
            for name, file in local.bins().items():
                if os.path.isfile(os.path.join(lock.root, one.text("resolved"), file)):
                    yield one, name, file


def _packages(lock: NodeLock, chosen: Mapping[str, Locked], project: NodeProject) -> list[Item]:
    """Make an item of each tarball; an item includes the packages bundled in its tarball."""
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
    """Return every setting besides the tarball that decides a package's entries.

    They are part of the package's identity.
    """
    return {
        "npm": LAYOUT,
        "path": f"{place.root}/{place.at}",
        "bin": [[one.folder, one.name, one.file] for one in place.programs],
        # An equal recipe must mean that the package was checked to have this machine's code.
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

    This is `one` itself, or a package in `chosen` that bundles it.
    """
    while one.flag("inBundle"):
        if one.parent not in chosen:
            return one.at  # bundled by the project, which has no tarball; `one` has its own
        one = chosen[one.parent]
    return one.at


def _programs(
    chosen: Mapping[str, Locked], owners: Mapping[str, str]
) -> dict[str, tuple[Program, ...]]:
    """Return the programs in each tarball, by the folder of the tarball's package.

    Of several programs with one name in a `.bin` folder, the first is used, as in npm.
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
    """Return the path of a package's item: the package's image folder, `@`, and its version."""
    version = artifact.package.version or artifact.package.hashes[0][1][:12]
    return f"{root.rstrip('/')}/{at}@{version}"


def _is_whole(lock: NodeLock, one: Locked, chosen: Mapping[str, Locked]) -> bool:
    """Whether the lock file tells that a package works without running its install script.

    True where the package has no script, where it is optional, or where it has a chosen optional
    dependency for some platforms only, which contains its machine code.
    """
    if not one.flag("hasInstallScript") or one.flag("optional"):
        return True
    binaries = (lock.find(name, one.at) for name in one.table("optionalDependencies"))
    return any(found and found.at in chosen and "cpu" in found.value for found in binaries)


def _links(
    lock: NodeLock, project: NodeProject, programs: Sequence[tuple[Locked, str, str]]
) -> Iterator[Item]:
    """Yield one item: the symbolic links to local packages, and to `programs` in their `.bin`.

    Yields nothing where there are no links. `programs`: the package, name and file of each program.
    Raises UsageError for a link to a folder that the lock file does not list.
    """
    root = project.root_dir
    made: dict[bytes, Entry] = {}
    tops: list[str] = []
    for one in lock.packages.values():
        if not one.flag("link") or not is_wanted(lock, one, project.groups):
            continue
        resolved, local = one.text("resolved"), lock.target(one)
        if local is None or not resolved:
            raise UsageError(
                f"{lock.shown} is damaged: {printable(one.at)} is a link to "
                f"'{printable(resolved)}', which it does not list; run 'npm install'"
            )
        tops.append(one.modules)
        entry = link(root, one.at, resolved)
        made[entry.path] = entry
    for one, name, file in programs:
        program = Program(folder=f"{one.modules}/.bin", name=name, file=file)
        entry = program_link(root, program, one.at)
        made.setdefault(entry.path, entry)
    if made:
        yield generated("workspaces", made, [image_path(f"{root}/{top}") for top in tops])
