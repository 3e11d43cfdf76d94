"""What the image's packages must run on: Python version, platform, C library.

They decide the markers and wheel tags by which packages are chosen; the host's platform does not
matter. PyPA, "Dependency specifiers" and "Platform compatibility tags"; PEP 600, PEP 656.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Self

from msgspec import Struct
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
"""The oldest minor version of glibc 2 that wheels are built for, by machine (PEP 513, PEP 599);
17 for other machines."""
_ALIASES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""Legacy names of wheel tags, by the minor version of glibc 2: PEP 600, "Legacy manylinux tags"."""


class Libc(Struct, frozen=True):
    """A C library and its version; `str()` is `glibc-2.36` or `musl-1.2`."""

    name: str
    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the value of `--libc`, such as `glibc-2.36`. Raises UsageError for other text."""
        match = _LIBC.fullmatch(text)
        if match is None:
            raise UsageError(
                f"bad --libc '{printable(text)}': expected one such as glibc-2.36 or musl-1.2"
            )
        return cls(match[1], int(match[2]), int(match[3]))

    def __str__(self) -> str:
        return f"{self.name}-{self.major}.{self.minor}"


class PythonVersion(Struct, frozen=True):
    """A version of Python 3.

    `patch` is None where only X.Y is known. `threaded`: whether it is the free-threaded build.
    """

    minor: int
    patch: int | None = None
    threaded: bool = False

    @classmethod
    def find(cls, text: str) -> Self | None:
        """Parse a text such as `3.13`, `3.13.1`, `3.13t` or `cpython-3.13`; None for others."""
        match = _VERSION.fullmatch(text.strip().removeprefix("cpython-").removeprefix("python"))
        if match is None:
            return None
        return cls(int(match[1]), int(match[2]) if match[2] else None, bool(match[3]))

    def agrees(self, other: PythonVersion) -> bool:
        """Whether both may denote one interpreter; an unknown patch version equals every other."""
        same = (self.minor, self.threaded) == (other.minor, other.threaded)
        return same and (None in (self.patch, other.patch) or self.patch == other.patch)

    @property
    def short(self) -> str:
        """The version without its patch number, such as `3.13`."""
        return f"3.{self.minor}"

    def __str__(self) -> str:
        patch = "" if self.patch is None else f".{self.patch}"
        return f"{self.short}{patch}{'t' if self.threaded else ''}"


class PythonTarget(Struct, frozen=True, kw_only=True):
    """The Python version, platform and C library that the image's packages must run on."""

    python: PythonVersion
    platform: Platform
    libc: Libc

    @property
    def machine(self) -> str:
        """Linux's name of the processor architecture, such as x86_64, as in wheel tags.

        Raises UsageError for a platform that wheel tags do not cover.
        """
        said = "/".join(filter(None, (self.platform.architecture, self.platform.variant)))
        machine = _MACHINE.get(said) or _MACHINE.get(self.platform.architecture)
        if machine is None or self.platform.os != "linux":
            raise UsageError(
                f"python: no wheels exist for {self.platform}; give a Linux platform by --platform"
            )
        return machine

    def markers(self, patch: int) -> Markers:
        """Return the values of marker variables for Python X.Y.`patch`.

        `platform_release` and `platform_version` are empty, because only a running machine knows
        them; `choice` refuses a lock file that needs them.
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
        """List the wheel tags that this target accepts, the best first."""
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
