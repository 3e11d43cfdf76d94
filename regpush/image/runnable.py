"""Finds reasons why an image will not run, in its own files and configuration.

The files of a base are unknown, so on a base only certain failures are reported. Pure apart from
`Inside`, which reads files.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from msgspec import Struct

from regpush.closure import Inside, Native, Present
from regpush.entry import Kind, as_text
from regpush.errors import printable
from regpush.image.image import Layer
from regpush.image.inheritance import over, own_config
from regpush.options import ImageOptions
from regpush.platform import Platform
from regpush.sources.elf import HEADER, platform_of

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH of container runtimes where the image sets none."""
_PT_INTERP = 3

_BASE_WITH_IT = "give a base image that has it with --from"


class Below(Struct, frozen=True, kw_only=True):
    """The facts known of a base image: its run configuration, and the paths of its items.

    `items` is None where the paths are unknown, as for an image of another tool.
    """

    config: Mapping[str, Any]
    items: frozenset[str] | None

    @classmethod
    def of(cls, config: Mapping[str, Any], layers: Sequence[Layer]) -> Self:
        """Make the record of a base from its run configuration and its layers.

        `items` is None where a layer does not record its items, or has a generated one, whose links
        lie in places that are not recorded.
        """
        items = [item for layer in layers for item in layer.items]
        known = all(layer.items for layer in layers) and all(one.startswith("/") for one in items)
        return cls(config=config, items=frozenset(items) if known else None)

    def may_hold(self, path: str) -> bool:
        """Whether the base may have something at `path`; always true for relative paths."""
        if self.items is None or not path.startswith("/"):
            return True
        above = posixpath.normpath(path)
        while above not in self.items and above != "/":
            above = posixpath.dirname(above)
        return above in self.items


def doubts(
    inside: Inside, options: ImageOptions, platform: Platform, below: Below | None
) -> Iterator[str]:
    """Yield a warning for each reason why an image of a directory will not run, with its remedy.

    `below`: the facts known of the base, None without a base.
    """
    yield from _of_start(inside, options, platform, below)
    yield from _of_libraries(inside.natives(), platform)


def _of_start(
    inside: Inside, options: ImageOptions, platform: Platform, below: Below | None
) -> Iterator[str]:
    inherited = below.config if below else {}
    run = over(own_config(options, inherited), inherited)
    if options.entrypoint:
        yield from _of_program(options.entrypoint[0], inside, options, run, platform, below)
    elif options.cmd and not run.get("Entrypoint"):
        yield from _of_program(options.cmd[0], inside, options, run, platform, below)
    elif (
        options.entrypoint is None
        and inside.guess
        and not (run.get("Entrypoint") or run.get("Cmd"))
    ):
        guess = inside.guess()
        hint = f"; perhaps {printable(guess)}" if guess else ""
        yield f"the image has no command to start: give one with --entrypoint{hint}"


def _of_program(
    name: str,
    inside: Inside,
    options: ImageOptions,
    run: Mapping[str, Any],
    platform: Platform,
    below: Below | None,
) -> Iterator[str]:
    linked = {posixpath.normpath(path) for path, _ in options.symlinks}
    if "/" in name:
        places = [name]
    else:
        env = dict(entry.partition("=")[::2] for entry in run.get("Env") or ())
        folders = env.get("PATH") or _PATH
        places = [posixpath.join(folder, name) for folder in folders.split(":") if folder]
    found = next(filter(None, map(inside.find, places)), None)
    shown = printable(name)
    if found is None:
        ours = (
            "/" in name and bool(options.home) and name.startswith(options.home.rstrip("/") + "/")
        )
        unknown = below is not None and not ours and any(map(below.may_hold, places))
        if not unknown and not any(_is_linked(place, linked) for place in places):
            mend = "say another --entrypoint" if ours else _BASE_WITH_IT
            yield f"the entry point {shown} is not in the image: {mend}"
    elif found.kind is Kind.SYMLINK:
        if below is None or not below.may_hold(found.link):
            yield (
                f"the entry point {shown} leads to {printable(found.link)}, which is not in the "
                f"image: {_BASE_WITH_IT}"
            )
    elif found.kind is Kind.DIRECTORY or not found.mode & 0o111:
        what = "a directory" if found.kind is Kind.DIRECTORY else "not executable"
        mend = "" if found.kind is Kind.DIRECTORY else f": --chmod {shown}=0755, or chmod +x"
        yield f"the entry point {shown} is {what}{mend}"
    else:
        yield from _of_file(shown, found, inside, linked, platform, below)


def _of_file(
    shown: str,
    found: Present,
    inside: Inside,
    linked: set[str],
    platform: Platform,
    below: Below | None,
) -> Iterator[str]:
    runs_on = platform_of(found.start[:HEADER])
    if runs_on and not _does(runs_on, platform):
        yield (
            f"the entry point {shown} is a program for {runs_on}, and the image is for {platform}: "
            f"build it for {platform}, or say --platform {runs_on}"
        )
    interpreter = _interpreter(found.start) if runs_on else _shebang(found.start)
    if not interpreter or inside.find(interpreter) or _is_linked(interpreter, linked):
        return
    needed = printable(interpreter)
    if interpreter.startswith(inside.place.rstrip("/") + "/"):
        yield (
            f"the entry point {shown} is started by {needed}, a path of this machine: install with "
            "'uv venv --relocatable', or start it as 'python -m MODULE'"
        )
    elif below is None or not below.may_hold(interpreter):
        mend = _BASE_WITH_IT
        if runs_on:
            mend += ", or build a static program"
        yield f"the entry point {shown} needs {needed}, which is not in the image: {mend}"


def _is_linked(path: str, linked: set[str]) -> bool:
    """Whether `path` is one of the links that the image is given, or lies below one."""
    return any(path == link or path.startswith(link + "/") for link in linked)


def _does(runs_on: Platform, wanted: Platform) -> bool:
    """Whether a machine of the platform `wanted` runs programs for `runs_on`.

    A machine for amd64 runs programs for 386 too.
    """
    return runs_on.akin(wanted) or (wanted.architecture, runs_on.architecture) == ("amd64", "386")


def _shebang(start: bytes) -> str:
    """Return the interpreter in the first line of a script (execve(2)); empty without one."""
    if not start.startswith(b"#!"):
        return ""
    words = start[2:].partition(b"\n")[0].split()
    return as_text(words[0]) if words else ""


def _interpreter(start: bytes) -> str:
    """Return PT_INTERP of an ELF file, if its first bytes `start` hold it; else an empty text.

    System V ABI, chapter 5.
    """
    order, wide = ("<" if start[5] == 1 else ">"), start[4] == 2
    at, size_at = (32, 54) if wide else (28, 42)
    try:
        (table,) = struct.unpack_from(order + ("Q" if wide else "I"), start, at)
        size, count = struct.unpack_from(f"{order}HH", start, size_at)
        for number in range(count):
            entry = table + number * size
            (kind,) = struct.unpack_from(f"{order}I", start, entry)
            if kind == _PT_INTERP:
                where = entry + (8 if wide else 4)
                (offset,) = struct.unpack_from(order + ("Q" if wide else "I"), start, where)
                return as_text(start[offset:].partition(b"\0")[0])
    except struct.error:
        return ""
    return ""


def _of_libraries(natives: Sequence[Native], platform: Platform) -> Iterator[str]:
    """Warn of packages all of whose native libraries are for other platforms than `platform`."""
    groups: dict[str, list[Native]] = {}
    for one in natives:
        groups.setdefault(one.group, []).append(one)
    foreign = [
        one
        for group in groups.values()
        if not any(_is_for(one, platform) for one in group)
        for one in group
    ]
    if foreign:
        first = foreign[0]
        libraries = "library" if len(foreign) == 1 else "libraries"
        yield (
            f"{len(foreign)} native {libraries} will not load on {platform}, such as "
            f"{printable(first.path)} for {first.runs_on}: install the dependencies for {platform}"
        )


def _is_for(native: Native, platform: Platform) -> bool:
    return isinstance(native.runs_on, Platform) and native.runs_on.akin(platform)
