"""Packages become a profile, built by the real `guix`.

Guix manual, "Invoking guix shell": `--root` links the profile and registers it as a root of
the garbage collector, `--search-paths` builds it and runs nothing in it. `guix shell` does not
cross-compile: `guix build --target` of a profile as an expression does.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from regpush.errors import UsageError, printable
from regpush.options import GuixOptions
from regpush.sources.tools import ToolError, Workshop, find_program

_SPECIFICATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*(@[A-Za-z0-9+._~-]+)?(:[a-z0-9-]+)?")

_SYSTEMS = {"armv7l-linux": "armhf-linux", "ppc64le-linux": "powerpc64le-linux"}
"""What Guix calls systems that Nix calls otherwise (Guix manual, "Invoking guix build")."""

_MACHINES = {"arm": "armv7l", "i586": "i686", "powerpc64le": "ppc64le"}
"""Machines in triplets that are called otherwise in systems."""

CHANNELS = "dev.regpush.guix.channels"
"""Annotation and label: the channels, as a `channels.scm`, that packages came from."""
OPTIONS = "dev.regpush.guix.options"
"""Annotation and label: packages and options of the profile, as a JSON list of words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The store path of a profile; `provenance` as `Closure` has it."""

    profile: str
    provenance: tuple[tuple[str, str], ...]


def has_guix() -> bool:
    """Whether Guix is on the PATH."""
    return find_program("guix") is not None


def is_specification(text: str) -> bool:
    """Whether `text` may name a package: `name[@version][:output]`."""
    return _SPECIFICATION.fullmatch(text) is not None


def system_of(triplet: str) -> str:
    """The system of a GNU triplet as Nix would name it: `aarch64-linux`."""
    machine, _, rest = triplet.partition("-")
    kernel = "linux" if "linux" in rest else rest
    return f"{_MACHINES.get(machine, machine)}-{kernel}"


def build(
    packages: Sequence[str], options: GuixOptions, system: str | None, workshop: Workshop
) -> Built:
    """Build a profile of `packages` and what `options` names, a root until the push ends.

    What Guix says becomes events. Raises UsageError for what cannot be asked of it, SourceError
    for what does not build, CancelledError.
    """
    if not has_guix():
        raise UsageError(
            f"guix:{printable(' '.join(packages))} takes Guix, and there is no 'guix' on the PATH"
        )
    for package in packages:
        if not is_specification(package):
            raise UsageError(
                f"bad package '{printable(package)}': such as guile, guile@3.0 or git:send-email"
            )
    if not packages and not options.names_packages:
        raise UsageError("guix: names no package; such as guix:hello, or -m manifest.scm")
    root = workshop.new_path("profile")
    system = _SYSTEMS.get(system, system) if system else None
    for_system = [f"--system={system}"] if system else []
    chosen = [*for_system, *options.options]
    if options.target:
        _check_cross(options)
        expression = ["-e", _profile(packages, options)]
        target = f"--target={options.target}"
        workshop.run("guix", "build", f"--root={root}", target, *chosen, *expression)
    else:
        chosen += _content(options)
        workshop.run("guix", "shell", f"--root={root}", "--search-paths", *chosen, *packages)
    return Built(
        profile=os.readlink(root), provenance=_provenance(packages, options, system, workshop)
    )


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
            f"{printable(transformations[0])} does not go with --guix-target; transform the "
            "packages in a manifest (options->transformation)"
        )


def _profile(packages: Sequence[str], options: GuixOptions) -> str:
    """The profile of packages, manifests, expressions and files, as an expression of Scheme."""
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
    """A string literal of Scheme."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _provenance(
    packages: Sequence[str], options: GuixOptions, system: str | None, workshop: Workshop
) -> tuple[tuple[str, str], ...]:
    if not options.save_provenance:
        return ()
    try:
        channels = workshop.ask("guix", "describe", "--format=channels")
    except ToolError as error:
        raise ToolError(f"--save-provenance: {error}", error.said) from error
    words = [*_content(options), *options.options, *packages]
    words += [f"--system={system}"] if system else []
    words += [f"--target={options.target}"] if options.target else []
    return ((CHANNELS, channels), (OPTIONS, json.dumps(words)))
