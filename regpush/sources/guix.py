"""Build Guix packages into a profile, by the command `guix`.

Guix manual, "Invoking guix shell": `guix shell --search-paths` builds the profile and starts no
shell, and `--root` protects it from the garbage collector. `guix shell` cannot cross-compile; for
that, the profile is given to `guix build --target` as a Scheme expression.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence

from msgspec import Struct

from regpush.errors import SourceError, UsageError, printable
from regpush.events import Warned
from regpush.options import GuixOptions
from regpush.sources.tools import ToolError, Workshop, find_program

_SPECIFICATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*(@[A-Za-z0-9+._~-]+)?(:[a-z0-9-]+)?")

_SYSTEMS = {"armv7l-linux": "armhf-linux", "ppc64le-linux": "powerpc64le-linux"}
"""Guix's names of systems by Nix's, where they differ (Guix manual, "Invoking guix build")."""

_MACHINES = {"arm": "armv7l", "i586": "i686", "powerpc64le": "ppc64le"}
"""Nix's names of processors by their names in GNU triplets, where they differ."""

CHANNELS = "dev.regpush.guix.channels"
"""Name of an annotation and label; its value is a `channels.scm`: the Guix channels, with commits,
from which the packages were built."""
OPTIONS = "dev.regpush.guix.options"
"""Name of an annotation and label; its value is a JSON list of the packages and options from which
the profile was built."""


class Built(Struct, frozen=True, kw_only=True):
    """A built profile: its store path, and `provenance`: (name, text) pairs about its channels."""

    profile: str
    provenance: tuple[tuple[str, str], ...]


def has_guix() -> bool:
    """Whether the program `guix` is on the PATH."""
    return find_program("guix") is not None


def is_specification(text: str) -> bool:
    """Whether `text` has the form of a Guix package's name: `name[@version][:output]`."""
    return _SPECIFICATION.fullmatch(text) is not None


def system_of(triplet: str) -> str:
    """Convert a GNU triplet (`aarch64-linux-gnu`) into a system in Nix's form (`aarch64-linux`)."""
    machine, _, rest = triplet.partition("-")
    kernel = "linux" if "linux" in rest else rest
    return f"{_MACHINES.get(machine, machine)}-{kernel}"


def build(
    packages: Sequence[str], options: GuixOptions, system: str | None, workshop: Workshop
) -> Built:
    """Build a profile of `packages` and of the manifests, expressions and files in `options`.

    `system`: Nix's name of the system to build for, None for this machine's. The garbage collector
    keeps the profile until the push ends. Guix's messages become events. Raises UsageError for a
    malformed name and for options that Guix cannot combine, SourceError where a build fails,
    CancelledError.
    """
    if not has_guix():
        raise UsageError(
            f"guix:{printable(' '.join(packages))} needs Guix, but 'guix' is not on the PATH: "
            "install Guix"
        )
    for package in packages:
        if not is_specification(package):
            raise UsageError(
                f"bad Guix package '{printable(package)}': expected a name such as guile, "
                "guile@3.0 or git:send-email"
            )
    if not packages and not options.names_packages:
        raise UsageError(
            "the target 'guix:' names no package: write guix:hello, or give -m manifest.scm"
        )
    root = workshop.new_path("profile")
    system = _SYSTEMS.get(system, system) if system else None
    for_system = [f"--system={system}"] if system else []
    chosen = [*for_system, *options.options]
    if options.target:
        _check_cross(options)
        expression = ["-e", _profile(packages, options)]
        target = f"--target={options.target}"
        workshop.run(*_guix(options), "build", f"--root={root}", target, *chosen, *expression)
    else:
        # `guix shell` adds packages to the profile in reverse order. Reversed here, they are in the
        # order of `guix pack`.
        chosen += [*_content(options), *reversed(packages)]
        _shell([*_guix(options), "shell", f"--root={root}", "--search-paths"], chosen, workshop)
        _check_collisions(os.readlink(root))
    return Built(
        profile=os.readlink(root), provenance=_provenance(packages, options, system, workshop)
    )


def _guix(options: GuixOptions) -> tuple[str, ...]:
    """Return the command `guix`, or `guix time-machine … --` where the user gave channels."""
    if options.channels:
        return ("guix", "time-machine", f"--channels={options.channels}", "--")
    return ("guix",)


def _shell(command: Sequence[str], chosen: Sequence[str], workshop: Workshop) -> None:
    """Run `guix shell`; if its cache of profiles makes it fail, run it again without that cache.

    Guix 1.5 fails with a cached profile, because it registers a root before it has connected to the
    daemon (`add-indirect-root #f`, guix/scripts/environment.scm).
    """
    try:
        workshop.run(*command, *chosen)
    except ToolError as error:
        if not any(_UNCONNECTED in line for line in error.said):
            raise
        workshop.run(*command, "--rebuild-cache", *chosen)


_UNCONNECTED = "add-indirect-root"


def _check_collisions(profile: str) -> None:
    """Raise SourceError where the profile contains two versions of one package.

    `guix pack` refuses such a profile too (`check-for-collisions`, guix/profiles.scm); `guix shell`
    builds it, and files of one version hide those of the other. The profile's file `manifest` lists
    name, version, output and store path of each package.
    """
    try:
        with open(os.path.join(profile, "manifest"), encoding="utf-8") as file:
            entries = _ENTRY.findall(file.read(_MANIFEST_LIMIT))
    except (OSError, ValueError):
        return  # a profile without a readable manifest cannot be checked
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for name, version, output, path in entries:
        first_version, first = seen.setdefault((name, output), (version, path))
        if first != path:
            raise SourceError(
                f"the Guix profile would contain two versions of {printable(name)}: "
                f"{printable(first_version)} ({printable(first)}) and {printable(version)} "
                f"({printable(path)}); remove one of them from the target or its manifests"
            )


_ENTRY = re.compile(r'\(\s*"([^"]+)"\s+"([^"]+)"\s+"([^"]+)"\s+"(/[^"]+)"')
_MANIFEST_LIMIT = 64 << 20


def _content(options: GuixOptions) -> list[str]:
    return [
        *(f"--manifest={path}" for path in options.manifests),
        *(f"--expression={text}" for text in options.expressions),
        *(f"--file={path}" for path in options.files),
    ]


def _check_cross(options: GuixOptions) -> None:
    transformations = [one for one in options.options if re.match(r"--(with|without|tune)", one)]
    if transformations:
        raise UsageError(
            f"{printable(transformations[0])} cannot be combined with --guix-target; transform the "
            "packages in a manifest (options->transformation)"
        )


def _profile(packages: Sequence[str], options: GuixOptions) -> str:
    """Return a Scheme expression for a profile of `packages` and of what `options` name."""
    manifests = [f"(load {_string(os.path.abspath(path))})" for path in options.manifests]
    if packages:
        manifests.append(f"(specifications->manifest (list {' '.join(map(_string, packages))}))")
    items = [
        *options.expressions,
        *(f"(load {_string(os.path.abspath(path))})" for path in options.files),
    ]
    if items:
        manifests.append(f"(packages->manifest (list {' '.join(items)}))")
    content = f"(concatenate-manifests (list {' '.join(manifests)}))"
    return (
        f"(begin (use-modules (gnu) (gnu packages) (guix profiles)) (profile (content {content})))"
    )


def _string(text: str) -> str:
    """Return `text` as a string literal of Scheme."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _provenance(
    packages: Sequence[str], options: GuixOptions, system: str | None, workshop: Workshop
) -> tuple[tuple[str, str], ...]:
    if not options.save_provenance:
        return ()
    try:
        channels = workshop.ask(*_guix(options), "describe", "--format=channels")
    except ToolError as error:
        raise ToolError(f"--save-provenance: {error}", error.said) from error
    words = [*_content(options), *options.options, *packages]
    words += [f"--system={system}"] if system else []
    words += [f"--target={options.target}"] if options.target else []
    made = ((OPTIONS, json.dumps(words)),)
    if lacks := _lacking(channels):
        message = (
            f"--save-provenance: a channel of this Guix has no {lacks}, so the image gets no "
            "annotation with its channels"
        )
        workshop.notify(Warned(message=message))
        return made
    return ((CHANNELS, channels), *made)


def _lacking(channels: str) -> str:
    """Return the field that a channel lacks in the text of a `channels.scm`: `url` or `commit`.

    A channel can be fetched again only with both. Empty if every channel has both; `channels` if
    the text lists no channel.
    """
    listed = _COMMENT.sub("", channels).split(
        "(channel\n" if "(channel\n" in channels else "(channel "
    )
    for one in listed[1:]:
        for part in ("url", "commit"):
            if not re.search(rf'\({part}\s+"[^"]+"\s*\)', one):
                return part
    return "" if listed[1:] else "channels"


_COMMENT = re.compile(r"^\s*;.*$", re.MULTILINE)
