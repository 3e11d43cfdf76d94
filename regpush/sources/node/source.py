"""Make the closure of a Node project: its packages, its own code and symbolic links."""

from __future__ import annotations

import os
from dataclasses import replace

from regpush.closure import Closure, Wishes
from regpush.digest import Digest
from regpush.errors import plural, printable
from regpush.events import InputWarned, Note
from regpush.options import SourceOptions
from regpush.ownership import Rules
from regpush.platform import Platform
from regpush.sources import directory
from regpush.sources.lock.fetch import Fetcher
from regpush.sources.lock.keep import of_npm
from regpush.sources.lock.logins import Logins, without_login
from regpush.sources.node import base, isolated, npm
from regpush.sources.node.certificates import certificates, unheeded
from regpush.sources.node.choice import NodeTarget
from regpush.sources.node.lock import PNPM, find, read_manifest
from regpush.sources.node.npmrc import Npmrc
from regpush.sources.node.parts import NodeParts, NodeProject
from regpush.sources.platforms import of_host
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop


def resolve(
    path: str,
    options: SourceOptions,
    platform: Platform | None,
    workshop: Workshop,
    surroundings: Surroundings,
) -> tuple[str, Closure]:
    """Make the closure of the Node project at `path`.

    Returns a phrase that describes the project in messages, and the closure. A tarball is
    downloaded only when its item is opened. Raises UsageError for a project that cannot be pushed,
    SourceError, the errors of reading the base image from its registry, CancelledError.
    """
    at = find(path)
    root = os.path.dirname(at)
    manifest = read_manifest(root)
    platform = platform or of_host()
    reference = options.base
    if reference is None and not options.bare:
        reference = base.default_base(root, manifest)
    facts = surroundings.base(reference, platform) if reference else None
    if said := base.version_warning(root, manifest, facts):
        workshop.notify(InputWarned(message=said))
    npmrc = Npmrc.of(root, surroundings.settings.indexes.npm)
    project = NodeProject(
        root=root,
        target=NodeTarget(platform=platform, libc=base.libc(options.lock.libc, facts)),
        node=base.node_version(facts),
        groups=options.lock.groups,
        root_dir=options.root_dir.rstrip("/"),
        npmrc=npmrc,
        fetcher=_fetcher(root, npmrc, options.lock.index_url or "", workshop, surroundings),
        workshop=workshop,
    )
    lock = os.path.basename(at)
    parts = isolated.parts(at, project) if lock == PNPM else npm.parts(at, project)
    code = _code(root, lock, parts, replace(options, base=reference), workshop)
    closure = Closure.build(
        (code.items[0].path,),
        (*code.items, *parts.packages, *parts.links),
        profile=options.profile,
    )
    words, unsaid = base.entrypoint(root, manifest)
    return (
        f"Node project, {plural(len(parts.packages), 'package')} by {printable(lock)}",
        replace(
            closure,
            system=platform.system,
            locks=((lock, Digest.of(parts.text)),),
            wishes=Wishes(
                base="" if options.base else reference or "",
                workdir=options.root_dir,
                entrypoint=words,
                unsaid=unsaid,
            ),
        ),
    )


def _fetcher(
    root: str, npmrc: Npmrc, mirror: str, workshop: Workshop, surroundings: Surroundings
) -> Fetcher:
    """Make the downloader of tarballs, with the logins, certificates and proxies of `npmrc`.

    `mirror`: the value of `--index-url`, empty without one. Warns about settings that have no
    effect. Raises UsageError for a malformed URL or login.
    """
    logins = Logins(surroundings.settings.netrc_file)
    if mirror:
        logins.add(*without_login(mirror))
    npmrc.add_to(logins)
    for name in npmrc.unset_variables():
        message = (
            f"a login in .npmrc refers to the environment variable {printable(name)}, which is not "
            "set; packages that need this login cannot be downloaded"
        )
        workshop.notify(Note(message=message))
    for message in unheeded(npmrc):
        workshop.notify(InputWarned(message=message))
    trusted = certificates(npmrc, root, workshop.new_path)
    if not trusted.trust.verify:
        message = (
            "strict-ssl=false in .npmrc: TLS certificates of package registries are not verified, "
            "so others may read the logins that are sent to them; set cafile to the registry's "
            "certificate authority instead"
        )
        workshop.notify(InputWarned(message=message))
    return Fetcher(
        workshop,
        surroundings,
        logins,
        mirror=mirror,
        elsewhere=of_npm(npmrc.cache),
        certificates=trusted,
        proxies=npmrc.proxies,
    )


def _code(
    root: str, lock: str, parts: NodeParts, options: SourceOptions, workshop: Workshop
) -> Closure:
    """Make the closure of the project's own files.

    As in npm, the programs of local packages become executable.
    """
    code = directory.resolve(
        root,
        replace(options, rules=(*parts.programs, *options.rules)),
        notify=workshop.notify,
        cancel=workshop.cancel,
        # A lock file changes with each package, and no program in the image reads it or .npmrc.
        without=frozenset({b"node_modules", b".npmrc", os.fsencode(lock)}),
    )
    return Rules(parts.programs, code).apply(code)
