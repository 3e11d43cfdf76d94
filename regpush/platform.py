"""What an image runs on: operating system, architecture and variant, as Go names them.

OCI image-spec, config.md and image-index.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from regpush.errors import UsageError, printable

_ARCHITECTURE = {
    "x86_64": "amd64",
    "i686": "386",
    "i386": "386",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "arm/v7",
    "armhf": "arm/v7",
    "armv6l": "arm/v6",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "powerpc64le": "ppc64le",
    "s390x": "s390x",
    "loongarch64": "loong64",
}
_PLACEHOLDER = re.compile(r"\{(platform|os|arch|variant)\}")


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """Operating system, architecture and variant in Go's terms, as image configs have them."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os/architecture[/variant]`. Raises UsageError."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(re.fullmatch(r"[a-z0-9_.]+", p) for p in parts):
            raise UsageError(f"bad platform '{printable(text)}': write it as linux/amd64")
        return cls(*parts)

    @classmethod
    def of_system(cls, system: str) -> Self | None:
        """Read `x86_64-linux`, as Nix, Guix and `uname` name machines; None if unknown."""
        machine, _, kernel = system.partition("-")
        if kernel != "linux" or machine not in _ARCHITECTURE:
            return None
        return cls("linux", *_ARCHITECTURE[machine].split("/"))

    @property
    def system(self) -> str | None:
        """The other way round, as Nix names it; None if it has no name for it."""
        said = "/".join(filter(None, (self.architecture, self.variant)))
        machines = [machine for machine, known in _ARCHITECTURE.items() if known == said]
        return f"{machines[0]}-linux" if machines and self.os == "linux" else None

    def runs(self, other: Platform) -> bool:
        """Whether it is the same but for the variant."""
        return (self.os, self.architecture) == (other.os, other.architecture)

    def fill(self, text: str) -> str:
        """`text` with `{platform}` (linux-arm-v7), `{os}`, `{arch}` and `{variant}` filled in."""
        values = {
            "platform": str(self).replace("/", "-"),
            "os": self.os,
            "arch": self.architecture,
            "variant": self.variant,
        }
        return _PLACEHOLDER.sub(lambda found: values[found[1]], text)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def parse_platforms(texts: Iterable[str]) -> tuple[Platform, ...]:
    """Read platforms, in their order. Raises UsageError, also for one that comes twice."""
    found: list[Platform] = []
    for text in texts:
        platform = Platform.parse(text)
        if platform in found:
            raise UsageError(f"--platform {platform} is there twice")
        found.append(platform)
    return tuple(found)


def has_placeholders(target: str) -> bool:
    """Whether `Platform.fill` would fill in anything."""
    return _PLACEHOLDER.search(target) is not None
