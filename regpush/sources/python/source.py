"""Make the closure of a Python project: its packages, its own code and a virtual environment."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from msgspec import Struct
from packaging.utils import canonicalize_name

from regpush.closure import Closure, Item, LockedPackage, SearchPath, Side, Wishes
from regpush.digest import Digest
from regpush.entry import Entry
from regpush.errors import plural, printable
from regpush.events import InputWarned
from regpush.options import LockOptions, SourceOptions
from regpush.platform import Platform
from regpush.quantities import LAYER_LIMIT
from regpush.sources import directory
from regpush.sources.lock.artifact import Artifact, ArtifactLayout, item_of
from regpush.sources.lock.fetch import Fetcher
from regpush.sources.lock.graph import acyclic
from regpush.sources.lock.keep import of_pip
from regpush.sources.lock.logins import Logins, without_login
from regpush.sources.lock.overlaps import Overlaps
from regpush.sources.platforms import of_host
from regpush.sources.python import base, wheel
from regpush.sources.python.certificates import certificates
from regpush.sources.python.choice import (
    Chosen,
    LockQuery,
    check_fits,
    choose,
    of_file,
    versions_with_wheels,
)
from regpush.sources.python.lock import (
    Contents,
    LocalPackage,
    PythonLock,
    contents,
    find,
    read_toml,
)
from regpush.sources.python.project import PythonProject, place
from regpush.sources.python.pyc import Compiler
from regpush.sources.python.stale import check_fresh
from regpush.sources.python.target import PythonTarget
from regpush.sources.python.venv import Environment, own_item
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop

_NOT_CODE = frozenset({b"__pycache__", b".venv", b".pytest_cache", b".mypy_cache", b".ruff_cache"})
"""Folders of caches and environments in a project; they are not pushed, because their content
differs between machines and no program in the image needs it."""


def resolve(
    path: str,
    options: SourceOptions,
    platform: Platform | None,
    workshop: Workshop,
    surroundings: Surroundings,
) -> tuple[str, Closure]:
    """Make the closure of the Python project at `path`.

    Returns a phrase that describes the project in messages, and the closure. A wheel is downloaded
    only when its item is opened. Raises UsageError for a project that cannot be pushed,
    SourceError, the errors of reading the base image from its registry, CancelledError.
    """
    asked = options.lock
    lock = find(path)
    if lock.is_uv:
        check_fresh(lock)
    held = contents(lock, asked, workshop)
    # Paths of wheels are relative to the directory that uv ran in, or to that of the pylock.toml.
    root = os.getcwd() if lock.is_uv else lock.root
    wanted = LockQuery(
        pylock=held.pylock, shown=lock.shown, root=root, options=asked, is_uv=lock.is_uv
    )
    platform = platform or of_host()
    local = _local(lock, held)
    folder = local[0].folder
    target, reference = _target(wanted, folder, options, platform, surroundings)
    environment = Environment(
        prefix=f"{options.root_dir.rstrip('/')}/.venv",
        version=target.python.short,
        threaded=target.python.threaded,
        compiler=Compiler.start(target.python, workshop) if asked.compile else None,
    )
    chosen = [*choose(wanted, target), *_project_wheels(asked, target)]
    _warn_of_large(chosen, workshop)
    logins = _logins(lock, asked, surroundings)
    fetcher = Fetcher(
        workshop,
        surroundings,
        logins,
        mirror=asked.index_url or "",
        elsewhere=of_pip(surroundings.settings.indexes.pip_cache),
        certificates=certificates(surroundings.settings.indexes, workshop.notify),
    )
    packages = _packages(chosen, held.needs, environment, fetcher, Overlaps(workshop.notify))
    wheels = {item.name for item in packages}
    projects = [_place_project(one, folder, lock, options, wheels) for one in local]
    code = tuple(_code(lock, folder, projects, replace(options, base=reference), workshop))
    files = [entry for one in projects for entry in one.installed(environment)]
    own = own_item(environment, base.interpreter(asked), files)
    closure = Closure.build((code[0].path,), (*code, *packages, own), profile=options.profile)
    return (
        f"Python project, {plural(len(packages), 'package')} by {os.path.basename(lock.path)}",
        replace(
            closure,
            system=platform.system,
            search_paths=partial(_search_paths, environment),
            locks=((os.path.basename(lock.path), Digest.of(lock.text)),),
            wishes=_wishes(options, environment, projects[0].project, reference),
        ),
    )


def _warn_of_large(chosen: Sequence[Chosen], workshop: Workshop) -> None:
    """Warn about each wheel of more than 10 GiB, the largest layer that some registries accept.

    A wheel is not divided between layers, and its layer is about as large as the wheel, because
    both are compressed by deflate.
    """
    for one in chosen:
        if (size := one.artifact.size or 0) > LAYER_LIMIT:
            said = f"the wheel of {one.artifact.named} has {size / (1 << 30):.1f} GiB"
            workshop.notify(
                InputWarned(message=f"{said}: some registries refuse layers of more than 10 GiB")
            )


class _PlacedProject(Struct, frozen=True, kw_only=True):
    """A local project; `at`: its folder's path in the image.

    `is_editable`: whether the image gets the files of an editable install of the project. False
    where the project is not a package, or where its wheel is installed.
    """

    project: PythonProject
    at: str
    is_editable: bool

    def installed(self, environment: Environment) -> Iterator[Entry]:
        """Yield the files of the project's editable install in `environment`, if it gets one.

        Raises UsageError where the install would have to run code of the project.
        """
        return self.project.installed(self.at, environment) if self.is_editable else iter(())


def _place_project(
    one: LocalPackage,
    folder: str,
    lock: PythonLock,
    options: SourceOptions,
    wheels: Collection[str],
) -> _PlacedProject:
    project = PythonProject.read(one.name, one.folder)
    installs = one.is_installed and project.is_package and one.name not in wheels
    at = place(one, folder, lock.root, options.root_dir)
    return _PlacedProject(project=project, at=at, is_editable=installs)


def _local(lock: PythonLock, held: Contents) -> Sequence[LocalPackage]:
    """List the project that is pushed, then the other local projects that it needs."""
    if lock.is_uv:
        return held.local
    others = [one for one in held.local if one.folder != lock.target]
    own = [one for one in held.local if one.folder == lock.target]
    path = os.path.join(lock.target, "pyproject.toml")
    value = read_toml(path)[1] if os.path.isfile(path) else {}
    name = canonicalize_name(str(value.get("project", {}).get("name", "")))
    project = LocalPackage(name=name, folder=lock.target, is_installed=bool(name))
    return [*(own or [project]), *others]


def _target(
    wanted: LockQuery,
    folder: str,
    options: SourceOptions,
    platform: Platform,
    surroundings: Surroundings,
) -> tuple[PythonTarget, str | None]:
    """Return what the packages must run on, and the base image's reference (None without a base).

    Without `--from`, the base is the official image of the project's Python version. Raises
    UsageError, and the errors of reading the base image from its registry.
    """
    asked = options.lock
    pinned = _pinned(folder, wanted.root)
    reference = options.base
    facts = surroundings.base(reference, platform) if reference else None

    def choices() -> str:
        found = versions_with_wheels(
            wanted,
            lambda version: PythonTarget(
                python=version, platform=platform, libc=base.libc(asked, facts)
            ),
        )
        return f"; every package has a wheel for {', '.join(found)}" if found else ""

    version = base.python_version(asked, pinned, facts, choices)
    if reference is None and not options.bare:
        reference = base.default_base(version)
        facts = surroundings.base(reference, platform)
        version = base.python_version(asked, pinned, facts, choices)
    return PythonTarget(python=version, platform=platform, libc=base.libc(asked, facts)), reference


def _pinned(folder: str, root: str) -> str:
    """Return the first line of `.python-version` that is no comment, empty without one.

    The file is searched for in `folder`, then in the folders above, up to `root`.
    """
    while True:
        try:
            with open(os.path.join(folder, ".python-version"), encoding="utf-8") as file:
                for line in file:
                    if (text := line.strip()) and not text.startswith("#"):
                        return text
        except (OSError, UnicodeDecodeError):
            pass
        if folder == root or os.path.dirname(folder) == folder:
            return ""
        folder = os.path.dirname(folder)


def _project_wheels(options: LockOptions, target: PythonTarget) -> Iterator[Chosen]:
    """Yield the wheels of `--project-wheel`. Raises UsageError for one not fit for `target`."""
    for path in options.project_wheels:
        chosen = of_file(path)
        check_fits(chosen, target)
        yield chosen


def _logins(lock: PythonLock, options: LockOptions, surroundings: Surroundings) -> Logins:
    """Collect the logins for package indexes, which options, project and environment name."""
    path = os.path.join(lock.root, "pyproject.toml")
    value = read_toml(path)[1] if os.path.isfile(path) else {}
    listed = value.get("tool", {}).get("uv", {}).get("index", [])
    names = {
        one["name"]: one["url"]
        for one in listed
        if isinstance(one, dict) and {"name", "url"} <= one.keys()
    }
    urls = [options.index_url] if options.index_url else []
    return Logins.of(surroundings.settings, urls, names)


def _packages(
    chosen: Sequence[Chosen],
    needs: Mapping[str, Sequence[str]],
    environment: Environment,
    fetcher: Fetcher,
    overlaps: Overlaps,
) -> list[Item]:
    """Make an item of each wheel in `chosen`.

    `needs`: names of dependencies by package name. Where two wheels have one package name, the last
    one is used: a wheel of `--project-wheel` replaces the lock file's.
    """
    by_name = {one.artifact.package.name: one for one in chosen}
    edges = acyclic({name: needs.get(name, ()) for name in by_name})
    paths = {name: _path(one.artifact, environment) for name, one in by_name.items()}
    return [
        item_of(
            one.artifact,
            _layout(one, environment, overlaps),
            opened=partial(_opened, fetcher),
            begin=fetcher.begin,
            references=tuple(paths[needed] for needed in edges[name]),
        )
        for name, one in by_name.items()
    ]


def _path(artifact: Artifact, environment: Environment) -> str:
    package = artifact.package
    return f"{environment.site}/{package.name}-{package.version}.dist-info"


def _layout(one: Chosen, environment: Environment, overlaps: Overlaps) -> ArtifactLayout:
    direct_url = _direct_url(one)
    return ArtifactLayout(
        path=_path(one.artifact, environment),
        folder=environment.prefix,
        rules={
            "wheel": wheel.LAYOUT,
            **environment.rules(),
            **({"direct_url": direct_url.decode()} if direct_url else {}),
        },
        entries=partial(_entries, one.artifact.package, environment, overlaps, direct_url),
    )


def _entries(
    package: LockedPackage,
    environment: Environment,
    overlaps: Overlaps,
    direct_url: bytes,
    path: str,
) -> Iterator[Entry]:
    return wheel.entries(path, package, environment, overlaps, direct_url)


def _opened(fetcher: Fetcher, artifact: Artifact, layout: ArtifactLayout) -> Iterator[Entry]:
    return layout.entries(fetcher.path(artifact))


def _direct_url(one: Chosen) -> bytes:
    """Return the content of the wheel's `direct_url.json`; empty for a wheel from an index.

    PyPA, "Recording the Direct URL Origin of installed distributions".
    """
    if not one.direct_url:
        return b""
    name, digits = one.artifact.package.hashes[0]
    url = without_login(one.direct_url.partition("#")[0])[0]
    return json.dumps({"archive_info": {"hashes": {name: digits}}, "url": url}).encode()


def _code(
    lock: PythonLock,
    folder: str,
    projects: Sequence[_PlacedProject],
    options: SourceOptions,
    workshop: Workshop,
) -> Iterator[Item]:
    """Yield items of the project's code in `folder`, then of local projects outside of `folder`."""
    places = {folder: options.root_dir}
    for one in projects:
        if not one.project.folder.startswith(f"{folder}/"):
            places[one.project.folder] = one.at
    for path, at in places.items():
        found = directory.resolve(
            path,
            replace(options, root_dir=at),
            notify=workshop.notify,
            cancel=workshop.cancel,
            # The lock file changes with each package, and no program in the image reads it.
            without=_NOT_CODE | _environments(path) | {os.fsencode(os.path.basename(lock.path))},
        )
        yield from found.items


def _environments(folder: str) -> frozenset[bytes]:
    """List the names of folders in `folder` that are virtual environments (with `pyvenv.cfg`)."""
    return frozenset(
        os.fsencode(name)
        for name in os.listdir(folder)
        if os.path.isfile(os.path.join(folder, name, "pyvenv.cfg"))
    )


def _search_paths(environment: Environment) -> tuple[SearchPath, ...]:
    return (
        SearchPath("PATH", environment.bin),
        SearchPath("VIRTUAL_ENV", environment.prefix, Side.EXACT),
    )


def _wishes(
    options: SourceOptions, environment: Environment, project: PythonProject, reference: str | None
) -> Wishes:
    """Propose the base image, the working directory and the entry point for `project`.

    Options of the user take precedence. The entry point is the project's program, if it has exactly
    one.
    """
    programs = project.scripts if project.is_package else ()
    entrypoint = (f"{environment.bin}/{programs[0]}",) if len(programs) == 1 else ()
    has = f"{len(programs)} programs" if programs else "no program"
    example = programs[0] if programs else "python -m NAME"
    unsaid = (
        f"the image has no entry point, because [project.scripts] has {has}: give one by "
        f"--entrypoint '{printable(example)}'"
    )
    return Wishes(
        base="" if options.base else reference or "",
        workdir=options.root_dir,
        entrypoint=entrypoint,
        unsaid="" if entrypoint else unsaid,
    )
