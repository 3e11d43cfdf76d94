"""Find and read a project's lock, in the form of PEP 751; nothing is resolved or downloaded.

`pylock.toml` (PyPA, "pylock.toml Specification") and `uv.lock`, which uv itself converts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tomli
from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.utils import canonicalize_name

from regpush.errors import SourceError, UsageError, printable
from regpush.files.filesystem import read_small, unreadable
from regpush.files.open_root import OpenRoot
from regpush.options import LockOptions
from regpush.sources.tools import ToolError, Workshop, find_program

_UV_LOCK, _PYLOCK = "uv.lock", "pylock.toml"
_OTHERS = {
    "poetry.lock": "poetry export, then uv pip compile --format pylock.toml",
    "pdm.lock": "pdm export --format pylock -o pylock.toml",
    "Pipfile.lock": "pipenv requirements > requirements.txt, then uv pip compile "
    "requirements.txt --generate-hashes --format pylock.toml -o pylock.toml",
    "requirements.txt": "uv pip compile requirements.txt --format pylock.toml -o pylock.toml",
    "pyproject.toml": "uv lock",
}
"""How to make a readable lock from another file of a project; the first match is shown."""

_UV_LOCK_VERSION = 1
_LOCAL = ("editable", "virtual", "directory")
_FOREIGN = ("win32", "win_", "macosx_")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPackage:
    """A package that is a folder: a member of the workspace, or a dependency by path.

    `folder`: absolute. `is_installed`: False where it only lists dependencies.
    """

    name: str
    folder: str
    is_installed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonLock:
    """A lock file at `path`, in the folder `root`, of the project in the folder `target`.

    `text`: its bytes. `value`: its parsed TOML. `is_uv`: whether it is a `uv.lock`.
    """

    path: str
    root: str
    target: str
    text: bytes = field(repr=False)
    value: Mapping[str, Any] = field(repr=False)
    is_uv: bool

    @property
    def shown(self) -> str:
        """The path of the lock, for people."""
        return printable(self.path)


def find(path: str) -> PythonLock:
    """Find the lock of the project in the folder `path`, or the lock file that `path` is.

    `uv.lock` is searched for in the folders above as well, because a workspace has it at its root.
    Raises UsageError where no lock is found, SourceError where it cannot be read.
    """
    path = os.path.realpath(path)
    if os.path.isdir(path):
        return _read(_above(path), path)
    name = os.path.basename(path)
    if not os.path.isfile(path):
        raise UsageError(
            f"python:{printable(path)} does not exist; name a project or its lock file"
        )
    if name != _UV_LOCK and not (name.startswith("pylock.") and name.endswith(".toml")):
        raise UsageError(f"{printable(path)} is not a lock that can be read{_instead_of(path)}")
    return _read(path, os.path.dirname(path))


def _above(folder: str) -> str:
    for name in (_UV_LOCK, _PYLOCK):
        if os.path.isfile(found := os.path.join(folder, name)):
            return found
    above = folder
    while (parent := os.path.dirname(above)) != above:
        above = parent
        if os.path.isfile(found := os.path.join(above, _UV_LOCK)):
            return found
    raise UsageError(f"no uv.lock or pylock.toml in {printable(folder)}{_instead_in(folder)}")


def _instead_in(folder: str) -> str:
    for name in _OTHERS:
        if os.path.isfile(os.path.join(folder, name)):
            return _instead_of(name)
    return "; a project with a pyproject.toml gets one by 'uv lock'"


def _instead_of(path: str) -> str:
    name = os.path.basename(path)
    return f"; this makes one from {name}: {_OTHERS[name]}" if name in _OTHERS else ""


def _read(path: str, target: str) -> PythonLock:
    text, value = read_toml(path)
    is_uv = os.path.basename(path) == _UV_LOCK
    if is_uv and value.get("version") != _UV_LOCK_VERSION:
        raise UsageError(
            f"{printable(path)} has a version that this regpush does not know: use a newer regpush"
        )
    return PythonLock(
        path=path, root=os.path.dirname(path), target=target, text=text, value=value, is_uv=is_uv
    )


def read_toml(path: str) -> tuple[bytes, dict[str, Any]]:
    """Read a TOML file: its bytes and its parsed content. Raises UsageError, SourceError."""
    try:
        folder, name = os.path.split(os.fsencode(path))
        text = read_small(OpenRoot(folder), name)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        return text, tomli.loads(text.decode())
    except (tomli.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{printable(path)}: {printable(str(error))}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A lock's content for one project: `pylock`, its local packages, and dependencies.

    `project`: the name of the package at the target, None without one. `needs`: the names of
    dependencies by a package's name.
    """

    pylock: Pylock
    project: str | None
    local: tuple[LocalPackage, ...]
    needs: Mapping[str, Sequence[str]]


def contents(lock: PythonLock, options: LockOptions, workshop: Workshop) -> Contents:
    """Read the content of `lock` for its project, with the extras and groups of `options`.

    Raises UsageError for a malformed lock or an option that does not fit the lock, SourceError
    where uv fails.
    """
    return _of_uv(lock, options, workshop) if lock.is_uv else _of_pylock(lock, options)


def _of_pylock(lock: PythonLock, options: LockOptions) -> Contents:
    if options.package:
        raise UsageError(f"--package is for a uv.lock; {lock.shown} is of one project")
    pylock = parse(lock.value, lock.shown)
    local = tuple(
        LocalPackage(
            name=package.name,
            folder=os.path.realpath(os.path.join(lock.root, package.directory.path)),
            is_installed=True,
        )
        for package in pylock.packages
        if package.directory
    )
    needs: dict[str, list[str]] = {
        str(package.name): [
            str(canonicalize_name(name))
            for one in package.dependencies or ()
            if isinstance(name := one.get("name"), str)
        ]
        for package in pylock.packages
    }
    return Contents(pylock=pylock, project=None, local=local, needs=needs)


def parse(value: Mapping[str, Any], shown: str) -> Pylock:
    """Parse a PEP 751 lock. Raises UsageError; `shown` names the file."""
    try:
        return Pylock.from_dict(value)
    except (PylockValidationError, PylockUnsupportedVersionError) as error:
        raise UsageError(f"{shown}: {printable(str(error))}") from error


def _of_uv(lock: PythonLock, options: LockOptions, workshop: Workshop) -> Contents:
    graph = Graph.of(lock)
    project = graph.project(lock, options.package)
    graph.check_hashes(lock)
    for extra in options.extras:
        if canonicalize_name(extra) not in graph.extras(project):
            raise UsageError(f"{project} has no extra '{printable(extra)}' in {lock.shown}")
    for group in options.groups:
        if group not in graph.groups(project):
            raise UsageError(
                f"{project} has no dependency group '{printable(group)}' in {lock.shown}"
            )
    exported = tomli.loads(_export(lock, project, options, workshop))
    pylock = parse(_for_linux(exported), f"what uv makes of {lock.shown}")
    return Contents(
        pylock=pylock,
        project=project,
        local=tuple(graph.local(lock, project, options)),
        needs=graph.needs(),
    )


def _export(lock: PythonLock, project: str, options: LockOptions, workshop: Workshop) -> str:
    command = [uv_program(), "export", "--project", lock.root, "--package", project]
    command += ["--frozen", "--offline", "--no-emit-workspace", "--no-default-groups"]
    command += ["--format", "pylock.toml", "--no-header", "--no-progress"]
    for extra in options.extras:
        command += ["--extra", extra]
    for group in options.groups:
        command += ["--group", group]
    home = workshop.path("uv")
    # Variables that configure uv on this machine must not change the content of an image.
    environment = {"HOME": home, "UV_CACHE_DIR": home, "PATH": os.defpath}
    try:
        return workshop.ask(*command, environment=environment)
    except ToolError as error:
        raise SourceError(f"uv cannot read {lock.shown}: {error}") from error


def _for_linux(value: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out wheels for Windows and macOS from a lock, but no wheel of a package without others.

    packaging takes 19 ms of CPU to check those of a lock of 264 packages, and as long to select.
    """
    packages = []
    for one in value.get("packages", ()):
        wheels = [wheel for wheel in one.get("wheels", ()) if not _is_foreign(wheel)]
        packages.append({**one, "wheels": wheels} if wheels else one)
    return {**value, "packages": packages}


def _is_foreign(wheel: Mapping[str, Any]) -> bool:
    """Whether a wheel is for Windows or macOS alone, by the last part of its name.

    PyPA, "Binary distribution format": that part has platforms, separated by dots.
    """
    name = str(wheel.get("url") or wheel.get("path") or "").partition("#")[0]
    platforms = name.removesuffix(".whl").rpartition("-")[2].split(".")
    return all(one.startswith(_FOREIGN) for one in platforms)


def uv_program() -> str:
    """Find the program uv. Raises UsageError where it is not installed."""
    try:
        from uv import find_uv_bin  # an extra, for a uv.lock

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        if found := find_program("uv"):
            return found
    raise UsageError("a uv.lock is read by uv: pip install 'regpush[python]' brings it")


@dataclass(frozen=True, slots=True)
class Graph:
    """The packages of a `uv.lock`, in the form of its tables."""

    packages: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, lock: PythonLock) -> Graph:
        """Read the packages of `lock`. Raises UsageError for a malformed uv.lock."""
        listed = lock.value.get("package", [])
        if not isinstance(listed, list) or not all(
            isinstance(one, dict)
            and isinstance(one.get("name"), str)
            and isinstance(one.get("source"), dict)
            for one in listed
        ):
            raise UsageError(f"{lock.shown} does not have the form of a uv.lock: run 'uv lock'")
        return cls(tuple(listed))

    def members(self, lock: PythonLock) -> dict[str, str]:
        """Return the folder of each local package by its name."""
        found = {}
        for one in self.packages:
            for kind in _LOCAL:
                if isinstance(path := one["source"].get(kind), str):
                    found[one["name"]] = os.path.realpath(os.path.join(lock.root, path))
        return found

    def project(self, lock: PythonLock, wanted: str | None) -> str:
        """Find the name of the package that is pushed. Raises UsageError for no member."""
        members = self.members(lock)
        listed = f"there are {', '.join(sorted(members))}" if members else "there are none"
        if wanted:
            name = str(canonicalize_name(wanted))
            if name not in members:
                raise UsageError(
                    f"--package {printable(wanted)} is no member of the workspace of "
                    f"{lock.shown}: {printable(listed)}"
                )
            return name
        for name, folder in members.items():
            if folder == lock.target:
                return name
        raise UsageError(
            f"{printable(lock.target)} is no member of the workspace of {lock.shown}; name one "
            f"by --package: {printable(listed)}"
        )

    def check_hashes(self, lock: PythonLock) -> None:
        """Raise UsageError for a wheel without a hash: uv would download it to compute one."""
        for one in self.packages:
            for wheel in one.get("wheels", ()):
                if not wheel.get("hash"):
                    raise UsageError(
                        f"{lock.shown} has no hash of a wheel of {printable(one['name'])}: its "
                        "index gives none; lock it from one that does"
                    )

    def named(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Yield the packages called `name`: one for each version that some markers select."""
        return (one for one in self.packages if one["name"] == name)

    def extras(self, name: str) -> set[str]:
        """Return the names of a package's extras."""
        return {
            extra
            for one in self.named(name)
            for extra in (
                *one.get("optional-dependencies", {}),
                *one.get("metadata", {}).get("provides-extras", []),
            )
        }

    def groups(self, name: str) -> set[str]:
        """Return the names of a package's dependency groups."""
        return {
            group
            for one in self.named(name)
            for group in (
                *one.get("dev-dependencies", {}),
                *one.get("metadata", {}).get("requires-dev", {}),
            )
        }

    def needs(self) -> dict[str, list[str]]:
        """Return the names of the dependencies, those of all extras included, by package name."""
        return {
            one["name"]: [
                needed["name"]
                for needs in (
                    one.get("dependencies", []),
                    *one.get("optional-dependencies", {}).values(),
                )
                for needed in needs
            ]
            for one in self.packages
        }

    def local(self, lock: PythonLock, project: str, options: LockOptions) -> Iterator[LocalPackage]:
        """Yield `project`, and then the other local packages that it needs."""
        folders = self.members(lock)
        virtual = {one["name"] for one in self.packages if "virtual" in one["source"]}
        pending: list[tuple[str, tuple[str, ...]]] = [(project, options.extras)]
        done: set[tuple[str, str]] = set()
        seen: dict[str, None] = {}
        while pending:
            name, extras = pending.pop(0)
            new = [extra for extra in ("", *extras) if (name, extra) not in done]
            done |= {(name, extra) for extra in new}
            if name in folders:
                seen.setdefault(name)
            for one in self.named(name):
                needs = list(one.get("dependencies", [])) if "" in new else []
                for extra in filter(None, new):
                    needs += one.get("optional-dependencies", {}).get(canonicalize_name(extra), [])
                for group in options.groups if name == project and "" in new else ():
                    needs += one.get("dev-dependencies", {}).get(group, [])
                pending += [(n["name"], tuple(n.get("extra", ()))) for n in needs]
        for name in seen:
            yield LocalPackage(name=name, folder=folders[name], is_installed=name not in virtual)
