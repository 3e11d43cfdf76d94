"""Turn a `pnpm-lock.yaml` into items: each package has its own folder in `node_modules/.pnpm`.

pnpm documentation, "Symlinked node_modules structure". Programs in `.bin` are links, as pnpm makes
them with `prefer-symlinked-executables`; the shell scripts that pnpm writes otherwise contain paths
of the machine that installs.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, TypeAlias

from regpush.closure import Item
from regpush.entry import Entry, image_path
from regpush.events import InputWarned
from regpush.ownership import Rule
from regpush.sources.lock.artifact import Artifact, ArtifactLayout, item_of
from regpush.sources.lock.graph import acyclic
from regpush.sources.node.lock import Locked, read_manifest
from regpush.sources.node.parts import (
    NodeParts,
    NodeProject,
    artifact,
    generated,
    likely_size,
    warn_of_engines,
    warn_of_scripts,
)
from regpush.sources.node.pnpm import (
    Selection,
    Snapshot,
    check_fresh,
    choose,
    is_name,
    read,
)
from regpush.sources.node.pnpm_settings import PnpmSettings
from regpush.sources.node.tarball import (
    LAYOUT,
    Manner,
    Place,
    Program,
    Tarball,
    link,
    program_link,
)

_STORE = "node_modules/.pnpm"
_HOISTED = f"{_STORE}/node_modules"
_Commands: TypeAlias = Mapping[str, str]
"""A package's programs: the file by the program's name."""
_BUNDLED = re.compile(r"(node_modules/((?:@[^/]+/)?[^/]+))/package\.json", re.DOTALL)
_COMMAND = re.compile(r"\$|(?!\.{1,2}$)[A-Za-z0-9_.!~*'()-]+", re.ASCII)


def parts(path: str, project: NodeProject) -> NodeParts:
    """Make the items of a project with the `pnpm-lock.yaml` at `path`.

    Raises UsageError where the lock file cannot be pushed, SourceError where it cannot be read.
    """
    lock = read(path)
    check_fresh(lock)
    selection = choose(lock, project.target, groups=project.groups)
    settings = PnpmSettings.of(project.root, project.npmrc)
    _warn_of_layout(settings, project)
    listed = settings.may_build()
    scripted = [one.package for one in selection.snapshots.values() if one.package.name in listed]
    warn_of_scripts(
        (Locked(at=one.at, value={**one.value, "hasInstallScript": True}) for one in scripted),
        project.workshop,
    )
    warn_of_engines((one.package for one in selection.snapshots.values()), project)
    layout = _Layout(selection=selection, project=project, listed=listed)
    local = layout.local_programs
    return NodeParts(
        text=lock.text,
        packages=layout.packages(),
        links=list(layout.links()),
        programs=[
            Rule(pattern=glob.escape(f"{folder}/{file}".lstrip("/")), mode=0o755)
            for folder, file in dict.fromkeys((folder, file) for _, folder, _, file in local)
        ],
    )


def _warn_of_layout(settings: PnpmSettings, project: NodeProject) -> None:
    for one in settings.other_layouts():
        message = f"{one} has no effect: regpush lays packages out as pnpm's node-linker=isolated"
        project.workshop.notify(InputWarned(message=message))


def hoisted(selection: Selection, names: Mapping[str, str]) -> dict[str, str]:
    """Choose the links in `.pnpm/node_modules`, which every package can import from.

    Returns the target folder of each link by its name (alias). `names`: folders of local packages
    by name. Of several packages with one alias, the one nearest to the project is used, then the
    first by its folder's name (pnpm, `pkg-manager/hoist`).
    """
    root = next((one for one in selection.importers if not one.folder), None)
    taken = {*root.children, *root.links} if root else set()
    found: dict[str, str] = {}

    def hoist(alias: str, to: str) -> None:
        if alias.lower() not in taken:
            taken.add(alias.lower())
            found[alias] = to

    for name, folder in names.items():
        hoist(name, folder)
    direct = [pair for one in selection.importers for pair in one.children.items()]
    for alias, key in direct:
        hoist(alias, selection.snapshots[key].at)
    for key in _by_depth(selection, [key for _, key in direct]):
        for alias, child in selection.snapshots[key].children.items():
            hoist(alias, selection.snapshots[child].at)
    return found


def _by_depth(selection: Selection, start: list[str]) -> list[str]:
    """List the keys of all snapshots reachable from `start`, nearest first, then by folder.

    The depth of a snapshot is the one at which pnpm's `lockfile/walker` finds it.
    """
    depths: dict[str, int] = {}
    pending = [(0, start)]
    while pending:
        depth, keys = pending.pop()
        new = [key for key in dict.fromkeys(keys) if key not in depths]
        depths |= dict.fromkeys(new, depth)
        steps = [(depth + 1, list(selection.snapshots[key].children.values())) for key in new]
        pending += reversed(steps)
    return sorted(depths, key=lambda key: (depths[key], selection.snapshots[key].at))


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The image paths of the packages and links of a selection.

    `listed`: names of the packages whose install scripts pnpm would run.
    """

    selection: Selection
    project: NodeProject
    listed: frozenset[str]

    def packages(self) -> list[Item]:
        """Make an item of each package, in the lock file's order."""
        snapshots, project = self.selection.snapshots, self.project
        artifacts = {key: artifact(one.package, project) for key, one in snapshots.items()}
        edges = acyclic({key: list(one.children.values()) for key, one in snapshots.items()})
        bins = self._program_folders()
        commands = cache(lambda key: self._commands(snapshots[key], artifacts[key]))

        def layout(one: Snapshot) -> ArtifactLayout:
            linking = [key for key in one.children.values() if snapshots[key].has_programs]
            inside = all(_is_inside(folder) for folder, _ in bins[one.key])
            return ArtifactLayout(
                path=self._path(one),
                folder=f"{project.root_dir}/node_modules" if inside else project.root_dir,
                rules={
                    "pnpm": LAYOUT,
                    "path": f"{project.root_dir}/{one.at}",
                    "links": [list(pair) for pair in self._links(one)],
                    "bins": [list(pair) for pair in bins[one.key]],
                    "linking": [[key, artifacts[key].package.hashes[0][1]] for key in linking],
                    **({"complete": str(project.target.machine)} if self._builds(one) else {}),
                },
                entries=partial(self._entries, one, bins[one.key], linking, commands),
            )

        return [
            item_of(
                artifacts[key],
                layout(one),
                opened=project.opened,
                begin=project.fetcher.begin,
                references=tuple(self._path(snapshots[child]) for child in edges[key]),
                unsaid=likely_size(one.package),
            )
            for key, one in snapshots.items()
        ]

    def _path(self, one: Snapshot) -> str:
        """Return the item's path: the package's folder in `.pnpm`, whose name has the version."""
        return f"{self.project.root_dir}/{_STORE}/{one.folder}"

    def _builds(self, one: Snapshot) -> bool:
        return one.package.name in self.listed and not one.package.flag("optional")

    def _links(self, one: Snapshot) -> Iterator[tuple[str, str]]:
        """Yield the links by which a package finds its dependencies: path and target of each.

        They are beside the package, in its `node_modules` folder. Paths are relative to the
        project.
        """
        beside = f"{_STORE}/{one.folder}/node_modules"
        for alias, key in sorted(one.children.items()):
            if alias != one.package.name:
                yield f"{beside}/{alias}", self.selection.snapshots[key].at
        for alias, folder in sorted(one.links.items()):
            yield f"{beside}/{alias}", folder

    def _program_folders(self) -> dict[str, list[tuple[str, str]]]:
        """Find the `.bin` folders that get links to a package's programs, by the package's key.

        Returns pairs of a folder and the path of the package that its links use. The `.bin` folders
        in other packages are not included.
        """
        found: dict[str, list[tuple[str, str]]] = {key: [] for key in self.selection.snapshots}
        for one in self.selection.importers:
            for key in one.children.values():
                found[key].append((f"{one.modules}/.bin", self.selection.snapshots[key].at))
        at = {one.at: key for key, one in self.selection.snapshots.items()}
        for alias, to in self._hoisted.items():
            if to in at:
                found[at[to]].append((f"{_HOISTED}/.bin", f"{_HOISTED}/{alias}"))
        return {
            key: sorted(set(folders)) if self.selection.snapshots[key].has_programs else []
            for key, folders in found.items()
        }

    def _entries(
        self,
        one: Snapshot,
        folders: Sequence[tuple[str, str]],
        linking: Sequence[str],
        commands: Callable[[str], _Commands],
        path: str,
    ) -> Iterator[Entry]:
        project = self.project
        tarball = project.unpacked(path, one.package.named, Manner.PNPM)
        if not (one.package.flag("optional") or self._has_platform_packages(one)):
            tarball.check_complete(project.target.machine)
        mine = commands_of(tarball, one.package.name) if one.has_programs else {}
        mine = {name: file for name, file in mine.items() if file in tarball.files}
        links = list(self._links(one))
        for key in linking:
            at = self.selection.snapshots[key].at
            links += [
                (name, f"{at}/{file}") for name, file in self._own_programs(one, commands(key))
            ]
        inside = bundled(tarball)
        links += [(name, f"{one.at}/{file}") for name, file in self._own_programs(one, inside)]
        links += [
            (f"{folder}/{name}", f"{way}/{file}")
            for folder, way in folders
            for name, file in mine.items()
        ]
        outside = {folder.removesuffix("/.bin") for folder, _ in folders if not _is_inside(folder)}
        return tarball.entries(
            Place(
                root=project.root_dir,
                at=one.at,
                tops=("node_modules", *sorted(outside)),
                runnable=frozenset((*mine.values(), *inside.values())),
                links=tuple(links),
            )
        )

    def _own_programs(self, one: Snapshot, commands: _Commands) -> Iterator[tuple[str, str]]:
        """Yield the links to `commands` in the package's own `.bin`: path and file of each."""
        return ((f"{one.at}/node_modules/.bin/{name}", file) for name, file in commands.items())

    def _commands(self, one: Snapshot, artifact: Artifact) -> _Commands:
        path = self.project.fetcher.path(artifact)
        tarball = self.project.unpacked(path, one.package.named, Manner.PNPM)
        return commands_of(tarball, one.package.name)

    def _has_platform_packages(self, one: Snapshot) -> bool:
        """Whether the package has an optional dependency for some platforms only.

        Such a dependency usually contains the package's machine code.
        """
        children = (self.selection.snapshots[key].package for key in one.children.values())
        return any(child.flag("optional") and "cpu" in child.value for child in children)

    @cached_property
    def _hoisted(self) -> dict[str, str]:
        """The target folder of each link in `.pnpm/node_modules`, by the name of the link."""
        found = {}
        for one in self.selection.importers:
            name = read_manifest(os.path.join(self.project.root, one.folder)).get("name")
            if one.folder and isinstance(name, str) and is_name(name):
                found[name] = one.folder
        return hoisted(self.selection, found)

    def links(self) -> Iterator[Item]:
        """Make one item of all links outside of packages; none where there are no links.

        These lead from local packages to their dependencies, from `.pnpm/node_modules` to packages,
        and to the programs of local packages.
        """
        root = self.project.root_dir
        made: list[Entry] = []
        tops = ["node_modules"]
        for one in self.selection.importers:
            tops.append(one.modules)
            for alias, key in one.children.items():
                at = self.selection.snapshots[key].at
                made.append(link(root, f"{one.modules}/{alias}", at))
            made += [link(root, f"{one.modules}/{alias}", to) for alias, to in one.links.items()]
        for alias, to in self._hoisted.items():
            made.append(link(root, f"{_HOISTED}/{alias}", to))
        for folder, at, name, file in self.local_programs:
            made.append(program_link(root, Program(folder=folder, name=name, file=file), at))
        if made:
            tops_encoded = [image_path(f"{root}/{top}") for top in tops]
            yield generated("package links", {one.path: one for one in made}, tops_encoded)

    @cached_property
    def local_programs(self) -> Sequence[tuple[str, str, str, str]]:
        """The programs of local packages that another local package depends on.

        For each: the `.bin` folder of the dependent package, the folder of the package with the
        program, the program's name, and its file.
        """
        found = []
        for one in self.selection.importers:
            for folder in one.links.values():
                place = os.path.join(self.project.root, folder)
                for name, file in _listed(read_manifest(place)).items():
                    if os.path.isfile(os.path.join(place, file)):
                        found.append((f"{one.modules}/.bin", folder, name, file))
        return found


def _is_inside(folder: str) -> bool:
    return folder.startswith("node_modules/")


def commands_of(tarball: Tarball, name: str) -> _Commands:
    """Return the programs of the package `name` in a tarball: files relative to it, by name.

    pnpm, `pkg-manager/package-bins`.
    """
    return _of_manifest(tarball.manifest(), name, tarball.files)


def bundled(tarball: Tarball) -> _Commands:
    """Return the programs of the packages that are bundled in a tarball: the file by name.

    Files are relative to the folder of the tarball's own package.
    """
    found: dict[str, str] = {}
    for path in tarball.files:
        if match := _BUNDLED.fullmatch(path):
            commands = _of_manifest(tarball.manifest(match[1]), match[2], ())
            found |= {name: f"{match[1]}/{file}" for name, file in commands.items()}
    return found


def _of_manifest(manifest: bytes, name: str, files: Iterable[str]) -> _Commands:
    try:
        value = json.loads(manifest)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    directories = value.get("directories")
    folder = directories.get("bin") if isinstance(directories, dict) else None
    if value.get("bin") or not isinstance(folder, str):
        return _listed({"name": name, **value})
    top = os.path.normpath("/" + folder).strip("/")
    return {path.rpartition("/")[2]: path for path in files if path.startswith(f"{top}/")}


def _listed(manifest: Mapping[str, Any]) -> _Commands:
    """Return the programs that `bin` of a `package.json` lists: the file by name."""
    said = manifest.get("bin")
    given = {str(manifest.get("name")): said} if isinstance(said, str) else said
    found = {}
    for key, file in given.items() if isinstance(given, dict) else ():
        name = key.rpartition("/")[2] if key.startswith("@") else key
        if isinstance(file, str) and _COMMAND.fullmatch(name):
            inside = os.path.normpath(file.lstrip("/"))
            if not inside.startswith("../") and inside not in ("..", "."):
                found[name] = inside
    return found
