"""Choose the wheel of each locked package for a target; refuse what cannot be installed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageWheel,
    Pylock,
    PylockSelectError,
)
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from regpush.closure import LockedPackage
from regpush.errors import SourceError, UsageError, printable
from regpush.options import LockOptions
from regpush.sources.lock.artifact import Artifact, secure_hashes
from regpush.sources.python.target import PythonTarget, PythonVersion

_UNTOLD = ("platform_release", "platform_version")
"""Variables of markers whose values only a running machine knows."""

_FIRST, _LAST = 0, 99
"""Patch versions that are tried in place of all, where the base's is unknown."""

_KNOWN = range(9, 16)
"""Minor versions of Python 3 that are tried, to name those with all wheels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A package's wheel; `direct_url`: its URL where it is not from an index, else empty."""

    artifact: Artifact
    direct_url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockQuery:
    """A lock, and the options for choosing from it; `root` is the lock's own folder."""

    pylock: Pylock
    shown: str
    root: str
    options: LockOptions
    is_uv: bool


def choose(wanted: LockQuery, target: PythonTarget) -> list[Chosen]:
    """Choose a wheel for each package that `target` needs, in the lock's order.

    Local packages have no wheel and are left out. Raises UsageError that names a package without a
    fitting wheel, and what to do.
    """
    _refuse_untold(wanted)
    tags = target.tags()
    ranks = {tag: rank for rank, tag in enumerate(tags)}
    found = []
    for package, one in _selected(wanted, target, tags):
        if chosen := _chosen(package, one, wanted, target, ranks):
            found.append(chosen)
    return found


def versions_with_wheels(
    wanted: LockQuery, at: Callable[[PythonVersion], PythonTarget]
) -> list[str]:
    """Try versions of Python; list those for which every package has a wheel."""
    found = []
    for minor in _KNOWN:
        try:
            choose(wanted, at(PythonVersion(minor)))
        except UsageError:
            continue
        found.append(f"3.{minor}")
    return found


def _refuse_untold(wanted: LockQuery) -> None:
    for package in wanted.pylock.packages:
        for variable in _UNTOLD:
            if package.marker and variable in str(package.marker):
                raise UsageError(
                    f"{printable(package.name)} in {wanted.shown} depends on {variable}, which "
                    "only a running machine tells: lock without that marker"
                )


_One = PackageArchive | PackageDirectory | PackageSdist | PackageWheel | object


def _selected(
    wanted: LockQuery, target: PythonTarget, tags: Sequence[Tag]
) -> list[tuple[Package, _One]]:
    """Select packages by their markers, if the unknown patch version makes no difference.

    Raises UsageError where the patch version decides.
    """
    patch = target.python.patch
    if patch is not None:
        return list(_select(wanted, target, tags, patch))
    first = list(_select(wanted, target, tags, _FIRST))
    last = list(_select(wanted, target, tags, _LAST))
    differing = {(p.name, str(p.version)) for p, _ in first} ^ {
        (p.name, str(p.version)) for p, _ in last
    }
    if differing:
        name = printable(min(differing)[0])
        raise UsageError(
            f"whether {name} is needed depends on the patch version of Python: say it, as in "
            f"--python {target.python.short}.4"
        )
    return last


def _select(
    wanted: LockQuery, target: PythonTarget, tags: Sequence[Tag], patch: int
) -> Iterator[tuple[Package, _One]]:
    pylock, options = wanted.pylock, wanted.options
    # What uv exports holds the packages of extras and groups, and no longer says of which.
    extras = () if wanted.is_uv else options.extras
    groups = (*(pylock.default_groups or ()), *(() if wanted.is_uv else options.groups))
    try:
        yield from pylock.select(
            environment=target.markers(patch),
            tags=tags,
            extras=extras,
            dependency_groups=groups,
        )
    except PylockSelectError as error:
        said = str(error).partition(" at packages[")[0]
        raise UsageError(f"{wanted.shown}: {printable(said)}{_hint(said, target)}") from error


def _hint(said: str, target: PythonTarget) -> str:
    if "No wheel" in said:
        return f" ({_wanted_tag(target)}), nor an sdist; --find-links DIR names other wheels"
    return ""


def _chosen(
    package: Package, one: _One, wanted: LockQuery, target: PythonTarget, ranks: Mapping[Tag, int]
) -> Chosen | None:
    match one:
        case PackageDirectory():
            return None
        case PackageWheel(url=url, path=path, size=size, hashes=hashes):
            filename, direct_url = one.filename, ""
        case PackageArchive(url=url, path=path, size=size, hashes=hashes) if _is_wheel(
            url or path or ""
        ):
            filename, direct_url = (
                os.path.basename((url or path or "").partition("#")[0]),
                url or "",
            )
        case _:
            return _linked(package, one, wanted, target, ranks)
    version = str(package.version) if package.version else parse_wheel_filename(filename)[1]
    return Chosen(
        artifact=Artifact(
            package=LockedPackage(
                kind="pypi",
                name=package.name,
                version=str(version),
                hashes=secure_hashes(hashes, filename),
            ),
            filename=filename,
            url=url or "",
            path="" if url else os.path.join(wanted.root, path or ""),
            size=size,
        ),
        direct_url=direct_url,
    )


def _is_wheel(place: str) -> bool:
    return place.partition("#")[0].partition("?")[0].endswith(".whl")


def _linked(
    package: Package, one: _One, wanted: LockQuery, target: PythonTarget, ranks: Mapping[Tag, int]
) -> Chosen:
    """Find a wheel in a folder of `--find-links`, for a package that would need a build.

    Raises UsageError where no folder has a fitting one.
    """
    found: list[tuple[int, str]] = []
    for folder in wanted.options.find_links:
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            raise UsageError(f"--find-links {printable(folder)}: {error.strerror}") from error
        for file in names:
            try:
                name, version, _, tags = parse_wheel_filename(file)
            except (InvalidWheelFilename, InvalidVersion):
                continue
            fits = [ranks[tag] for tag in tags if tag in ranks]
            if name == package.name and version == package.version and fits:
                found.append((min(fits), os.path.join(folder, file)))
    if not found:
        raise _no_wheel(package, one, target)
    return of_file(min(found)[1])


def of_file(path: str) -> Chosen:
    """Describe the wheel at `path`; its hash is computed. Raises UsageError, SourceError."""
    filename = os.path.basename(path)
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise UsageError(f"{printable(path)} is not named as a wheel is") from error
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise SourceError(f"cannot read {printable(path)}: {error.strerror}") from error
    package = LockedPackage(
        kind="pypi", name=name, version=str(version), hashes=(("sha256", digest),)
    )
    return Chosen(
        artifact=Artifact(package=package, filename=filename, path=os.path.abspath(path), size=size)
    )


def check_fits(chosen: Chosen, target: PythonTarget) -> None:
    """Raise UsageError where a wheel that the user named is for other targets."""
    tags = parse_wheel_filename(chosen.artifact.filename)[3]
    if not tags & set(target.tags()):
        raise UsageError(f"{printable(chosen.artifact.filename)} is not for {_wanted_tag(target)}")


def _no_wheel(package: Package, one: _One, target: PythonTarget) -> UsageError:
    named = printable(f"{package.name} {package.version or ''}".strip())
    there = sorted(
        {wheel.filename.removesuffix(".whl").split("-", 2)[-1] for wheel in package.wheels or ()}
    )
    shown = [printable(tag) for tag in there[:3]]
    more = f" and {len(there) - 3} more" if len(there) > 3 else ""
    has = f"it has {', '.join(shown)}{more}" if there else "it has none at all"
    match one:
        case PackageSdist():
            what = f"has no wheel for {_wanted_tag(target)}, only its source ({has})"
        case PackageArchive():
            what = "is the source in an archive"
        case _:
            what = "is a commit of a repository"
    return UsageError(
        f"{named} {what}, and regpush builds no wheels: 'pip wheel' makes a wheel, and "
        "--find-links DIR names the folder"
    )


def _wanted_tag(target: PythonTarget) -> str:
    """Write the most specific wheel tag of the target, for people."""
    version = f"cp3{target.python.minor}"
    abi = f"{version}{'t' if target.python.threaded else ''}"
    libc = target.libc
    family = "musllinux" if libc.name == "musl" else "manylinux"
    return f"{version}-{abi}-{family}_{libc.major}_{libc.minor}_{target.machine}"
