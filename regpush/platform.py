"""Platforms: operating system, architecture and variant, as Go names them.

OCI image-spec, config.md and image-index.md. Spellings, and which platform runs which images, are
those of containerd's package `platforms` (database.go, compare.go, platform_windows_compat.go).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

from msgspec import Struct
from msgspec.structs import replace

from regpush.errors import UsageError, printable, similar

_MACHINES = {
    "x86_64": "amd64",
    "i686": "386",
    "i386": "386",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "arm/v7",
    "armhf": "arm/v7",
    "armv6l": "arm/v6",
    "armv5tel": "arm/v5",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "powerpc64le": "ppc64le",
    "s390x": "s390x",
    "loongarch64": "loong64",
}
"""Names of machines in Nix, Guix and `uname`, with Go's architecture and variant for each."""

# fmt: off
_SYSTEMS = frozenset({
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux",
    "nacl", "netbsd", "openbsd", "plan9", "solaris", "wasip1", "windows", "zos",
})
_ARCHITECTURES = frozenset({
    "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle",
    "mips64", "mips64le", "mips64p32", "mips64p32le", "ppc", "ppc64", "ppc64le", "riscv",
    "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
})
# fmt: on
_SPELLINGS = {
    "i386": ("386", ""),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
"""Other names of architectures: for each, the normal name and the variant that it implies; with
None, a variant that is stated beside it counts."""

_VARIANTS = {
    ("amd64", "v1"): "",
    ("arm64", "8"): "",
    ("arm64", "v8"): "",
    ("arm64", "v8.0"): "",
    ("arm64", "9"): "v9",
    ("arm64", "9.0"): "v9",
    ("arm64", "v9.0"): "v9",
    ("arm", ""): "v7",
    ("arm", "5"): "v5",
    ("arm", "6"): "v6",
    ("arm", "7"): "v7",
    ("arm", "8"): "v8",
}
"""The normal name of a variant, by architecture and other name; empty for no variant."""

_BELOW_V9 = {"v9": 5, "v9.1": 6, "v9.2": 7, "v9.3": 8}
"""The last minor version of ARMv8 that a version of ARMv9 contains; 9 for later ones."""

_LEVELS = {
    "amd64": tuple(f"v{level}" for level in (4, 3, 2)),
    "arm": tuple(f"v{level}" for level in (8, 7, 6, 5)),
    "arm64": (
        *(f"v9.{minor}" for minor in range(7, 0, -1)),
        "v9",
        *(f"v8.{minor}" for minor in range(9, 0, -1)),
    ),
}
"""The normal variants of an architecture, the most demanding first. A machine of any of them runs
images without a variant."""

_LOWEST = {"amd64": "v1", "arm64": "v8"}
"""Variants that mean the same as no variant."""

_MEANT = {
    "x64": "amd64",
    "x86": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "amd64v2": "amd64/v2",
    "amd64v3": "amd64/v3",
    "arm64v8": "arm64",
    "armv8": "arm64",
    "armv8l": "arm64",
    "arm32v5": "arm/v5",
    "arm32v6": "arm/v6",
    "arm32v7": "arm/v7",
    "armv5": "arm/v5",
    "armv5tel": "arm/v5",
    "armv6": "arm/v6",
    "armv6l": "arm/v6",
    "armv7": "arm/v7",
    "armv7l": "arm/v7",
    "powerpc64le": "ppc64le",
    "loongarch64": "loong64",
}
"""Names that no registry knows, with the architecture that people mean by each."""

_PART = r"[A-Za-z0-9_.-]+"
_WRITTEN = (
    rf"(?P<os>[A-Za-z0-9_-]+)(?:\((?P<version>[A-Za-z0-9_.-]*)(?P<features>(?:\+{_PART})*)\))?"
    rf"/(?P<architecture>{_PART})(?:/(?P<variant>{_PART}))?"
)
_BUILD = r"(?P<release>[0-9]{1,3}\.[0-9]{1,3})\.(?P<build>[0-9]{1,5})(?:\.|$)"
_STABLE_BUILDS = (20348, 26100)
"""Windows Server 2022 and 2025: each runs images of its predecessor, and of builds between."""

_PLACEHOLDER = re.compile(r"\{(platform|os|arch|variant)\}")


class Platform(Struct, frozen=True, order=True):
    """Operating system, architecture and variant in Go's terms, as image configs state them.

    `os_version` and `os_features` are `os.version` and `os.features` of the image-spec. Values read
    from a document keep their spelling; to compare platforms, use `normal`, `rank` or `akin`.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os[(version[+feature…])]/architecture[/variant]` in the spellings of containerd.

        `linux/x86_64` is linux/amd64, and `linux/arm64/v8` keeps its variant. Raises UsageError for
        a platform that no registry knows, naming the closest one.
        """
        match = re.fullmatch(_WRITTEN, text)
        if match is None:
            example = _architecture_meant(text.lower()) or "amd64"
            raise UsageError(f"bad platform '{printable(text)}': write it as linux/{example}")
        system = "darwin" if match["os"].lower() == "macos" else match["os"].lower()
        said = match["architecture"].lower(), (match["variant"] or "").lower()
        architecture, variant = _normal(*said)
        if system not in _SYSTEMS or architecture not in _ARCHITECTURES:
            raise _unknown(text, system, architecture, variant)
        levels = _LEVELS.get(architecture)
        if levels and variant and variant not in levels:
            known = filter(None, (_LOWEST.get(architecture), *reversed(levels)))
            raise UsageError(
                f"bad platform '{printable(text)}': {architecture} has no variant '{said[1]}'; "
                f"its variants are {', '.join(known)}"
            )
        if architecture == "arm" and variant == "v7" and not said[1]:
            variant = ""
        if architecture == "arm64" and said[1] and not variant:
            variant = "v8"
        features = tuple(filter(None, (match["features"] or "").split("+")))
        return cls(system, architecture, variant, match["version"] or "", features)

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Self | None:
        """Read the platform in an image config or an index entry, in its own spelling.

        None where operating system or architecture is missing, or `unknown`, which BuildKit writes
        for attestations, or where a value violates the image-spec.
        """
        texts = [value.get("os"), value.get("architecture")]
        texts += [value.get(key) or "" for key in ("variant", "os.version")]
        features = value.get("os.features") or []
        if not isinstance(features, list):
            return None
        if not all(isinstance(text, str) for text in (*texts, *features)):
            return None
        system, architecture, variant, version = map(str, texts)
        if not system or not architecture or "unknown" in (system, architecture):
            return None
        return cls(system, architecture, variant, version, tuple(map(str, features)))

    @classmethod
    def of_system(cls, system: str) -> Self | None:
        """Read `x86_64-linux`, as Nix, Guix and `uname` name machines; None if unknown."""
        machine, _, kernel = system.partition("-")
        if kernel != "linux" or machine not in _MACHINES:
            return None
        architecture, _, variant = _MACHINES[machine].partition("/")
        return cls("linux", architecture, variant)

    @property
    def system(self) -> str | None:
        """The machine as Nix names it, without the variant of amd64 or arm64.

        None without a name.
        """
        if self.os.lower() != "linux":
            return None
        normal = self.normal
        said = f"arm/{normal.variant}" if normal.architecture == "arm" else normal.architecture
        machines = [machine for machine, known in _MACHINES.items() if known == said]
        return f"{machines[0]}-linux" if machines else None

    @property
    def normal(self) -> Self:
        """The platform in its normal spelling, which is equal for equal platforms."""
        system = self.os.lower()
        architecture, variant = _normal(self.architecture.lower(), self.variant.lower())
        return replace(
            self,
            os="darwin" if system == "macos" else system,
            architecture=architecture,
            variant=variant,
            os_features=tuple(sorted(set(self.os_features))),
        )

    def rank(self, wanted: Platform) -> int | None:
        """Return how well an image for this platform runs on a machine of the platform `wanted`.

        0 is best, a larger number is worse, None is not at all. A machine runs images for its own
        variant and for lesser variants of its architecture. Images of another architecture that it
        could run too, such as 386 on amd64, get None.
        """
        mine, other = self.normal, wanted.normal
        if (mine.os, mine.architecture) != (other.os, other.architecture):
            return None
        if not set(mine.os_features) - {"win32k"} <= set(other.os_features):
            return None
        if mine.os == "windows" and not _windows_runs(mine.os_version, other.os_version):
            return None
        runs = _run_by(other.architecture, other.variant)
        return runs.index(mine.variant) if mine.variant in runs else None

    def akin(self, other: Platform) -> bool:
        """Whether operating system and architecture are equal; variants are ignored."""
        mine, its = self.normal, other.normal
        return (mine.os, mine.architecture) == (its.os, its.architecture)

    def over(self, below: Platform) -> Self:
        """Return this platform, completed by details that only the base's platform `below` has."""
        return replace(
            self,
            variant=self.variant or below.variant,
            os_version=self.os_version or below.os_version,
            os_features=self.os_features or below.os_features,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the members that state the platform in an image config or an index entry."""
        more = {
            "variant": self.variant,
            "os.version": self.os_version,
            "os.features": list(self.os_features),
        }
        said = {key: value for key, value in more.items() if value}
        return {"os": self.os, "architecture": self.architecture, **said}

    def fill(self, text: str) -> str:
        """Return `text` with its placeholders filled in.

        They are `{platform}` (linux-arm-v7), `{os}`, `{arch}` and `{variant}`.
        """
        values = {
            "platform": "-".join(filter(None, (self.os, self.architecture, self.variant))),
            "os": self.os,
            "arch": self.architecture,
            "variant": self.variant,
        }
        return _PLACEHOLDER.sub(lambda found: values[found[1]], text)

    def __str__(self) -> str:
        details = "+".join((self.os_version, *self.os_features))
        system = f"{self.os}({details})" if details else self.os
        return printable("/".join(filter(None, (system, self.architecture, self.variant))))


def parse_platforms(texts: Iterable[str]) -> tuple[Platform, ...]:
    """Read platforms, in their order. Raises UsageError for a bad or a repeated one."""
    found: dict[Platform, Platform] = {}
    for text in texts:
        platform = Platform.parse(text)
        other = found.setdefault(platform.normal, platform)
        if other is not platform:
            same = f", which is {other}," if other != platform else ""
            raise UsageError(f"--platform {platform}{same} is given twice")
    return tuple(found.values())


def has_placeholders(target: str) -> bool:
    """Whether `target` holds a placeholder that `Platform.fill` replaces."""
    return _PLACEHOLDER.search(target) is not None


def _normal(architecture: str, variant: str) -> tuple[str, str]:
    """Return architecture and variant in containerd's normal spelling."""
    architecture, fixed = _SPELLINGS.get(architecture, (architecture, None))
    variant = variant if fixed is None else fixed
    return architecture, _VARIANTS.get((architecture, variant), variant)


def _run_by(architecture: str, variant: str) -> tuple[str, ...]:
    """Return the normal variants that a machine of the normal `variant` runs, best first."""
    levels = _LEVELS.get(architecture, ())
    if variant and variant not in levels:
        return (variant,)
    lowest = () if architecture == "arm" else ("",)
    below = (*levels[levels.index(variant) :], *lowest) if variant else ("",)
    if architecture == "arm64" and variant.startswith("v9"):
        newest = _BELOW_V9.get(variant, 9)
        return tuple(v for v in below if not v.startswith("v8.") or int(v[3:]) <= newest)
    return below


def _windows_runs(image: str, host: str) -> bool:
    """Whether Windows of version `host` runs an image of version `image`.

    An empty version of either matches any.
    """
    if not host or not image:
        return True
    mine, its = re.match(_BUILD, host), re.match(_BUILD, image)
    if mine is None or its is None:
        return mine is None
    if mine["release"] != its["release"]:
        return False
    build, wanted = int(mine["build"]), int(its["build"])
    if build < _STABLE_BUILDS[0]:
        return build == wanted
    oldest = max((b for b in _STABLE_BUILDS if b < build), default=_STABLE_BUILDS[0])
    return oldest <= wanted <= build


def _architecture_meant(said: str) -> str:
    """Return the normal name and variant that `said` probably means; empty if unknown."""
    if said in _MEANT or said in _ARCHITECTURES:
        return _MEANT.get(said, said)
    near = similar(said, sorted(_ARCHITECTURES | _SPELLINGS.keys()))
    return _normal(near, "")[0] if near else ""


def _unknown(text: str, system: str, architecture: str, variant: str) -> UsageError:
    """Return the error for an unknown platform; it names the closest known one."""
    bad = f"bad platform '{printable(text)}'"
    if system in _ARCHITECTURES and architecture in _SYSTEMS:
        return UsageError(f"{bad}: the operating system comes first: {architecture}/{system}")
    wrong = architecture if system in _SYSTEMS else system
    architecture = _architecture_meant(architecture)
    if system not in _SYSTEMS:
        system = similar(system, sorted(_SYSTEMS))
    meant = [system, architecture, variant if "/" not in architecture else ""]
    example = "/".join(filter(None, meant)) if system and architecture else ""
    return UsageError(
        f"{bad}: no registry knows '{printable(wrong)}'; "
        + (f"is {example} meant?" if example else "write it as linux/amd64")
    )
