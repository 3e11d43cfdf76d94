"""A `package-lock.json` of version 2 or 3, and the project that it belongs to.

npm documentation, "package-lock.json".
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
"""Names of npm's locks, in the order in which npm looks for them."""
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
    """The entry of the lock, `value`, for the package's folder `at`, relative to the project.

    `at` is empty for the project itself.
    """

    at: str
    value: Mapping[str, Any] = field(repr=False)

    @property
    def folder_name(self) -> str:
        """The name by which other packages import it, such as `@scope/name`.

        Empty for the project's own code.
        """
        match = _PACKAGE.fullmatch(self.at)
        return match[1] if match else ""

    @property
    def name(self) -> str:
        """The package's name, which differs from its folder's where it has an alias (`npm:`)."""
        return self.text("name") or self.folder_name

    @property
    def version(self) -> str:
        """The version; empty where the lock has none."""
        return self.text("version")

    @property
    def named(self) -> str:
        """Name and version for people, such as `express 4.19.2`."""
        return printable(f"{self.name} {self.version}".strip())

    @property
    def modules(self) -> str:
        """The folder `node_modules` that contains the package, relative to the project."""
        return self.at[: -len(self.folder_name) - 1]

    @property
    def parent(self) -> str:
        """The folder with the `node_modules` it is in; empty where that is the project's own.

        Another package's folder, or a workspace member's, relative to the project.
        """
        return self.modules.removesuffix("node_modules").rstrip("/")

    def text(self, key: str) -> str:
        """Return the text at `key`; empty where the value is missing or not a text."""
        found = self.value.get(key)
        return found if isinstance(found, str) else ""

    def said(self, key: str) -> bool:
        """Whether the value at `key` is true."""
        return self.value.get(key) is True

    def table(self, key: str) -> Mapping[str, str]:
        """Return the table of texts at `key`; other values are left out."""
        found = self.value.get(key)
        if not isinstance(found, dict):
            return {}
        return {name: text for name, text in found.items() if isinstance(text, str)}

    def needs(self) -> Iterator[tuple[str, bool]]:
        """Yield the name of each dependency, and whether it is required."""
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
        """Read the package's programs: files relative to its folder, by name.

        npm, "package.json", "bin".
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
        """Read the strongest hash of the package's tarball.

        Raises UsageError where the lock has no secure hash.
        """
        found: dict[str, str] = {}
        for one in self.text("integrity").split():
            algorithm, _, digits = one.partition("?")[0].partition("-")
            try:
                found.setdefault(algorithm, base64.b64decode(digits, validate=True).hex())
            except (binascii.Error, ValueError):
                raise UsageError(
                    f"the lock's hash of {self.named} is not a valid {printable(algorithm)} hash: "
                    "lock it again"
                ) from None
        best = next((name for name in _STRENGTH if name in found), None)
        if best is None:
            has = f"only {', '.join(map(printable, found))}" if found else "no integrity"
            raise UsageError(
                f"the lock has {has} for {self.named}, which proves nothing: remove node_modules "
                "and the entry, and run 'npm install --package-lock-only'"
            )
        return secure_hashes({best: found[best]}, self.named)


def is_package(at: str) -> bool:
    """Whether the folder `at`, relative to the project, is a package in a `node_modules`."""
    return _PACKAGE.fullmatch(at) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLock:
    """The lock at `path`; `root` is the folder of the project, `text` the bytes of the lock."""

    path: str
    root: str
    text: bytes = field(repr=False)
    packages: Mapping[str, Locked] = field(repr=False)

    @property
    def shown(self) -> str:
        """The file name of the lock, for people."""
        return printable(os.path.basename(self.path))

    def find(self, name: str, at: str) -> Locked | None:
        """Find the package that Node loads for `name` in a module of the folder `at`, or None.

        Links are followed. Node documentation, "Loading from node_modules folders".
        """
        while True:
            found = self.packages.get(f"{at}/node_modules/{name}".lstrip("/"))
            if found is not None:
                return self.target(found)
            if not at:
                return None
            at = at.rpartition("/")[0]

    def target(self, one: Locked) -> Locked | None:
        """Return `one`, or the entry that it links to; None where that entry is missing."""
        if not one.said("link"):
            return one
        return self.packages.get(one.text("resolved").removeprefix("./"))

    def local(self) -> Iterator[Locked]:
        """Yield the project and its local packages: folders outside of `node_modules`."""
        return (one for one in self.packages.values() if not one.folder_name)


def find(target: str) -> str:
    """Find the lock; `target` is the project's folder or the lock itself.

    Returns its absolute path. Where both npm and pnpm have a lock, `packageManager` in
    `package.json` decides, else npm's is used. Raises UsageError where no lock is found.
    """
    path = os.path.realpath(target)
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise UsageError(f"target 'node:{printable(target)}' does not exist")
        return path
    names = [name for name in (*_NAMES, PNPM) if os.path.isfile(os.path.join(path, name))]
    if len(names) > 1 and PNPM in names:
        manager = read_manifest(path).get("packageManager")
        if isinstance(manager, str) and manager.startswith("pnpm@"):
            names = [PNPM]
    return os.path.join(path, names[0]) if names else _no_lock(path)


def read(path: str) -> NodeLock:
    """Read the lock of npm at `path`. Raises UsageError where it cannot be pushed, SourceError."""
    text = read_text(path)
    return NodeLock(
        path=path, root=os.path.dirname(path), text=text, packages=_packages(text, path)
    )


def read_text(path: str) -> bytes:
    """Read the bytes of a lock. Raises SourceError."""
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST + 1)
    except OSError as error:
        raise SourceError(f"cannot read {printable(path)}: {error.strerror}") from error


def _no_lock(folder: str) -> str:
    for name, tool in _OTHERS.items():
        if os.path.isfile(os.path.join(folder, name)):
            raise UsageError(
                f"{printable(folder)} has a lock of {tool} ({name}), and node: reads "
                "package-lock.json and pnpm-lock.yaml: install with it, and push the folder as a "
                "directory"
            )
    if above := _above(folder):
        raise UsageError(
            f"{printable(folder)} has no lock of its own, and {printable(above)} has one: push the "
            f"workspace, node:{printable(above)}, and name what starts by --entrypoint 'node "
            f"{printable(os.path.relpath(folder, above))}/FILE'"
        )
    raise UsageError(
        f"{printable(folder)} has no package-lock.json or pnpm-lock.yaml: "
        "'npm install --package-lock-only' writes one"
    )


def _above(folder: str) -> str:
    """Find the nearest folder above `folder` that has a lock; empty where none has."""
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
            f"{printable(path)} is of version {printable(str(version))}, not 2 or 3: "
            "'npm install --package-lock-only' of npm 7 or later rewrites it"
        )
    packages = value.get("packages")
    if not isinstance(packages, dict) or not isinstance(packages.get(""), dict):
        raise UsageError(
            f"{printable(path)} has no 'packages' with an entry '' for the project: it is damaged"
        )
    found = {}
    for at, one in packages.items():
        if at and not all(_PART.fullmatch(part) for part in at.split("/")):
            raise UsageError(
                f"{printable(path)} has a package at '{printable(at)}', which is outside of the "
                "project: pack it ('npm pack'), and depend on the tarball"
            )
        if not isinstance(one, dict):
            raise UsageError(f"{printable(path)}: what it says of '{printable(at)}' is not a table")
        found[at] = Locked(at=at, value=one)
    return found


def read_manifest(folder: str) -> Mapping[str, Any]:
    """Read the `package.json` in `folder`; empty where it is missing.

    Raises UsageError for a malformed file, SourceError.
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
        raise UsageError(f"{printable(path)} is not a table")
    return value


def check_fresh(lock: NodeLock) -> None:
    """Raise UsageError where a `package.json` and the lock name different dependencies."""
    for one in lock.local():
        manifest = Locked(at=one.at, value=read_manifest(os.path.join(lock.root, one.at)))
        if not manifest.value and one.at:
            raise UsageError(
                f"{lock.shown} has a package at {printable(one.at)}, which has no package.json: "
                "run 'npm install'"
            )
        wanted, locked = _wanted(manifest), _wanted(one)
        for name in sorted(wanted.keys() | locked.keys()):
            if wanted.get(name) != locked.get(name):
                asked = printable(wanted.get(name, "does not need it"))
                had = printable(locked.get(name, "does not have it"))
                raise UsageError(
                    f"{lock.shown} is stale: {printable(name)} is '{asked}' in "
                    f"{printable(os.path.join(one.at, 'package.json'))} and '{had}' in the lock: "
                    "run 'npm install'"
                )


def _wanted(one: Locked) -> Mapping[str, str]:
    return {
        **one.table("devDependencies"),
        **one.table("dependencies"),
        **one.table("optionalDependencies"),
    }
