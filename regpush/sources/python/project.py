"""Local Python projects: their `pyproject.toml`, and the files that installing them would write.

A project gets an editable install: its code stays in its folder, a `.pth` file makes Python find
the code, and a `.dist-info` folder describes the project. No code of a project is executed.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from regpush.entry import Entry, absolute, as_bytes
from regpush.errors import UsageError, printable
from regpush.sources.python.lock import LocalPackage, read_toml
from regpush.sources.python.venv import Environment, file, script
from regpush.sources.python.wheel import INSTALLER, scripts

_COMPILERS = {
    "maturin": "maturin",
    "mesonpy": "meson-python",
    "scikit_build_core.build": "scikit-build-core",
    "setuptools_rust": "setuptools-rust",
    "sipbuild.api": "SIP",
    "enscons.api": "enscons",
}
_WHEEL = b"Wheel-Version: 1.0\nGenerator: regpush\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_REMEDY = "build a wheel of it, and give that by --project-wheel dist/*.whl"


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonProject:
    """A Python project in `folder`, an absolute path.

    `value`: its parsed `pyproject.toml`, empty without one.
    """

    name: str
    folder: str
    value: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, name: str, folder: str) -> PythonProject:
        """Read the project in `folder`; an empty `name` is taken from its `pyproject.toml`.

        Raises UsageError for a malformed `pyproject.toml`, SourceError for an unreadable one.
        """
        path = os.path.join(folder, "pyproject.toml")
        value = read_toml(path)[1] if os.path.isfile(path) else {}
        said = value.get("project", {})
        if not isinstance(said, dict):
            raise UsageError(f"{printable(path)}: 'project' must be a table ([project])")
        return cls(name=canonicalize_name(name or str(said.get("name", ""))), folder=folder,
                   value=value)  # fmt: skip

    @property
    def table(self) -> Mapping[str, Any]:
        """The table `[project]` of the `pyproject.toml`, empty without one."""
        found: Mapping[str, Any] = self.value.get("project", {})
        return found

    @property
    def is_package(self) -> bool:
        """Whether the project itself is installed, and not only its dependencies.

        uv documentation, "Build systems": True with a build system, unless `tool.uv.package` is
        false.
        """
        uv = self.value.get("tool", {}).get("uv", {})
        return bool(uv.get("package", "build-system" in self.value)) and "name" in self.table

    @property
    def scripts(self) -> tuple[str, ...]:
        """The names of the project's programs: the keys of `[project.scripts]`."""
        return tuple(self.table.get("scripts", {}))

    def installed(self, at: str, environment: Environment) -> Iterator[Entry]:
        """Yield the files of an editable install of the project in `environment`.

        `at`: the image path of the project's folder. Raises UsageError where the install would
        have to run code of the project.
        """
        version = self._version()
        code = f"{at}/src" if self._in_src() else at
        info = f"{environment.site}/{self.name.replace('-', '_')}-{version}.dist-info"
        link = f"{environment.site}/{self.name.replace('-', '_')}.pth"
        files = [
            file(link, as_bytes(f"{code}\n")),
            file(f"{info}/METADATA", self._metadata(version)),
            file(f"{info}/INSTALLER", INSTALLER),
            file(f"{info}/WHEEL", _WHEEL),
        ]
        if points := self._entry_points():
            files.append(file(f"{info}/entry_points.txt", points.encode()))
            for name, module, attribute in scripts(points, f"project {printable(self.name)}"):
                program = script(environment, module, attribute)
                files.append(file(f"{environment.bin}/{name}", program, 0o755))
        yield from files
        yield file(f"{info}/RECORD", _record([*files], info, environment.site))

    def _version(self) -> str:
        if "version" in self.table.get("dynamic", []) or "version" not in self.table:
            raise self._refused(
                "states no version in pyproject.toml (dynamic): its build computes one"
            )
        try:
            return str(Version(str(self.table["version"])))
        except InvalidVersion as error:
            raise UsageError(
                f"{printable(self.folder)}/pyproject.toml: project.version "
                f"'{printable(str(self.table['version']))}' is not a version (PEP 440)"
            ) from error

    def _in_src(self) -> bool:
        """Whether the folder of the project's import package is in `src`.

        Raises UsageError where no import package is found, or where a build would compile it.
        """
        backend = str(self.value.get("build-system", {}).get("build-backend", ""))
        for compiler, called in _COMPILERS.items():
            if backend == compiler or backend.startswith(f"{compiler}."):
                raise self._refused(f"must be compiled by {called}")
        if self._has_extensions():
            raise self._refused("has extension modules, which must be compiled")
        module = self.name.replace("-", "_")
        for folder, in_src in ((os.path.join(self.folder, "src"), True), (self.folder, False)):
            for name in _modules(folder):
                if name.lower() == module:
                    return in_src
        if any(_modules(os.path.join(self.folder, "src"))):
            return True
        if any(os.path.isfile(os.path.join(self.folder, name, "__init__.py"))
               for name in _modules(self.folder)):  # fmt: skip
            return False
        raise self._refused(
            f"has no import package {printable(module)}, neither in the project's folder nor in "
            "its subfolder src"
        )

    def _has_extensions(self) -> bool:
        if self.value.get("tool", {}).get("setuptools", {}).get("ext-modules"):
            return True
        try:
            with open(os.path.join(self.folder, "setup.py"), encoding="utf-8") as setup:
                return re.search(r"\b(ext_modules|cythonize|CFFI)\b", setup.read()) is not None
        except (OSError, UnicodeDecodeError):
            return False

    def _refused(self, why: str) -> UsageError:
        return UsageError(
            f"the project {printable(self.name)} in {printable(self.folder)} {why}, and regpush "
            f"runs no build: {_REMEDY}"
        )

    def _entry_points(self) -> str:
        groups = {
            "console_scripts": self.table.get("scripts", {}),
            "gui_scripts": self.table.get("gui-scripts", {}),
            **self.table.get("entry-points", {}),
        }
        return "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()) + "\n"
            for group, points in groups.items()
            if points
        )

    def _metadata(self, version: str) -> bytes:
        """Return the content of the project's METADATA file, from its pyproject.toml.

        PyPA, "Core metadata specifications". Raises UsageError for a malformed requirement.
        """
        said = self.table
        lines = ["Metadata-Version: 2.1", f"Name: {said['name']}", f"Version: {version}"]
        if isinstance(summary := said.get("description"), str):
            lines.append(f"Summary: {' '.join(summary.split())}")
        if isinstance(python := said.get("requires-python"), str):
            lines.append(f"Requires-Python: {python}")
        lines += [f"Requires-Dist: {one}" for one in self._needs(said.get("dependencies", []), "")]
        for extra, needs in said.get("optional-dependencies", {}).items():
            name = canonicalize_name(extra)
            lines.append(f"Provides-Extra: {name}")
            lines += [f"Requires-Dist: {one}" for one in self._needs(needs, name)]
        return as_bytes("\n".join(lines) + "\n")

    def _needs(self, texts: Sequence[str], extra: str) -> Iterator[str]:
        for text in texts:
            try:
                one = Requirement(text)
            except InvalidRequirement as error:
                raise UsageError(
                    f"{printable(self.folder)}/pyproject.toml: the dependency '{printable(text)}' "
                    "is not a requirement (PEP 508)"
                ) from error
            if not extra:
                yield str(one)
                continue
            marker = f"({one.marker}) and " if one.marker else ""
            one.marker = None
            # A URL ends at a space, so a space must precede its marker.
            yield f"{one}{' ' if one.url else ''}; {marker}extra == '{extra}'"


def _modules(folder: str) -> Iterator[str]:
    """Yield the names of modules and packages that can be imported from `folder`.

    Yields nothing if the folder cannot be listed.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if name.endswith(".py") and name != "setup.py":
            yield name.removesuffix(".py")
        elif name.isidentifier() and os.path.isdir(os.path.join(folder, name)):
            yield name


def _record(files: Sequence[Entry], info: str, site: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for entry in files:
        path = absolute(entry.path)
        content = entry.content if isinstance(entry.content, bytes) else b""
        sha = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        writer.writerow((os.path.relpath(path, site), f"sha256={sha}", len(content)))
    writer.writerow((os.path.relpath(f"{info}/RECORD", site), "", ""))
    return as_bytes(text.getvalue())


def place(package: LocalPackage, target: str, root: str, root_dir: str) -> str:
    """Return the image path of a local package's folder.

    `target`, the folder of the pushed project, is at `root_dir` of the image, and folders in it
    keep their relative path. Other folders keep their path relative to `root`, the workspace.
    Raises UsageError for a folder outside of both.
    """
    for above in (target, root):
        relative = os.path.relpath(package.folder, above)
        if relative == ".":
            return root_dir
        if not relative.startswith("../") and relative != "..":
            return f"{root_dir.rstrip('/')}/{relative}"
    raise UsageError(
        f"the local package {printable(package.name)} is in {printable(package.folder)}, outside "
        f"of the workspace {printable(root)}: build a wheel of it, and give that by --project-wheel"
    )
