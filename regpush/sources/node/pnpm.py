"""Read a `pnpm-lock.yaml` of version 9, and choose the packages that an image needs.

pnpm, `lockfile/types` and `packages/dependency-path`: a snapshot is a package together with its
resolved peer dependencies; its key is `name@version(peer@version)…`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from regpush.errors import UsageError, printable
from regpush.sources.node.choice import NodeTarget
from regpush.sources.node.lock import Locked, quoted, read_manifest, read_text

_TABLES = {"dependencies": "prod", "optionalDependencies": "optional", "devDependencies": "dev"}
_LONGEST = 120
"""Maximum characters of a folder's name in `.pnpm` (pnpm, "virtualStoreDirMaxLength")."""
_FOLDER = re.compile(r"(?!\.{1,2}$|\.wh\.)[^/\\\0\n\r]+")
_NAME = re.compile(r"(?:@[^/\\\0\n\r@]+/)?(?!\.|node_modules$)[^/\\\0\n\r@]+")


class Snapshot(Struct, frozen=True, kw_only=True):
    """A package in the lock file, with its resolved dependencies.

    `children`: keys of the snapshots that it depends on, by alias. `links`: folders of the local
    packages that it depends on, relative to the project, by alias. `has_programs`: whether its
    `package.json` names programs (`bin`).
    """

    key: str
    package: Locked
    children: Mapping[str, str]
    links: Mapping[str, str]
    has_programs: bool

    @property
    def folder(self) -> str:
        """The snapshot's folder name in `node_modules/.pnpm` (pnpm's `depPathToFilename`)."""
        return folder_name(self.key)

    @property
    def at(self) -> str:
        """The folder of the package's files, relative to the project."""
        return f"node_modules/.pnpm/{self.folder}/node_modules/{self.package.name}"


class Importer(Struct, frozen=True, kw_only=True):
    """A local package: the project or a workspace member.

    `folder`: relative to the project, empty for the project itself. `children`: keys of the
    snapshots that it depends on, by alias. `links`: folders of the local packages that it depends
    on, by alias.
    """

    folder: str
    children: Mapping[str, str]
    links: Mapping[str, str]

    @property
    def modules(self) -> str:
        """The local package's folder `node_modules`, as a path relative to the project."""
        return f"{self.folder}/node_modules".lstrip("/")


class Selection(Struct, frozen=True, kw_only=True):
    """The packages of a lock file that an image needs.

    `importers`: the local packages. `snapshots`: the others by key, in the lock file's order.
    """

    importers: Sequence[Importer]
    snapshots: Mapping[str, Snapshot]


@dataclass(frozen=True, slots=True, kw_only=True)
class PnpmLock:
    """The `pnpm-lock.yaml` at `path`; `text`: its bytes, `value`: its YAML with scalars as text."""

    path: str
    text: bytes = field(repr=False)
    value: Mapping[str, Any] = field(repr=False)

    @property
    def root(self) -> str:
        """The folder of the project."""
        return os.path.dirname(self.path)

    def table(self, *keys: str) -> Mapping[str, Any]:
        """Return the table at the path `keys` of nested keys; empty where it is missing."""
        found: Any = self.value
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}


def folder_name(key: str) -> str:
    """Return the name of the folder in `node_modules/.pnpm` for a snapshot's key.

    pnpm 10, `depPathToFilename`.
    """
    plain = key.replace(":", "+", 1) if key.startswith("file:") else key
    name = re.sub(r'[\\/:*?"<>|#]', "+", plain)
    if "(" in name:
        name = re.sub(r"\)\(|\(|\)", "_", name.removesuffix(")"))
    if len(name) > _LONGEST or (name != name.lower() and not name.startswith("file+")):
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        return f"{name[: _LONGEST - 33]}_{digest}"
    return name


def is_name(text: str) -> bool:
    """Whether `text` is a valid name of a package, which is also the name of a folder."""
    return _NAME.fullmatch(text) is not None


def read_yaml(path: str) -> tuple[bytes, Mapping[str, Any]]:
    """Read the YAML file at `path`; return its bytes, and its table with every scalar as text.

    Raises UsageError where the file is not YAML or no table, SourceError where it cannot be read.
    """
    import yaml  # takes 15 ms, which only a pnpm-lock.yaml needs

    text = read_text(path)
    try:
        # The base loader makes only texts, lists and tables: no number, date or object.
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        value = yaml.load(text, Loader=loader)  # noqa: S506 (this loader makes no objects)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = printable(str(error).partition("\n")[0])
        raise UsageError(f"{printable(path)} is not YAML: {said}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{printable(path)} must contain a YAML mapping")
    return text, value


def read(path: str) -> PnpmLock:
    """Read the `pnpm-lock.yaml` at `path`.

    Raises UsageError where it is malformed or of another version, SourceError where it cannot be
    read.
    """
    text, value = read_yaml(path)
    version = value.get("lockfileVersion")
    if not isinstance(version, str) or version.partition(".")[0] != "9":
        raise UsageError(
            f"{printable(path)} has the lockfileVersion {printable(str(version))}, and 9 is "
            "needed: create it again by 'pnpm install --lockfile-only' with pnpm 9 or 10"
        )
    return PnpmLock(path=path, text=text, value=value)


def check_fresh(lock: PnpmLock) -> None:
    """Raise UsageError where a `package.json` lists other dependencies than the lock file.

    The project and its local packages are compared: names and permitted versions.
    """
    overridden = lock.table("overrides")
    for folder in lock.table("importers"):
        manifest = Locked(at=folder, value=read_manifest(os.path.join(lock.root, folder)))
        if not manifest.value:
            raise UsageError(
                f"pnpm-lock.yaml lists a package in the folder {printable(folder)}, which has no "
                "package.json: run 'pnpm install'"
            )
        wanted = {name: said for key in _TABLES for name, said in manifest.table(key).items()}
        locked = {
            name: one.get("specifier") if isinstance(one, dict) else None
            for key in _TABLES
            for name, one in lock.table("importers", folder, key).items()
        }
        for name in sorted(wanted.keys() | locked.keys()):
            same = wanted.get(name) == locked.get(name) or (overridden and name in locked)
            # With autoInstallPeers, the lock file lists the project's peers as dependencies.
            if not same and name not in manifest.table("peerDependencies"):
                asked, had = quoted(wanted.get(name) or None), quoted(locked.get(name) or None)
                raise UsageError(
                    f"pnpm-lock.yaml is out of date: the dependency {printable(name)} is {asked} "
                    f"in {printable(os.path.join(folder, 'package.json'))}, and {had} in the lock "
                    "file: run 'pnpm install'"
                )


def choose(lock: PnpmLock, target: NodeTarget, *, groups: Sequence[str]) -> Selection:
    """Choose the packages that `pnpm install --prod` would install on `target`.

    `groups` may contain `dev`, for development dependencies too. Raises UsageError where a package
    that the project requires does not run on `target`, for an unknown group, and for a malformed
    lock file.
    """
    if unknown := next((one for one in groups if one != "dev"), None):
        raise UsageError(f"--group {unknown}: pnpm has only the group dev")
    kinds = [key for key, kind in _TABLES.items() if kind != "dev" or "dev" in groups]
    found: dict[str, Snapshot | None] = {}
    importers = []
    for folder in lock.table("importers"):
        at = "" if folder == "." else folder
        if at and not all(_FOLDER.fullmatch(part) for part in at.split("/")):
            raise UsageError(
                f"pnpm-lock.yaml lists a local package in the folder '{printable(folder)}', "
                "outside of the project: push the folder that contains both"
            )
        needs, links = _needs(lock, ("importers", folder), kinds, at)
        _follow(lock, target, list(needs.values()), found)
        children = {alias: key for alias, key in needs.items() if found[key]}
        importers.append(Importer(folder=at, children=children, links=links))
    kept = {key: one for key, one in found.items() if one}
    order = [key for key in lock.table("snapshots") if key in kept]
    return Selection(
        importers=importers, snapshots={key: _pruned(kept[key], kept) for key in order}
    )


def _pruned(one: Snapshot, kept: Mapping[str, Snapshot]) -> Snapshot:
    """Copy a snapshot without the dependencies that are not in `kept`."""
    children = {alias: key for alias, key in one.children.items() if key in kept}
    return Snapshot(key=one.key, package=one.package, children=children, links=one.links,
                    has_programs=one.has_programs)  # fmt: skip


def _follow(
    lock: PnpmLock, target: NodeTarget, pending: list[str], found: dict[str, Snapshot | None]
) -> None:
    """Add the snapshots with the keys `pending`, and all their dependencies, to `found`.

    An optional snapshot that does not run on `target` is added as None. Raises UsageError where a
    required one does not run on `target`, and for a malformed lock file.
    """
    while pending:
        key = pending.pop()
        if key in found:
            continue
        one = _snapshot(lock, key)
        if target.accepts(one.package):
            found[key] = one
            pending += one.children.values()
        elif one.package.flag("optional"):
            found[key] = None
        else:
            raise UsageError(
                f"the project requires {one.package.named}, which does not run on "
                f"{target.platform} with {target.libc} (os, cpu and libc in the lock file)"
            )


def _snapshot(lock: PnpmLock, key: str) -> Snapshot:
    snapshot = lock.table("snapshots").get(key)
    bare = key.partition("(")[0]
    package = lock.table("packages").get(bare)
    name, _, version = bare[1:].partition("@")
    name = bare[:1] + name
    if not isinstance(snapshot, dict) or not isinstance(package, dict):
        raise UsageError(
            f"pnpm-lock.yaml is damaged: a package in it depends on {printable(key)}, which it "
            "does not list; run 'pnpm install'"
        )
    if not _NAME.fullmatch(name) or not _FOLDER.fullmatch(folder_name(key)):
        raise UsageError(
            f"pnpm-lock.yaml is damaged: {printable(key)} is not a name that npm allows; run 'pnpm "
            "install'"
        )
    if "(patch_hash=" in key:
        raise UsageError(
            f"{printable(bare)} is patched (patchedDependencies), and regpush applies no patches: "
            "publish the patched package, or run 'pnpm install' and push the folder without the "
            "prefix node:"
        )
    children, links = _needs(lock, ("snapshots", key), ["dependencies", "optionalDependencies"], "")
    return Snapshot(
        key=key,
        package=_locked(key, name, version, package, snapshot),
        children=children,
        links=links,
        has_programs=package.get("hasBin") == "true",
    )


def _locked(
    key: str, name: str, version: str, package: Mapping[str, Any], snapshot: Mapping[str, Any]
) -> Locked:
    """Convert a package of a `pnpm-lock.yaml` into the form of npm's lock files.

    Raises UsageError for a package from git or from a folder, of which the lock file has no hash.
    """
    resolution = package.get("resolution")
    said = resolution if isinstance(resolution, dict) else {}
    if said.get("type") == "git" or "repo" in said:
        raise UsageError(
            f"{printable(name)} comes from git, so the lock file has no hash of its files: depend "
            "on a release of it, or on a tarball ('pnpm pack')"
        )
    if said.get("type") == "directory" or "directory" in said:
        raise UsageError(
            f"{printable(key)} is a dependency on a folder (file:), of which the lock file has no "
            "hash: make it a member of the workspace (pnpm-workspace.yaml)"
        )
    number = package.get("version", version)
    return Locked(
        at=key,
        value={
            **package,
            "name": name,
            "version": "" if ":" in str(number) else number,
            "resolved": said.get("tarball", ""),
            "integrity": said.get("integrity", ""),
            "optional": snapshot.get("optional") == "true",
        },
    )


def _needs(
    lock: PnpmLock, at: tuple[str, ...], kinds: Sequence[str], folder: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the dependencies of the table at `at`: snapshots' keys, and local folders, by alias.

    `kinds`: the names of the tables of dependencies to read. `folder`: the folder to which paths of
    local packages are relative. Raises UsageError for a malformed name, and for a folder outside of
    the project.
    """
    needs: dict[str, str] = {}
    links: dict[str, str] = {}
    for alias, said in _versions(lock, at, kinds):
        if not _NAME.fullmatch(alias) or not isinstance(said, str):
            raise UsageError(
                f"pnpm-lock.yaml is damaged: the dependency '{printable(alias)}' has a malformed "
                "name or version; run 'pnpm install'"
            )
        if not said.startswith("link:"):
            needs[alias] = _key(alias, said)
            continue
        place = os.path.normpath(os.path.join(folder, said.removeprefix("link:")))
        if place.startswith(("../", "/")) or place == "..":
            raise UsageError(
                f"the dependency {printable(alias)} is a link to '{printable(place)}', outside of "
                "the project: push the folder that contains both"
            )
        links[alias] = place
    return needs, links


def _versions(
    lock: PnpmLock, at: tuple[str, ...], kinds: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    for kind in kinds:
        for alias, one in lock.table(*at, kind).items():
            yield alias, one.get("version") if isinstance(one, dict) else one


def _key(alias: str, said: str) -> str:
    """Return the key of the snapshot that a dependency refers to (pnpm's `refToRelative`).

    `said`: the dependency's value in the lock file: a version of the package `alias`, or the key of
    a package with another name.
    """
    at, brackets, colon = said.find("@", 1), said.find("("), said.find(":")
    if said.startswith("@"):
        return said
    is_key = at > 0 and not -1 < brackets < at and not -1 < colon < at
    return said if is_key else f"{alias}@{said}"
