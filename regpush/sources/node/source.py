"""The parts of a Node project's image, put together: packages, own code, links."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from regpush.closure import Closure, Identity, Item, LockedPackage, Role, Wishes
from regpush.digest import Digest
from regpush.entry import Entry, TreeHash
from regpush.errors import UsageError
from regpush.events import InputWarned
from regpush.options import SourceOptions
from regpush.platform import Platform
from regpush.sources import directory
from regpush.sources.lock.artifact import Artifact, Layout, item_of
from regpush.sources.lock.fetch import Fetcher
from regpush.sources.lock.graph import acyclic
from regpush.sources.lock.logins import Logins
from regpush.sources.node import base, tarball
from regpush.sources.node.choice import Target, choose
from regpush.sources.node.lock import Lock, Locked, check_fresh, read, read_manifest
from regpush.sources.node.tarball import Place, Program
from regpush.sources.platforms import of_host
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop

_REGISTRY = "https://registry.npmjs.org"
"""Where packages are that the lock has no URL of (npm, "omit-lockfile-registry-resolved")."""

PATH = "(workspaces)"
"""In place of a path: the item lies in several folders."""


def resolve(
    path: str,
    options: SourceOptions,
    platform: Platform | None,
    workshop: Workshop,
    surroundings: Surroundings,
) -> tuple[str, Closure]:
    """What kind of thing the project at `path` is, for people, and its closure.

    No tarball is fetched before its item is opened. Raises UsageError for what cannot be pushed,
    SourceError, what reading the base raises, CancelledError.
    """
    lock = read(path)
    check_fresh(lock)
    manifest = read_manifest(lock.root)
    platform = platform or of_host()
    reference = options.base
    if reference is None and not options.bare:
        reference = base.default_base(lock.root, manifest)
    facts = surroundings.base(reference, platform) if reference else None
    target = Target(platform=platform, libc=base.libc(options.lock.libc, facts))
    chosen = choose(lock, target, groups=options.lock.groups)
    _warn(chosen, workshop)
    urls = [options.lock.index_url] if options.lock.index_url else []
    logins = Logins.of(surroundings.settings, urls, {})
    fetcher = Fetcher(workshop, surroundings, logins, options.lock.index_url or "")
    packages = _packages(lock, chosen, options.root_dir, fetcher, workshop)
    code = directory.resolve(
        lock.root,
        replace(options, base=reference),
        notify=workshop.notify,
        cancel=workshop.cancel,
        # A lock changes with each package, and nothing at run time reads it.
        without=frozenset({b"node_modules", os.fsencode(os.path.basename(lock.path))}),
    )
    links = list(_links(lock, options))
    closure = Closure.build(
        (code.items[0].path,), (*code.items, *packages, *links), profile=options.profile
    )
    words, unsaid = base.entrypoint(lock.root, manifest)
    return (
        f"Node project, {len(packages)} packages by {lock.shown}",
        replace(
            closure,
            system=platform.system,
            locks=((os.path.basename(lock.path), Digest.of(lock.text)),),
            wishes=Wishes(
                base="" if options.base else reference or "",
                workdir=options.root_dir,
                entrypoint=words,
                unsaid=unsaid,
            ),
        ),
    )


def _warn(chosen: Mapping[str, Locked], workshop: Workshop) -> None:
    names = [one.named for one in chosen.values() if one.said("hasInstallScript")]
    if names:
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if names[10:] else "")
        verb = "has an install script" if len(names) == 1 else "have install scripts"
        workshop.notify(InputWarned(message=f"{shown} {verb}, which are not run"))


def _packages(
    lock: Lock,
    chosen: Mapping[str, Locked],
    root: str,
    fetcher: Fetcher,
    workshop: Workshop,
) -> list[Item]:
    """An item for each tarball; what is bundled in one belongs to it."""
    owners = {at: _owner(one, chosen) for at, one in chosen.items()}
    own = {at: one for at, one in chosen.items() if owners[at] == at}
    needs = {
        at: tuple(
            owners[found.at]
            for name, _ in one.needs()
            if (found := lock.find(name, at)) is not None and found.at in owners
        )
        for at, one in own.items()
    }
    edges = acyclic(needs)
    programs = _programs(chosen, owners)
    artifacts = {at: _artifact(one, lock.root) for at, one in own.items()}
    paths = {at: _path(root, at, artifact) for at, artifact in artifacts.items()}
    return [
        item_of(
            artifacts[at],
            _layout(
                one, paths[at], root, programs.get(at, ()), workshop, _is_whole(lock, one, own)
            ),
            opened=partial(_opened, fetcher),
            begin=fetcher.begin,
            references=tuple(paths[needed] for needed in edges[at]),
        )
        for at, one in own.items()
    ]


def _opened(fetcher: Fetcher, artifact: Artifact, layout: Layout) -> Iterator[Entry]:
    return layout.entries(fetcher.path(artifact))


def _owner(one: Locked, chosen: Mapping[str, Locked]) -> str:
    """The folder of the package whose tarball holds `one`: its own, or of one that bundles it."""
    while one.said("inBundle"):
        above = one.modules.removesuffix("node_modules").rstrip("/")
        if above not in chosen:
            return one.at  # the project bundles it, when it is packed itself
        one = chosen[above]
    return one.at


def _programs(
    chosen: Mapping[str, Locked], owners: Mapping[str, str]
) -> dict[str, tuple[Program, ...]]:
    """The programs of each tarball. Of several of one name the first keeps it, as npm does it."""
    taken: set[tuple[str, str]] = set()
    found: dict[str, list[Program]] = {}
    for at, one in sorted(chosen.items(), key=lambda pair: (pair[0].lower(), pair[0])):
        owner = owners[at]
        inside = at[len(owner) :].lstrip("/")
        for name, file in sorted(one.bins().items()):
            folder = f"{one.modules}/.bin"
            if (folder, name) not in taken:
                taken.add((folder, name))
                program = Program(folder=folder, name=name, file=f"{inside}/{file}".lstrip("/"))
                found.setdefault(owner, []).append(program)
    return {owner: tuple(several) for owner, several in found.items()}


def _artifact(one: Locked, root: str) -> Artifact:
    """The tarball of a package. Raises UsageError where the lock names none that is verified."""
    url, path = one.text("resolved"), ""
    if url.startswith(("git", "ssh:")) or url.partition("#")[0].endswith(".git"):
        raise UsageError(
            f"{one.named} comes from git, so the lock has no hash of its files: depend on a "
            "release of it, or on a tarball ('npm pack')"
        )
    if url.startswith("file:"):
        url, path = "", os.path.join(root, url.removeprefix("file:"))
    elif not url and one.version:
        url = f"{_REGISTRY}/{one.name}/-/{one.name.rpartition('/')[2]}-{one.version}.tgz"
    elif not url.startswith(("https://", "http://")):
        raise UsageError(f"the lock does not say where {one.named} is: run 'npm install'")
    package = LockedPackage(kind="npm", name=one.name, version=one.version, hashes=one.hashes())
    filename = (url or path).partition("?")[0].rpartition("/")[2]
    return Artifact(package=package, filename=filename, url=url, path=path)


def _path(root: str, at: str, artifact: Artifact) -> str:
    """The folder of a package and its version: no file, since the folder alone names no version."""
    version = artifact.package.version or artifact.package.hashes[0][1][:12]
    return f"{root.rstrip('/')}/{at}@{version}"


def _layout(
    one: Locked,
    path: str,
    root: str,
    programs: tuple[Program, ...],
    workshop: Workshop,
    is_whole: bool,
) -> Layout:
    top = one.modules
    place = Place(root=root.rstrip("/"), at=one.at, modules=top, programs=programs)
    return Layout(
        path=path,
        folder=f"{root.rstrip('/')}/{top}",
        rules=place.rules(),
        entries=partial(_entries, place, one.named, workshop, is_whole),
    )


def _entries(
    place: Place, named: str, workshop: Workshop, is_whole: bool, path: str
) -> Iterator[Entry]:
    scratch = workshop.path("tarballs")
    os.makedirs(scratch, exist_ok=True)
    return tarball.entries(
        path, place, what=f"the tarball of {named}", scratch=scratch, may_build=is_whole
    )


def _is_whole(lock: Lock, one: Locked, chosen: Mapping[str, Locked]) -> bool:
    """Whether a package works without its install script, as far as the lock tells.

    It has none, the project can do without it, or its binary is in an optional package.
    """
    if not one.said("hasInstallScript") or one.said("optional"):
        return True
    binaries = (lock.find(name, one.at) for name in one.table("optionalDependencies"))
    return any(found and found.at in chosen and "cpu" in found.value for found in binaries)


def _links(lock: Lock, options: SourceOptions) -> Iterator[Item]:
    """An item of the links to local packages and to their programs, where there are any."""
    root = options.root_dir.rstrip("/")
    made: dict[bytes, Entry] = {}
    tops: list[str] = []
    for one in lock.packages.values():
        if not one.said("link") or (one.said("dev") and "dev" not in options.lock.groups):
            continue
        resolved, local = one.text("resolved"), lock.target(one)
        if local is None or not resolved:
            raise UsageError(f"{lock.shown} links {one.named} to nothing that it has")
        tops.append(one.modules)
        programs = [
            Program(folder=f"{one.modules}/.bin", name=name, file=file)
            for name, file in local.bins().items()
            if os.path.isfile(os.path.join(lock.root, resolved, file))
        ]
        folder, _, name = one.at.rpartition("/")
        link = Program(folder=folder, name=name, file=resolved)
        for entry in (
            tarball.program_link(root, link, "."),
            *(tarball.program_link(root, program, one.at) for program in programs),
        ):
            made.setdefault(entry.path, entry)
    if made:
        yield _generated(made, [f"{root}/{top}".strip("/").encode() for top in tops])


def _generated(made: dict[bytes, Entry], tops: Sequence[bytes]) -> Item:
    for top in tops:
        below = {path: entry for path, entry in made.items() if path.startswith(top + b"/")}
        made |= {one.path: one for one in tarball.parents(below, top)}
    entries = tuple(made[path] for path in sorted(made))
    tree = TreeHash()
    for entry in entries:
        tree.add(entry)
    return Item(
        path=PATH,
        name="workspaces",
        origin="workspaces",
        identity=Identity.tree(tree.digest()),
        size=0,
        entries=partial(iter, entries),
        role=Role.GENERATED,
    )
