"""Decide the image's Node version, C library and entry point.

They come from the project's files, the user's options and the base image.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from typing import Any

from regpush.errors import UsageError, printable
from regpush.sources.surroundings import BaseFacts

_DEFAULT = "docker.io/library/node:{major}-slim"
_LTS = {"iron": 20, "jod": 22, "krypton": 24}
_OFFERED = (24, 22, 20)
"""Major versions of Node with long-term support (nodejs/Release, README), the newest first."""
_COMPARATOR = re.compile(
    r"(\^|~>?|>=|<=|>|<|=)?\s*v?(\d+|[xX*])(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?\S*"
)
_VERSION = re.compile(r"v?(\d{1,5})\.(\d{1,5})\.(\d{1,5})", re.ASCII)
_SHELL = re.compile(r"[$&|;<>*?`()\[\]{}~#!\n]")


def default_base(folder: str, manifest: Mapping[str, Any]) -> str:
    """Return the reference of the official slim image with the Node version that a project names.

    `folder`: the project's folder. `manifest`: its parsed `package.json`. The version is read from
    `.nvmrc`, else `.node-version`, else `engines.node` in `package.json`. Raises UsageError where
    none of them names a version.
    """
    major = _pinned(folder)
    engines = manifest.get("engines")
    said = engines.get("node") if isinstance(engines, dict) else None
    if major is None and isinstance(said, str):
        major = next((one for one in _OFFERED if _admits(said, one)), None) or _first(said)
    if major is None:
        raise UsageError(
            "the project names no Node version: write it into .nvmrc, or into engines.node of "
            "package.json, or name a base image: --from "
            f"{_DEFAULT.format(major=_OFFERED[0])}"
        )
    return _DEFAULT.format(major=major)


def _pinned(folder: str) -> int | None:
    for name in (".nvmrc", ".node-version"):
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                text = file.read(200).strip().lower()
        except (OSError, UnicodeDecodeError):
            continue
        if match := re.match(r"v?(\d{1,3})(?:\.|$)", text):
            return int(match[1])
        if major := _LTS.get(text.removeprefix("lts/")):
            return major
    return None


def _admits(wanted: str, major: int) -> bool:
    """Whether the range `wanted` (npm's `semver`, "Ranges") includes a version of `major`."""
    return any(low < high for low, high in (_within(one, major) for one in wanted.split("||")))


def _within(comparators: str, major: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the versions with the major number `major` that all comparators include.

    They are an interval of versions (major, minor, patch): the first one, and the first one after
    it. The interval is empty where the first is not lower than the second.
    """
    low: tuple[int, ...] = (major, 0, 0)
    high: tuple[int, ...] = (major + 1, 0, 0)
    hyphen = re.sub(r"(\S+)\s+-\s+(\S+)", r">=\1 <=\2", comparators)
    for sign, *parts in _COMPARATOR.findall(hyphen):
        if not parts[0].isdigit():
            continue
        known = [int(part) for part in parts if part.isdigit()]
        start = (*known, 0, 0)[:3]
        after: tuple[int, ...] = (*known[:-1], known[-1] + 1, 0, 0)[:3]
        if sign == "^":
            after = (known[0] + 1, 0, 0)
        elif sign.startswith("~"):
            after = (*known[:2][:-1], known[:2][-1] + 1, 0, 0)[:3]
        if sign == ">":
            low = max(low, after)
        elif sign != "<=" and sign != "<":
            low = max(low, start)
        if sign == "<":
            high = min(high, start)
        elif sign != ">" and sign != ">=":
            high = min(high, after)
    return low, high


def version_warning(folder: str, manifest: Mapping[str, Any], facts: BaseFacts | None) -> str:
    """Return a warning where the base image has another Node version than the project names.

    Empty where the versions agree, or where one of them is not known. The base image's version is
    `NODE_VERSION` in its environment (docker-node). It is compared with the major version in
    `.nvmrc` or `.node-version`, and with `engines.node` in `package.json`.
    """
    theirs = node_version(facts)
    if facts is None or theirs is None:
        return ""
    engines = manifest.get("engines")
    said = engines.get("node") if isinstance(engines, dict) else None
    wanted = ""
    if (major := _pinned(folder)) is not None and major != theirs[0]:
        wanted = f"Node {major} (.nvmrc or .node-version)"
    elif isinstance(said, str) and not admits(said, theirs):
        wanted = f"Node {printable(said)} (engines in package.json)"
    if not wanted:
        return ""
    version = ".".join(map(str, theirs))
    return (
        f"the project asks for {wanted}, but the base image {printable(facts.reference)} has Node "
        f"{version}"
    )


def node_version(facts: BaseFacts | None) -> tuple[int, ...] | None:
    """Return `NODE_VERSION` of the base image as (major, minor, patch); None where it is unset."""
    match = _VERSION.match(facts.env.get("NODE_VERSION", "")) if facts else None
    return tuple(int(part) for part in match.groups()) if match else None


def admits(wanted: str, version: tuple[int, ...]) -> bool:
    """Whether the range `wanted` (npm's `semver`, "Ranges") includes (major, minor, patch)."""
    several = (_within(one, version[0]) for one in wanted.split("||"))
    return any(low <= version < high for low, high in several)


def _first(wanted: str) -> int | None:
    match = re.search(r"\d{1,3}", wanted)
    return int(match[0]) if match else None


def libc(said: str | None, facts: BaseFacts | None) -> str:
    """Return `glibc` or `musl`: of `--libc` (`said`), else of the base image, else glibc.

    A base image with Alpine's root file system in its history has musl. Raises UsageError for
    another `--libc`.
    """
    if said:
        name = said.partition("-")[0]
        if name not in ("glibc", "musl"):
            raise UsageError(f"bad --libc '{printable(said)}': expected glibc or musl")
        return name
    history = facts.history if facts else ()
    return "musl" if any("alpine-minirootfs-" in line for line in history) else "glibc"


def entrypoint(folder: str, manifest: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Find the command that starts the project, in its `package.json`.

    Returns the words of the command and an empty text; where no command is found or its file does
    not exist, no words and a warning for the user.
    """
    scripts = manifest.get("scripts")
    start = scripts.get("start") if isinstance(scripts, dict) else None
    words = _words(start) if isinstance(start, str) else ()
    main = manifest.get("main")
    if not words:
        wanted = [main] if isinstance(main, str) and main else []
        server = [] if isinstance(start, str) else ["server.js"]
        files = [*server, *wanted, *([] if wanted else ["index.js"])]
        found = next((one for one in files if _exists(folder, one)), files[-1])
        words = ("node", found)
    file = next((one for one in words[1:] if not one.startswith("-")), "")
    if file and _exists(folder, file):
        return words, ""
    return (), (
        f"the image has no entry point: {printable(file or 'the file that scripts.start names')} "
        "does not exist; build it before the push, or give one by --entrypoint 'node FILE'"
    )


def _words(command: str) -> tuple[str, ...]:
    """Split a command of the form `node FILE …` into words.

    Empty for any other command, because that would need a shell or npm in the container.
    """
    try:
        words = tuple(shlex.split(command))
    except ValueError:
        return ()
    plain = len(words) > 1 and words[0] == "node" and not _SHELL.search(command)
    return words if plain else ()


def _exists(folder: str, file: str) -> bool:
    """Whether Node finds the module `file` in `folder`.

    Node documentation, "Modules", "File modules" and "Folders as modules".
    """
    path = os.path.join(folder, file)
    endings = ("", ".js", ".json", ".node", "/index.js")
    return any(os.path.isfile(path + ending) for ending in endings)
