"""Choose the platform of each image: the one the user named, else the source's."""

from __future__ import annotations

import platform as machine
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from regpush.closure import Closure
from regpush.errors import UsageError, printable
from regpush.events import InputWarned, Listener, Note
from regpush.options import ImageOptions
from regpush.platform import Platform, has_placeholders, parse_platforms


@dataclass(frozen=True, slots=True)
class Aim:
    """Targets for one platform; `platform` is None where the source decides.

    `shared`: images for other platforms are made of the very same targets.
    """

    targets: tuple[str, ...]
    platform: Platform | None
    shared: bool = False


def aims(targets: Sequence[str], options: ImageOptions) -> list[Aim]:
    """Make the targets of each platform the user named, placeholders replaced, in order.

    Raises UsageError.
    """
    platforms = parse_platforms(options.platforms)
    if not platforms and any(map(has_placeholders, targets)):
        platforms = (of_host(),)
    if len(platforms) > 1 and "-" in targets:
        raise UsageError(
            "'-' is read only once, and becomes an image for one platform: push each by itself, "
            "and join them by 'regpush index'"
        )
    filled = [tuple(map(one.fill, targets)) for one in platforms]
    found = [
        Aim(texts, one, shared=filled.count(texts) > 1)
        for texts, one in zip(filled, platforms, strict=True)
    ]
    return found or [Aim(tuple(targets), None)]


def platform_of(
    aim: Aim, closure: Closure, programs: Mapping[Platform, str], notify: Listener
) -> Platform:
    """Decide the platform of the image of `closure`.

    `programs`: those found in a directory. Raises UsageError where the platform is unknown, or
    where targets shared by several platforms are not for this one.
    """
    said = Platform.of_system(closure.system) if closure.system else None
    if aim.platform is None:
        return said or (_of_programs(programs, notify) if programs else of_host(closure.system))
    known = [said] if said else programs
    fits = said.rank(aim.platform) is not None if said else any(map(aim.platform.akin, programs))
    if known and not fits:
        what = f"{printable(' '.join(aim.targets))} is for {_listed(known, programs)}"
        if aim.shared:
            raise UsageError(
                f"{what}, not for {aim.platform}: name a target for each platform, such as "
                "result-{arch}"
            )
        notify(InputWarned(message=f"{what}, and becomes an image for {aim.platform}"))
    return aim.platform


def _of_programs(programs: Mapping[Platform, str], notify: Listener) -> Platform:
    """Return the platform of all programs; of several, this machine's. Raises UsageError."""
    host = Platform.of_system(_system())
    first = max(programs)  # of variants the highest runs all
    if all(map(first.akin, programs)):
        if host and not first.akin(host):
            notify(Note(message=f"the image is for {first}, like {printable(programs[first])}"))
        return first
    if host and any(map(host.akin, programs)):
        several = _listed(programs, programs)
        notify(Note(message=f"of {several} the image is for {host}, like this machine"))
        return host
    raise UsageError(
        f"what should the image run on? There are programs for {_listed(programs, programs)}: "
        f"say --platform {min(programs)}"
    )


def _listed(platforms: Iterable[Platform], programs: Mapping[Platform, str]) -> str:
    """List platforms for people: `linux/amd64 (bin/app), linux/arm64 (lib/x.so)`."""
    return ", ".join(
        f"{one} ({printable(programs[one])})" if one in programs else str(one)
        for one in sorted(platforms)
    )


def of_host(system: str | None = None) -> Platform:
    """Return the platform of this machine, or of `system`. Raises UsageError if unknown."""
    system = system or _system()
    said = Platform.of_system(system)
    if said is None:
        raise UsageError(
            f"what should the image run on? not {printable(system)}: say --platform linux/amd64"
        )
    return said


def _system() -> str:
    return f"{machine.machine()}-{machine.system().lower()}"
