"""Choose the platform of each image: the one that the user named, else that of its programs."""

from __future__ import annotations

import platform as machine
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from regpush.closure import Closure
from regpush.errors import UsageError, printable
from regpush.events import InputWarned, Listener, Note
from regpush.options import ImageOptions
from regpush.platform import Platform, has_placeholders, parse_platforms


class Aim(Struct, frozen=True):
    """One image to make: the targets to push into it, and the platform that it is for.

    `platform`: None where the user named no platform. `shared`: whether an image for another
    platform is made of equal targets.
    """

    targets: tuple[str, ...]
    platform: Platform | None
    shared: bool = False


def aims(targets: Sequence[str], options: ImageOptions) -> list[Aim]:
    """Return the targets of each image: one for each platform that the user named, in order.

    Placeholders in targets (`{arch}`) are replaced; they mean this machine's platform where the
    user named none. Raises UsageError for a malformed platform, and for standard input as the
    target of several images.
    """
    platforms = parse_platforms(options.platforms)
    if not platforms and any(map(has_placeholders, targets)):
        platforms = (of_host(),)
    if len(platforms) > 1 and "-" in targets:
        raise UsageError(
            "standard input ('-') can be the target for one platform only: push an image for each "
            "platform, and join them by 'regpush index'"
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
    """Return the platform of the image of `closure`.

    It is the one that the user named, else the source's, else that of `programs`: platforms of
    programs in a directory, each with the path of one. Warns where the named platform does not fit;
    raises UsageError for that where several platforms share the targets, and where no platform is
    known.
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
        message = f"{what}, but --platform marks its image as {aim.platform}"
        notify(InputWarned(message=message))
    return aim.platform


def _of_programs(programs: Mapping[Platform, str], notify: Listener) -> Platform:
    """Return the platform of `programs`; where they are for several, this machine's among them.

    Raises UsageError where they are for several platforms, and none is this machine's.
    """
    host = Platform.of_system(_system())
    first = max(programs)  # a processor of the highest variant runs programs of all variants
    if all(map(first.akin, programs)):
        if host and not first.akin(host):
            path = printable(programs[first])
            notify(Note(message=f"the image is for {first}, the platform of the program {path}"))
        return first
    if host and any(map(host.akin, programs)):
        several = _listed(programs, programs)
        message = f"the image is for {host}, the platform of this machine; there are programs for "
        notify(Note(message=f"{message}{several}"))
        return host
    raise UsageError(
        f"the image's platform is not clear, because there are programs for "
        f"{_listed(programs, programs)}: choose one by --platform, such as {min(programs)}"
    )


def _listed(platforms: Iterable[Platform], programs: Mapping[Platform, str]) -> str:
    """Join platforms for a message: `linux/amd64 (bin/app), linux/arm64 (lib/x.so)`."""
    return ", ".join(
        f"{one} ({printable(programs[one])})" if one in programs else str(one)
        for one in sorted(platforms)
    )


def of_host(system: str | None = None) -> Platform:
    """Return the platform of `system`, in Nix's form, or of this machine where it is None.

    Raises UsageError for a system that is no platform of images.
    """
    system = system or _system()
    said = Platform.of_system(system)
    if said is None:
        raise UsageError(
            f"{printable(system)} is not a platform of images: give one, such as --platform "
            "linux/amd64"
        )
    return said


def _system() -> str:
    return f"{machine.machine()}-{machine.system().lower()}"
