"""The machine that packages are chosen for: its markers and tags, on any host.

PyPA, "Dependency specifiers" and "Platform compatibility tags"; PEP 600, PEP 656.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from packaging.markers import Environment as Markers
from packaging.tags import Tag, compatible_tags, cpython_tags

from regpush.errors import UsageError, printable
from regpush.platform import Platform

_LIBC = re.compile(r"(glibc|musl)-([0-9]{1,2})\.([0-9]{1,3})", re.ASCII)
_VERSION = re.compile(r"3\.([0-9]{1,3})(?:\.([0-9]{1,3}))?(t?)", re.ASCII)
_MACHINE = {
    "amd64": "x86_64",
    "386": "i686",
    "arm64": "aarch64",
    "arm/v7": "armv7l",
    "arm/v6": "armv6l",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "loong64": "loongarch64",
}
_OLDEST = {"x86_64": 5, "i686": 5}
"""The oldest minor version of glibc that wheels are built for (PEP 513, PEP 599)."""
_ALIASES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""Older names of tags, by the minor version of glibc: PEP 600, "Legacy manylinux tags"."""


@dataclass(frozen=True, slots=True)
class Libc:
    """A C library and its version, `glibc-2.36` or `musl-1.2`."""

    name: str
    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the value of `--libc`, such as `glibc-2.36`. Raises UsageError."""
        match = _LIBC.fullmatch(text)
        if match is None:
            raise UsageError(
                f"bad --libc '{printable(text)}': expected one such as glibc-2.36 or musl-1.2"
            )
        return cls(match[1], int(match[2]), int(match[3]))

    def __str__(self) -> str:
        return f"{self.name}-{self.major}.{self.minor}"


@dataclass(frozen=True, slots=True)
class PythonVersion:
    """A version of Python 3; `patch` is None where only X.Y is known. `threaded`: free-threaded."""

    minor: int
    patch: int | None = None
    threaded: bool = False

    @classmethod
    def find(cls, text: str) -> Self | None:
        """Read `3.13`, `3.13.1` or `3.13t`; None for anything else."""
        match = _VERSION.fullmatch(text.strip().removeprefix("cpython-").removeprefix("python"))
        if match is None:
            return None
        return cls(int(match[1]), int(match[2]) if match[2] else None, bool(match[3]))

    def agrees(self, other: PythonVersion) -> bool:
        """Whether one interpreter can be both versions; an unknown patch version fits any."""
        same = (self.minor, self.threaded) == (other.minor, other.threaded)
        return same and (None in (self.patch, other.patch) or self.patch == other.patch)

    @property
    def short(self) -> str:
        """The version without its patch number, such as `3.13`."""
        return f"3.{self.minor}"

    def __str__(self) -> str:
        patch = "" if self.patch is None else f".{self.patch}"
        return f"{self.short}{patch}{'t' if self.threaded else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonTarget:
    """Python, platform and C library that packages must run on."""

    python: PythonVersion
    platform: Platform
    libc: Libc

    @property
    def machine(self) -> str:
        """The machine's name in Linux, such as x86_64. Raises UsageError without a wheel tag."""
        said = "/".join(filter(None, (self.platform.architecture, self.platform.variant)))
        machine = _MACHINE.get(said) or _MACHINE.get(self.platform.architecture)
        if machine is None or self.platform.os != "linux":
            raise UsageError(f"python: cannot make an image for {self.platform}")
        return machine

    def markers(self, patch: int) -> Markers:
        """Return the variables of markers for an interpreter with the patch version `patch`.

        Only a running system knows its release, so `choice` refuses a lock whose markers need that.
        """
        full = f"{self.python.short}.{patch}"
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": full,
            "python_version": self.python.short,
            "sys_platform": "linux",
        }

    def tags(self) -> list[Tag]:
        """List the tags of wheels that run on this target, the best first."""
        version = (3, self.python.minor)
        interpreter = f"cp3{self.python.minor}"
        abi = f"{interpreter}{'t' if self.python.threaded else ''}"
        platforms = list(self._platforms())
        return [
            *cpython_tags(version, abis=[abi], platforms=platforms),
            *compatible_tags(version, interpreter=interpreter, platforms=platforms),
        ]

    def _platforms(self) -> Iterator[str]:
        machine, libc = self.machine, self.libc
        if libc.name == "musl":
            for minor in range(libc.minor, -1, -1):
                yield f"musllinux_{libc.major}_{minor}_{machine}"
        else:
            for minor in range(libc.minor, _OLDEST.get(machine, 17) - 1, -1):
                yield f"manylinux_2_{minor}_{machine}"
                if minor in _ALIASES:
                    yield f"{_ALIASES[minor]}_{machine}"
        yield f"linux_{machine}"
