"""Installed Debian packages: their files and what they depend on, as dpkg keeps them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_DPKG = Path("/var/lib/dpkg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """`depends`: names of installed packages, or of virtual ones, the first alternative each."""

    name: str
    version: str
    architecture: str
    depends: tuple[str, ...]

    def files(self) -> list[str]:
        """Absolute paths of its files and folders, sorted; some may be gone."""
        for name in (self.name, f"{self.name}:{self.architecture}"):
            listing = _DPKG / "info" / f"{name}.list"
            if listing.exists():
                return sorted(listing.read_text("utf-8", "surrogateescape").splitlines())
        return []


@cache
def installed() -> Mapping[str, Package]:
    """Every installed package by name; of several architectures the last. None elsewhere."""
    try:
        status = (_DPKG / "status").read_text("utf-8", "replace")
    except OSError:
        return {}
    found = {}
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status") == "install ok installed":
            relations = f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}"
            package = Package(
                name=fields["Package"],
                version=fields["Version"],
                architecture=fields["Architecture"],
                depends=tuple(dict.fromkeys(re.findall(r"(?:^|,)\s*([a-z0-9.+-]+)", relations))),
            )
            found[package.name] = package
    return found
