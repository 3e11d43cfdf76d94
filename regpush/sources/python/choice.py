"""Choose the wheel of each package in a lock file that fits the image's Python and platform.

A package without such a wheel is an error, because regpush builds none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct
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

_MACHINE_MARKERS = ("platform_release", "platform_version")
"""Marker variables (PyPA, "Dependency specifiers") whose values only a running machine knows."""

_FIRST, _LAST = 0, 99
"""The lowest and highest patch version: where it is unknown, packages are selected for both."""

_KNOWN = range(9, 16)
"""Minor versions of Python 3 that an error message may propose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The wheel chosen for a package.

    `direct_url`: the wheel's URL where the project names it by URL, empty for one from an index.
    """

    artifact: Artifact
    direct_url: str = field(default="", repr=False)


class LockQuery(Struct, frozen=True, kw_only=True):
    """A lock file and the options that select packages from it.

    `shown`: the lock file's path, for messages. `root`: the folder to which paths of wheels in
    `pylock` are relative. `is_uv`: whether `pylock` was exported from a `uv.lock`.
    """

    pylock: Pylock
    shown: str
    root: str
    options: LockOptions
    is_uv: bool


def choose(wanted: LockQuery, target: PythonTarget) -> list[Chosen]:
    """Choose the best wheel for each package that `target` needs, in the lock file's order.

    Packages that are folders of the workspace have no wheel and are left out. Raises UsageError
    where a package has no wheel for `target`.
    """
    _refuse_machine_markers(wanted)
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
    """List the Python versions 3.9 to 3.15 (as `3.13`) for which every package has a wheel.

    `at`: makes the target for a version.
    """
    found = []
    for minor in _KNOWN:
        try:
            choose(wanted, at(PythonVersion(minor)))
        except UsageError:
            continue
        found.append(f"3.{minor}")
    return found


def _refuse_machine_markers(wanted: LockQuery) -> None:
    for package in wanted.pylock.packages:
        for variable in _MACHINE_MARKERS:
            if package.marker and variable in str(package.marker):
                raise UsageError(
                    f"{wanted.shown} selects {printable(package.name)} by the marker {variable}, "
                    "whose value only a running machine has: remove that marker and lock again"
                )


_One = PackageArchive | PackageDirectory | PackageSdist | PackageWheel | object


def _selected(
    wanted: LockQuery, target: PythonTarget, tags: Sequence[Tag]
) -> list[tuple[Package, _One]]:
    """List the packages whose markers and tags fit `target`, each with its chosen file.

    Raises UsageError where the selection depends on the patch version, and `target` has none.
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
            f"whether {name} is needed depends on the patch version of Python, which is not known: "
            f"give it, as in --python {target.python.short}.4"
        )
    return last


def _select(
    wanted: LockQuery, target: PythonTarget, tags: Sequence[Tag], patch: int
) -> Iterator[tuple[Package, _One]]:
    pylock, options = wanted.pylock, wanted.options
    # uv's export was made for the chosen extras and groups, and does not name them any more.
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
        return f" ({_wanted_tag(target)}), nor an sdist; give a folder of wheels by --find-links"
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
            return _from_find_links(package, one, wanted, target, ranks)
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


def _from_find_links(
    package: Package, one: _One, wanted: LockQuery, target: PythonTarget, ranks: Mapping[Tag, int]
) -> Chosen:
    """Find a wheel in the folders of `--find-links`, for a package that is locked as source only.

    Of several wheels that fit `target`, the best is used. Raises UsageError where no wheel fits.
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
    """Describe the wheel at `path` on this machine, and compute its sha256.

    Raises UsageError where the file's name is not a wheel's, SourceError where it cannot be read.
    """
    filename = os.path.basename(path)
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise UsageError(
            f"{printable(path)} does not have the name of a wheel (NAME-VERSION-TAGS.whl)"
        ) from error
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
    """Raise UsageError where the wheel of `--project-wheel` does not run on `target`."""
    tags = parse_wheel_filename(chosen.artifact.filename)[3]
    if not tags & set(target.tags()):
        raise UsageError(
            f"--project-wheel {printable(chosen.artifact.filename)} does not run in the image, "
            f"which needs a wheel for {_wanted_tag(target)}"
        )


def _no_wheel(package: Package, one: _One, target: PythonTarget) -> UsageError:
    named = printable(f"{package.name} {package.version or ''}".strip())
    there = sorted(
        {wheel.filename.removesuffix(".whl").split("-", 2)[-1] for wheel in package.wheels or ()}
    )
    shown = [printable(tag) for tag in there[:3]]
    more = f" and {len(there) - 3} more" if len(there) > 3 else ""
    has = (
        f"its wheels are for {', '.join(shown)}{more}"
        if there
        else "the lock file lists no wheel of it"
    )
    match one:
        case PackageSdist():
            what = f"has no wheel for {_wanted_tag(target)} ({has})"
        case PackageArchive():
            what = "is in the lock file as a source archive"
        case _:
            what = "is in the lock file as a commit of a repository"
    return UsageError(
        f"{named} {what}, and regpush builds no wheels: make one by 'pip wheel', and give its "
        "folder by --find-links"
    )


def _wanted_tag(target: PythonTarget) -> str:
    """Return the most specific wheel tag of `target`: `cp313-cp313-manylinux_2_36_x86_64`."""
    version = f"cp3{target.python.minor}"
    abi = f"{version}{'t' if target.python.threaded else ''}"
    libc = target.libc
    family = "musllinux" if libc.name == "musl" else "manylinux"
    return f"{version}-{abi}-{family}_{libc.major}_{libc.minor}_{target.machine}"
