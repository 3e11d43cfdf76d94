"""Read a `pnpm-lock.yaml` of version 9, and choose the packages that an image needs.

pnpm, `lockfile/types` and `packages/dependency-path`: a snapshot is a package with its peers; its
key is `name@version(peer@version)…`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regpush.errors import UsageError, printable
from regpush.sources.node.choice import NodeTarget
from regpush.sources.node.lock import Locked, read_manifest, read_text

_TABLES = {"dependencies": "prod", "optionalDependencies": "optional", "devDependencies": "dev"}
_LONGEST = 120
"""Maximum characters of a folder's name (pnpm, "virtualStoreDirMaxLength")."""
_FOLDER = re.compile(r"(?!\.{1,2}$|\.wh\.)[^/\\\0\n\r]+")
_NAME = re.compile(r"(?:@[^/\\\0\n\r@]+/)?(?!\.|node_modules$)[^/\\\0\n\r@]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A package of the lock with its peers; `children`: keys of other snapshots by alias.

    `links`: folders of local packages by alias, relative to the project.
    """

    key: str
    package: Locked
    children: Mapping[str, str]
    links: Mapping[str, str]
    has_programs: bool

    @property
    def folder(self) -> str:
        """The name of the snapshot's folder in `.pnpm` (`depPathToFilename`)."""
        return folder_name(self.key)

    @property
    def at(self) -> str:
        """The folder of the package's files, relative to the project."""
        return f"node_modules/.pnpm/{self.folder}/node_modules/{self.package.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """A local package: its `folder` relative to the project, empty for the project itself."""

    folder: str
    children: Mapping[str, str]
    links: Mapping[str, str]

    @property
    def modules(self) -> str:
        """The local package's folder `node_modules`, as a path relative to the project."""
        return f"{self.folder}/node_modules".lstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The part of a lock that an image needs: local packages, and snapshots by key."""

    importers: Sequence[Importer]
    snapshots: Mapping[str, Snapshot]


@dataclass(frozen=True, slots=True, kw_only=True)
class PnpmLock:
    """The lock at `path`; `value`: its content, with every scalar as text."""

    path: str
    text: bytes = field(repr=False)
    value: Mapping[str, Any] = field(repr=False)

    @property
    def root(self) -> str:
        """The folder of the project."""
        return os.path.dirname(self.path)

    def table(self, *keys: str) -> Mapping[str, Any]:
        """Return the table at `keys`, one key below the other; empty where it is missing."""
        found: Any = self.value
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}


def folder_name(key: str) -> str:
    """Convert a snapshot's key into the name of its folder in `.pnpm`.

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
    """Whether `text` is allowed as a package's name, which becomes the name of a folder."""
    return _NAME.fullmatch(text) is not None


def read_yaml(path: str) -> tuple[bytes, Mapping[str, Any]]:
    """Read the table in the YAML file at `path`, every scalar as text.

    Returns the bytes of the file and the table. Raises UsageError, SourceError.
    """
    import yaml  # 15 ms, for locks of pnpm

    text = read_text(path)
    try:
        # The base loader makes nothing but text, lists and tables.
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        value = yaml.load(text, Loader=loader)  # noqa: S506 (no objects, see above)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = printable(str(error).partition("\n")[0])
        raise UsageError(f"{printable(path)} is not YAML: {said}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{printable(path)} is not a table")
    return text, value


def read(path: str) -> PnpmLock:
    """Read the lock at `path`. Raises UsageError where it cannot be pushed, SourceError."""
    text, value = read_yaml(path)
    version = value.get("lockfileVersion")
    if not isinstance(version, str) or version.partition(".")[0] != "9":
        raise UsageError(
            f"{printable(path)} is of version {printable(str(version))}, not 9: "
            "'pnpm install --lockfile-only' of pnpm 9 or 10 rewrites it"
        )
    return PnpmLock(path=path, text=text, value=value)


def check_fresh(lock: PnpmLock) -> None:
    """Raise UsageError where a `package.json` and the lock name different dependencies."""
    overridden = lock.table("overrides")
    for folder in lock.table("importers"):
        manifest = Locked(at=folder, value=read_manifest(os.path.join(lock.root, folder)))
        if not manifest.value:
            raise UsageError(
                f"pnpm-lock.yaml has a package at {printable(folder)}, which has no package.json: "
                "run 'pnpm install'"
            )
        wanted = {name: said for key in _TABLES for name, said in manifest.table(key).items()}
        locked = {
            name: one.get("specifier") if isinstance(one, dict) else None
            for key in _TABLES
            for name, one in lock.table("importers", folder, key).items()
        }
        for name in sorted(wanted.keys() | locked.keys()):
            same = wanted.get(name) == locked.get(name) or (overridden and name in locked)
            # autoInstallPeers: the lock has the project's own peers among its dependencies.
            if not same and name not in manifest.table("peerDependencies"):
                asked = printable(wanted.get(name) or "does not need it")
                had = printable(locked.get(name) or "does not have it")
                raise UsageError(
                    f"pnpm-lock.yaml is stale: {printable(name)} is '{asked}' in "
                    f"{printable(os.path.join(folder, 'package.json'))} and '{had}' in the lock: "
                    "run 'pnpm install'"
                )


def choose(lock: PnpmLock, target: NodeTarget, *, groups: Sequence[str]) -> Selection:
    """Choose what `pnpm install --prod` would install for `target`, in the lock's order.

    Raises UsageError where a needed package is for other platforms, and for a malformed lock.
    """
    if unknown := next((one for one in groups if one != "dev"), None):
        raise UsageError(f"--group {unknown}: packages of pnpm have the group dev, and no other")
    kinds = [key for key, kind in _TABLES.items() if kind != "dev" or "dev" in groups]
    found: dict[str, Snapshot | None] = {}
    importers = []
    for folder in lock.table("importers"):
        at = "" if folder == "." else folder
        if at and not all(_FOLDER.fullmatch(part) for part in at.split("/")):
            raise UsageError(
                f"pnpm-lock.yaml has a package at '{printable(folder)}', which is outside of the "
                "project"
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
    """Copy a snapshot without the children that are for other platforms."""
    children = {alias: key for alias, key in one.children.items() if key in kept}
    return Snapshot(key=one.key, package=one.package, children=children, links=one.links,
                    has_programs=one.has_programs)  # fmt: skip


def _follow(
    lock: PnpmLock, target: NodeTarget, pending: list[str], found: dict[str, Snapshot | None]
) -> None:
    """Add `pending` snapshots and their dependencies to `found`.

    None stands for an optional snapshot that is for other platforms.
    """
    while pending:
        key = pending.pop()
        if key in found:
            continue
        one = _snapshot(lock, key)
        if target.takes(one.package):
            found[key] = one
            pending += one.children.values()
        elif one.package.said("optional"):
            found[key] = None
        else:
            raise UsageError(
                f"{one.package.named} is not for {target.platform} with {target.libc}, as the lock "
                "says, and the project needs it"
            )


def _snapshot(lock: PnpmLock, key: str) -> Snapshot:
    snapshot = lock.table("snapshots").get(key)
    bare = key.partition("(")[0]
    package = lock.table("packages").get(bare)
    name, _, version = bare[1:].partition("@")
    name = bare[:1] + name
    if not isinstance(snapshot, dict) or not isinstance(package, dict):
        raise UsageError(f"pnpm-lock.yaml needs {printable(key)}, and does not have it: lock again")
    if not _NAME.fullmatch(name) or not _FOLDER.fullmatch(folder_name(key)):
        raise UsageError(f"pnpm-lock.yaml has a package with a name that npm does not allow: "
                         f"{printable(key)}")  # fmt: skip
    if "(patch_hash=" in key:
        raise UsageError(
            f"{printable(bare)} is patched (patchedDependencies), and patches are not applied "
            "by regpush: publish the patched package, or install and push the folder as a directory"
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
    """Convert a package of the lock into the form of npm's locks. Raises UsageError."""
    resolution = package.get("resolution")
    said = resolution if isinstance(resolution, dict) else {}
    if said.get("type") == "git" or "repo" in said:
        raise UsageError(
            f"{printable(name)} comes from git, so the lock has no hash of its files: depend on a "
            "release of it, or on a tarball"
        )
    if said.get("type") == "directory" or "directory" in said:
        raise UsageError(
            f"{printable(key)} is a folder that pnpm copies: make it a member of the workspace"
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
    """Read dependencies by alias: keys of snapshots, and folders of local packages.

    Raises UsageError for a name that is not allowed, and a folder outside of the project.
    """
    needs: dict[str, str] = {}
    links: dict[str, str] = {}
    for alias, said in _said(lock, at, kinds):
        if not _NAME.fullmatch(alias) or not isinstance(said, str):
            raise UsageError(f"pnpm-lock.yaml: {printable(alias)} is not a name of a package")
        if not said.startswith("link:"):
            needs[alias] = _key(alias, said)
            continue
        place = os.path.normpath(os.path.join(folder, said.removeprefix("link:")))
        if place.startswith(("../", "/")) or place == "..":
            raise UsageError(
                f"{printable(alias)} is linked to '{printable(place)}', which is outside of the "
                "project"
            )
        links[alias] = place
    return needs, links


def _said(lock: PnpmLock, at: tuple[str, ...], kinds: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for kind in kinds:
        for alias, one in lock.table(*at, kind).items():
            yield alias, one.get("version") if isinstance(one, dict) else one


def _key(alias: str, said: str) -> str:
    """Return the key of the snapshot that the dependency `alias` means (`refToRelative`).

    `said`: a version of the package `alias`, or already the key of a package with another name.
    """
    at, brackets, colon = said.find("@", 1), said.find("("), said.find(":")
    if said.startswith("@"):
        return said
    is_key = at > 0 and not -1 < brackets < at and not -1 < colon < at
    return said if is_key else f"{alias}@{said}"
