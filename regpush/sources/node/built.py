"""Tell whether an npm package contains its machine code, or would compile it when installed. Pure.

npm documentation, "scripts" (a package with a `binding.gyp` is compiled by `node-gyp rebuild`); the
README of prebuildify for file names in `prebuilds`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from msgspec import Struct

_COMPILERS = re.compile(r"\b(?:node-gyp|node-pre-gyp|prebuild-install|cmake-js)\b")
"""Programs by which install scripts download or compile machine code."""
_SCRIPTS = ("preinstall", "install", "postinstall")
_PREBUILT = re.compile(r"prebuilds/([a-z0-9]+)-([a-z0-9+]+)/(.+)\.node", re.DOTALL)
_LIBCS = {"glibc", "musl"}


class Machine(Struct, frozen=True, kw_only=True):
    """A Linux machine that machine code runs on.

    `cpu`: Node's name of the architecture (`process.arch`), such as `x64`. `libc`: `glibc` or
    `musl`.
    """

    cpu: str
    libc: str

    def __str__(self) -> str:
        return f"linux-{self.cpu}-{self.libc}"


def is_lacking(files: Collection[str], manifest: bytes, machine: Machine) -> bool:
    """Whether a package lacks machine code that its install script would compile or download.

    `files`: the names of the package's files. `manifest`: the bytes of its `package.json`.
    `machine`: the machine that the code must run on.
    """
    if "binding.gyp" not in files and not _COMPILERS.search(_scripts(manifest)):
        return False
    return not any(_is_for(name, machine) for name in files if name.endswith(".node"))


def _scripts(manifest: bytes) -> str:
    try:
        value = json.loads(manifest)
    except (ValueError, RecursionError):
        return ""
    scripts = value.get("scripts") if isinstance(value, dict) else None
    if not isinstance(scripts, dict):
        return ""
    return "\n".join(str(scripts.get(name, "")) for name in _SCRIPTS)


def _is_for(name: str, machine: Machine) -> bool:
    """Whether the machine code in the file `name` is for `machine`, judged by the name.

    True where the name does not say which machine it is for.
    """
    match = _PREBUILT.fullmatch(name)
    if match is None:
        return True
    system, cpus, tags = match[1], match[2].split("+"), set(match[3].split("."))
    libcs = tags & _LIBCS
    return system == "linux" and machine.cpu in cpus and (not libcs or machine.libc in libcs)
