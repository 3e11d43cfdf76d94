"""Find and read the lock file of a Node project; npm's `package-lock.json` of version 2 or 3.

npm documentation, "package-lock.json". The `pnpm-lock.yaml` is read in `pnpm`.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from regpush.errors import SourceError, UsageError, printable
from regpush.sources.lock.artifact import secure_hashes

_NAMES = ("npm-shrinkwrap.json", "package-lock.json")
"""Names of npm's lock files, in the order in which npm looks for them."""
PNPM = "pnpm-lock.yaml"
_OTHERS = {"yarn.lock": "Yarn", "bun.lock": "Bun", "bun.lockb": "Bun"}
_LARGEST = 256 << 20
_STRENGTH = ("sha512", "sha384", "sha256")
"""Algorithms of Subresource Integrity (W3C), the strongest first."""
_PART = re.compile(r"(?!\.{1,2}(?:/|$)|\.wh\.)[^/\\\0\n\r]+")
_PACKAGE = re.compile(r"(?:.*/)?node_modules/((?:@[^/]+/)?[^/]+)", re.DOTALL)
_EDGES = ("dependencies", "optionalDependencies", "peerDependencies")


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A package in a lock file.

    `at`: the package's folder relative to the project, empty for the project itself. `value`: the
    package's table in the lock file.
    """

    at: str
    value: Mapping[str, Any] = field(repr=False)

    @property
    def folder_name(self) -> str:
        """The package's name in `node_modules`, by which others import it, such as `@scope/name`.

        Empty for a local package, whose folder is not in a `node_modules`.
        """
        match = _PACKAGE.fullmatch(self.at)
        return match[1] if match else ""

    @property
    def name(self) -> str:
        """The package's name in its registry; an alias (`npm:`) has another folder name."""
        return self.text("name") or self.folder_name

    @property
    def version(self) -> str:
        """The package's version; empty where the lock file states none."""
        return self.text("version")

    @property
    def named(self) -> str:
        """The package's name and version, printable, for messages: `express 4.19.2`."""
        return printable(f"{self.name} {self.version}".strip())

    @property
    def modules(self) -> str:
        """The folder `node_modules` that contains the package, relative to the project."""
        return self.at[: -len(self.folder_name) - 1]

    @property
    def parent(self) -> str:
        """The folder whose `node_modules` contains the package, relative to the project.

        This is the folder of another package or of a workspace member; empty for the project.
        """
        return self.modules.removesuffix("node_modules").rstrip("/")

    def text(self, key: str) -> str:
        """Return the text at `key` of the package's table; empty where it is missing or no text."""
        found = self.value.get(key)
        return found if isinstance(found, str) else ""

    def flag(self, key: str) -> bool:
        """Whether the value at `key` of the package's table is true."""
        return self.value.get(key) is True

    def table(self, key: str) -> Mapping[str, str]:
        """Return the texts in the table at `key` of the package, by name; empty if it has none."""
        found = self.value.get(key)
        if not isinstance(found, dict):
            return {}
        return {name: text for name, text in found.items() if isinstance(text, str)}

    def needs(self) -> Iterator[tuple[str, bool]]:
        """Yield the name of each dependency, peers included, and whether it is required."""
        meta = self.value.get("peerDependenciesMeta")
        weak = {
            name
            for name, one in (meta.items() if isinstance(meta, dict) else ())
            if isinstance(one, dict) and one.get("optional") is True
        }
        optional = self.table("optionalDependencies")
        for key in _EDGES:
            for name in self.table(key):
                yield name, name not in optional and not (key == _EDGES[2] and name in weak)

    def bins(self) -> Mapping[str, str]:
        """Return the package's programs: the file relative to the package's folder, by name.

        npm documentation, "package.json", "bin".
        """
        raw = self.value.get("bin")
        given = {self.name.rpartition("/")[2]: raw} if isinstance(raw, str) else raw
        found = {}
        for name, file in given.items() if isinstance(given, dict) else ():
            base = re.split(r"[/\\:]", name)[-1]
            if isinstance(file, str):
                target = os.path.normpath("/" + file.replace("\\", "/")).strip("/")
                if target and _PART.fullmatch(base):
                    found[base] = target
        return found

    def hashes(self) -> tuple[tuple[str, str], ...]:
        """Return the strongest hash of the package's tarball, as one pair (algorithm, hex digits).

        Raises UsageError where the lock file states no secure hash.
        """
        found: dict[str, str] = {}
        for one in self.text("integrity").split():
            algorithm, _, digits = one.partition("?")[0].partition("-")
            try:
                found.setdefault(algorithm, base64.b64decode(digits, validate=True).hex())
            except (binascii.Error, ValueError):
                raise UsageError(
                    f"the lock file's {printable(algorithm)} hash of {self.named} is malformed: "
                    "create the lock file again"
                ) from None
        best = next((name for name in _STRENGTH if name in found), None)
        if best is None:
            has = f"only {', '.join(map(printable, found))}" if found else "no integrity"
            raise UsageError(
                f"the lock file has {has} for {self.named}, so its download cannot be verified: "
                "remove node_modules and that entry, and run 'npm install --package-lock-only'"
            )
        return secure_hashes({best: found[best]}, self.named)


def is_package(at: str) -> bool:
    """Whether the folder `at`, relative to the project, is a package in a `node_modules`."""
    return _PACKAGE.fullmatch(at) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLock:
    """The lock file of npm at `path`.

    `root`: the folder of the project. `text`: the lock file's bytes. `packages`: its packages by
    their folder relative to `root`.
    """

    path: str
    root: str
    text: bytes = field(repr=False)
    packages: Mapping[str, Locked] = field(repr=False)

    @property
    def shown(self) -> str:
        """The lock file's name, printable, for messages."""
        return printable(os.path.basename(self.path))

    def find(self, name: str, at: str) -> Locked | None:
        """Return the package that Node loads when a module in the folder `at` imports `name`.

        Links are followed. None where the lock file has no such package. Node documentation,
        "Loading from node_modules folders".
        """
        while True:
            found = self.packages.get(f"{at}/node_modules/{name}".lstrip("/"))
            if found is not None:
                return self.target(found)
            if not at:
                return None
            at = at.rpartition("/")[0]

    def target(self, one: Locked) -> Locked | None:
        """Return the package that `one` links to, or `one` itself where it is no link.

        None where the lock file lacks the link's target.
        """
        if not one.flag("link"):
            return one
        return self.packages.get(one.text("resolved").removeprefix("./"))

    def local(self) -> Iterator[Locked]:
        """Yield the project and its local packages, whose folders are not in a `node_modules`."""
        return (one for one in self.packages.values() if not one.folder_name)


def find(target: str) -> str:
    """Return the absolute path of a project's lock file.

    `target`: the project's folder, or the lock file. Where a folder has lock files of npm and of
    pnpm, `packageManager` in its `package.json` decides; without that, npm's is used. Raises
    UsageError where no lock file is found.
    """
    path = os.path.realpath(target)
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise UsageError(
                f"node:{printable(target)}: no such folder or file; name a project's folder or its "
                "lock file"
            )
        return path
    names = [name for name in (*_NAMES, PNPM) if os.path.isfile(os.path.join(path, name))]
    if len(names) > 1 and PNPM in names:
        manager = read_manifest(path).get("packageManager")
        if isinstance(manager, str) and manager.startswith("pnpm@"):
            names = [PNPM]
    return os.path.join(path, names[0]) if names else _no_lock(path)


def read(path: str) -> NodeLock:
    """Read the lock file of npm at `path`.

    Raises UsageError where it is malformed or of an unknown version, SourceError where it cannot be
    read.
    """
    text = read_text(path)
    return NodeLock(
        path=path, root=os.path.dirname(path), text=text, packages=_packages(text, path)
    )


def read_text(path: str) -> bytes:
    """Return the bytes of the lock file at `path`. Raises SourceError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST + 1)
    except OSError as error:
        raise SourceError(f"cannot read {printable(path)}: {error.strerror}") from error


def _no_lock(folder: str) -> str:
    for name, tool in _OTHERS.items():
        if os.path.isfile(os.path.join(folder, name)):
            raise UsageError(
                f"{printable(folder)} has a lock file of {tool} ({name}), and node: reads only "
                f"package-lock.json and pnpm-lock.yaml: install with {tool}, and push the folder "
                "without the prefix node:"
            )
    if above := _above(folder):
        raise UsageError(
            f"{printable(folder)} has no lock file, but the folder {printable(above)} above it has "
            f"one: push that workspace, node:{printable(above)}, with --entrypoint 'node "
            f"{printable(os.path.relpath(folder, above))}/FILE'"
        )
    raise UsageError(
        f"{printable(folder)} has no package-lock.json or pnpm-lock.yaml: create one by "
        "'npm install --package-lock-only'"
    )


def _above(folder: str) -> str:
    """Return the nearest folder above `folder` that has a lock file; empty where none has one."""
    while (parent := os.path.dirname(folder)) != folder:
        folder = parent
        if any(os.path.isfile(os.path.join(folder, name)) for name in (*_NAMES, PNPM)):
            return folder
    return ""


def _packages(text: bytes, path: str) -> Mapping[str, Locked]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{printable(path)} is not JSON: {printable(str(error))}") from error
    version = value.get("lockfileVersion") if isinstance(value, dict) else None
    if version not in (2, 3):
        raise UsageError(
            f"{printable(path)} has the lockfileVersion {printable(str(version))}, and 2 or 3 is "
            "needed: create it again by 'npm install --package-lock-only' with npm 7 or later"
        )
    packages = value.get("packages")
    if not isinstance(packages, dict) or not isinstance(packages.get(""), dict):
        raise UsageError(
            f"{printable(path)} is damaged: it has no table 'packages' with an entry '' for the "
            "project; create it again by 'npm install --package-lock-only'"
        )
    found = {}
    for at, one in packages.items():
        if at and not all(_PART.fullmatch(part) for part in at.split("/")):
            raise UsageError(
                f"{printable(path)} lists a package in the folder '{printable(at)}', outside of "
                "the project: pack it ('npm pack'), and depend on the tarball"
            )
        if not isinstance(one, dict):
            raise UsageError(
                f"{printable(path)} is damaged: packages['{printable(at)}'] is not a table"
            )
        found[at] = Locked(at=at, value=one)
    return found


def read_manifest(folder: str) -> Mapping[str, Any]:
    """Return the parsed `package.json` in `folder`; empty where the file is missing.

    Raises UsageError for a malformed file, SourceError for an unreadable one.
    """
    path = os.path.join(folder, "package.json")
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read(_LARGEST))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SourceError(f"cannot read {printable(path)}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{printable(path)} is not JSON: {printable(str(error))}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{printable(path)} must contain a JSON object")
    return value


def check_fresh(lock: NodeLock) -> None:
    """Raise UsageError where a `package.json` lists other dependencies than the lock file.

    The project and its local packages are compared: names and permitted versions.
    """
    for one in lock.local():
        manifest = Locked(at=one.at, value=read_manifest(os.path.join(lock.root, one.at)))
        if not manifest.value and one.at:
            raise UsageError(
                f"{lock.shown} lists a package in the folder {printable(one.at)}, which has no "
                "package.json: run 'npm install'"
            )
        wanted, locked = _wanted(manifest), _wanted(one)
        for name in sorted(wanted.keys() | locked.keys()):
            if wanted.get(name) != locked.get(name):
                asked, had = quoted(wanted.get(name)), quoted(locked.get(name))
                raise UsageError(
                    f"{lock.shown} is out of date: the dependency {printable(name)} is {asked} in "
                    f"{printable(os.path.join(one.at, 'package.json'))}, and {had} in the lock "
                    "file: run 'npm install'"
                )


def quoted(version: str | None) -> str:
    """Return `version` in quotes, for messages; `missing` where it is None."""
    return "missing" if version is None else f"'{printable(version)}'"


def _wanted(one: Locked) -> Mapping[str, str]:
    return {
        **one.table("devDependencies"),
        **one.table("dependencies"),
        **one.table("optionalDependencies"),
    }
