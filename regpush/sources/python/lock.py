"""Find and read the lock file of a Python project: a `pylock.toml` or a `uv.lock`.

A `pylock.toml` has the form of PEP 751 (PyPA, "pylock.toml Specification"); uv converts a `uv.lock`
into that form. No dependency is resolved, and nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tomli
from msgspec import Struct
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
"""Commands that make a `uv.lock` or `pylock.toml` from another file of a project, by its name.

An error message shows the first file that exists.
"""

_UV_LOCK_VERSION = 1
_LOCAL = ("editable", "virtual", "directory")
_FOREIGN = ("win32", "win_", "macosx_")


class LocalPackage(Struct, frozen=True, kw_only=True):
    """A package whose code is a folder on this machine: a workspace member, or a path dependency.

    `folder`: its absolute path. `is_installed`: False for a project that only lists dependencies
    and is not itself installed (uv: virtual).
    """

    name: str
    folder: str
    is_installed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonLock:
    """A lock file at `path`, in the folder `root`, for the project in the folder `target`.

    `text`: the file's bytes. `value`: its parsed TOML. `is_uv`: whether it is a `uv.lock`, else a
    `pylock.toml`.
    """

    path: str
    root: str
    target: str
    text: bytes = field(repr=False)
    value: Mapping[str, Any] = field(repr=False)
    is_uv: bool

    @property
    def shown(self) -> str:
        """The path of the lock file, printable, for messages."""
        return printable(self.path)


def find(path: str) -> PythonLock:
    """Find and read the lock file of a project; `path` is the project's folder or the lock file.

    A `uv.lock` is searched for in the folders above too, because a workspace has one at its root.
    Raises UsageError where no lock file is found, SourceError where it cannot be read.
    """
    path = os.path.realpath(path)
    if os.path.isdir(path):
        return _read(_search(path), path)
    name = os.path.basename(path)
    if not os.path.isfile(path):
        raise UsageError(
            f"python:{printable(path)}: no such folder or file; name a project's folder or its "
            "lock file"
        )
    if name != _UV_LOCK and not (name.startswith("pylock.") and name.endswith(".toml")):
        raise UsageError(
            f"{printable(path)} is neither a uv.lock nor a pylock.toml{_remedy_from(path)}"
        )
    return _read(path, os.path.dirname(path))


def _search(folder: str) -> str:
    for name in (_UV_LOCK, _PYLOCK):
        if os.path.isfile(found := os.path.join(folder, name)):
            return found
    above = folder
    while (parent := os.path.dirname(above)) != above:
        above = parent
        if os.path.isfile(found := os.path.join(above, _UV_LOCK)):
            return found
    raise UsageError(f"no uv.lock or pylock.toml in {printable(folder)}{_remedy_in(folder)}")


def _remedy_in(folder: str) -> str:
    for name in _OTHERS:
        if os.path.isfile(os.path.join(folder, name)):
            return _remedy_from(name)
    return "; create one, for instance by 'uv lock'"


def _remedy_from(path: str) -> str:
    name = os.path.basename(path)
    return f"; create one from {name} by: {_OTHERS[name]}" if name in _OTHERS else ""


def _read(path: str, target: str) -> PythonLock:
    text, value = read_toml(path)
    is_uv = os.path.basename(path) == _UV_LOCK
    if is_uv and value.get("version") != _UV_LOCK_VERSION:
        raise UsageError(
            f"{printable(path)} has the format version {printable(str(value.get('version')))}, and "
            f"this regpush reads version {_UV_LOCK_VERSION}: use a newer regpush"
        )
    return PythonLock(
        path=path, root=os.path.dirname(path), target=target, text=text, value=value, is_uv=is_uv
    )


def read_toml(path: str) -> tuple[bytes, dict[str, Any]]:
    """Read a TOML file; return its bytes and its parsed content.

    Raises UsageError where it is not TOML, SourceError where it cannot be read.
    """
    try:
        folder, name = os.path.split(os.fsencode(path))
        text = read_small(OpenRoot(folder), name)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        return text, tomli.loads(text.decode())
    except (tomli.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{printable(path)} is not valid TOML: {printable(str(error))}") from error


class Contents(Struct, frozen=True, kw_only=True):
    """What a lock file says about one project.

    `pylock`: the packages, in the form of PEP 751. `project`: the project's package name, None for
    a `pylock.toml`, which does not name it. `local`: packages that are folders, the project first
    where the lock file is a `uv.lock`. `needs`: names of dependencies by package name.
    """

    pylock: Pylock
    project: str | None
    local: tuple[LocalPackage, ...]
    needs: Mapping[str, Sequence[str]]


def contents(lock: PythonLock, options: LockOptions, workshop: Workshop) -> Contents:
    """Read what `lock` says about its project, with the extras and groups of `options`.

    Raises UsageError for a malformed lock file, or for an extra, group or package that it does not
    have; SourceError where uv fails.
    """
    return _of_uv(lock, options, workshop) if lock.is_uv else _of_pylock(lock, options)


def _of_pylock(lock: PythonLock, options: LockOptions) -> Contents:
    if options.package:
        raise UsageError(
            f"--package chooses a project of a uv.lock, but {lock.shown} has only one: leave "
            "--package out"
        )
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
    """Parse the TOML `value` of a PEP 751 lock file.

    Raises UsageError, whose message calls the file `shown`, where it is malformed.
    """
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
            raise UsageError(
                f"--extra {printable(extra)}: {printable(project)} has no such extra in "
                f"{lock.shown}; its extras are: {_listed(graph.extras(project))}"
            )
    for group in options.groups:
        if group not in graph.groups(project):
            raise UsageError(
                f"--group {printable(group)}: {printable(project)} has no such dependency group in "
                f"{lock.shown}; its groups are: {_listed(graph.groups(project))}"
            )
    exported = tomli.loads(_export(lock, project, options, workshop))
    pylock = parse(_for_linux(exported), f"uv's export of {lock.shown}")
    return Contents(
        pylock=pylock,
        project=project,
        local=tuple(graph.local(lock, project, options)),
        needs=graph.needs(),
    )


def _listed(names: Iterable[str]) -> str:
    """Join sorted `names` for a message; `none` where there are none."""
    return printable(", ".join(sorted(names)) or "none")


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
        raise SourceError(f"uv cannot export {lock.shown}: {error}") from error


def _for_linux(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parsed PEP 751 lock without the wheels for Windows and macOS.

    A package that has only such wheels keeps them. In a lock file of 264 packages, the library
    packaging would take 19 ms of CPU to check these wheels, and as long to select among them.
    """
    packages = []
    for one in value.get("packages", ()):
        wheels = [wheel for wheel in one.get("wheels", ()) if not _is_foreign(wheel)]
        packages.append({**one, "wheels": wheels} if wheels else one)
    return {**value, "packages": packages}


def _is_foreign(wheel: Mapping[str, Any]) -> bool:
    """Whether a wheel runs on Windows or macOS only, by the last part of its file name.

    PyPA, "Binary distribution format": that part has the wheel's platforms, separated by dots.
    """
    name = str(wheel.get("url") or wheel.get("path") or "").partition("#")[0]
    platforms = name.removesuffix(".whl").rpartition("-")[2].split(".")
    return all(one.startswith(_FOREIGN) for one in platforms)


def uv_program() -> str:
    """Return the path of the program uv. Raises UsageError where it is not installed."""
    try:
        from uv import find_uv_bin  # installed with regpush[python] only

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        if found := find_program("uv"):
            return found
    raise UsageError(
        "reading a uv.lock needs the program uv; install it by pip install 'regpush[python]'"
    )


class Graph(Struct, frozen=True):
    """The dependency graph of a `uv.lock`; `packages` are its parsed `[[package]]` tables."""

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
            raise UsageError(
                f"{lock.shown} is malformed: its list 'package' needs tables with 'name' and "
                "'source'; run 'uv lock'"
            )
        return cls(tuple(listed))

    def members(self, lock: PythonLock) -> dict[str, str]:
        """Return the absolute folder of each local package, by package name."""
        found = {}
        for one in self.packages:
            for kind in _LOCAL:
                if isinstance(path := one["source"].get(kind), str):
                    found[one["name"]] = os.path.realpath(os.path.join(lock.root, path))
        return found

    def project(self, lock: PythonLock, wanted: str | None) -> str:
        """Return the name of the package to push: `wanted`, else the package in `lock.target`.

        Raises UsageError where the workspace has no such package.
        """
        members = self.members(lock)
        listed = _listed(members)
        if wanted:
            name = str(canonicalize_name(wanted))
            if name not in members:
                raise UsageError(
                    f"--package {printable(wanted)} is not a project of {lock.shown}; its projects "
                    f"are: {listed}"
                )
            return name
        for name, folder in members.items():
            if folder == lock.target:
                return name
        raise UsageError(
            f"{printable(lock.target)} is not a project of {lock.shown}; choose a project by "
            f"--package: {listed}"
        )

    def check_hashes(self, lock: PythonLock) -> None:
        """Raise UsageError where a wheel has no hash: uv would download the wheel to compute it."""
        for one in self.packages:
            for wheel in one.get("wheels", ()):
                if not wheel.get("hash"):
                    raise UsageError(
                        f"{lock.shown} has no hash of a wheel of {printable(one['name'])}, because "
                        "the package index stated none: lock it from an index that states hashes"
                    )

    def named(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Yield the tables of the package `name`: one for each version that the lock file has."""
        return (one for one in self.packages if one["name"] == name)

    def extras(self, name: str) -> set[str]:
        """Return the names of the extras of the package `name`."""
        return {
            extra
            for one in self.named(name)
            for extra in (
                *one.get("optional-dependencies", {}),
                *one.get("metadata", {}).get("provides-extras", []),
            )
        }

    def groups(self, name: str) -> set[str]:
        """Return the names of the dependency groups of the package `name`."""
        return {
            group
            for one in self.named(name)
            for group in (
                *one.get("dev-dependencies", {}),
                *one.get("metadata", {}).get("requires-dev", {}),
            )
        }

    def needs(self) -> dict[str, list[str]]:
        """Return the names of each package's dependencies, all extras included, by package name."""
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
        """Yield the package `project`, then the other local packages that it needs.

        Dependencies of the extras and groups in `options` are included.
        """
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
