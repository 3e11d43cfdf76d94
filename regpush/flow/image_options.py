"""The options of an image: those of the user, completed by what the source of its files says."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import replace

from regpush.closure import Closure
from regpush.entry import Kind
from regpush.errors import SourceError, UsageError, printable
from regpush.options import ImageOptions, SourceOptions
from regpush.sources.links import Customisation, customise


def customised(closure: Closure, source: SourceOptions, image: ImageOptions) -> Customisation:
    """Add to `closure` everything else that the image holds, such as links and owners.

    `source`: the options by which the closure was made. Raises UsageError and SourceError like
    `customise` and `link_roots`.
    """
    said = _said_by_source(_with_entrypoint(image, closure), closure, source.link_roots)
    return customise(closure, said, source.rules, base=base_of(closure, source))


def base_of(closure: Closure, options: SourceOptions) -> str | None:
    """Return the reference of the base for `closure`; None without a base."""
    return options.base or (None if options.bare else closure.wishes.base or None)


def _said_by_source(options: ImageOptions, closure: Closure, roots: Sequence[str]) -> ImageOptions:
    """Add to `options` what only the source knows: environment, provenance, links to its trees."""
    own = {path for path, _ in options.symlinks}
    trees: Sequence[tuple[str, str]] = ()
    if roots:
        from regpush.sources.link_root import link_roots  # few images have such links

        trees = link_roots(closure, roots)
    return replace(
        options,
        search_paths=closure.search_paths(),
        home="" if closure[closure.roots[0]].in_store else closure.roots[0],
        labels=(*closure.provenance, *options.labels),
        annotations=(*closure.provenance, *options.annotations),
        symlinks=(*options.symlinks, *(link for link in trees if link[0] not in own)),
        workdir=closure.wishes.workdir or None if options.workdir is None else options.workdir,
    )


def _with_entrypoint(options: ImageOptions, closure: Closure) -> ImageOptions:
    """Return `options` with an absolute entry point; without one, the source's proposal.

    An entry point such as `bin/app` is relative to the directory or profile that is the target.
    Raises UsageError where a store item on this machine has no such file.
    """
    if options.entrypoint is None:
        wishes = closure.wishes
        wished = () if options.cmd else wishes.entrypoint or wishes.find_entrypoint()
        return replace(options, entrypoint=wished or None)
    program = options.entrypoint[0] if options.entrypoint else "/"
    if program.startswith("/") or "/" not in program:
        return options
    path = _program_in(closure, program)
    return replace(options, entrypoint=(path, *options.entrypoint[1:]))


def _program_in(closure: Closure, program: str) -> str:
    """Return the path in the image of `program`, a path relative to the first root of `closure`.

    `./NAME` means a store item that is one file. Raises UsageError where a store item on this
    machine has no such file. An item in a binary cache is not fetched to check the path, and links
    in the item are not followed.
    """
    root = closure.roots[0]
    item = closure[root]
    path = f"{root.rstrip('/')}/{program.removeprefix('./')}"
    if not item.in_store or item.ahead is not None:
        return path
    kinds: dict[str, Kind] = {}
    try:
        for entry in item.entries():
            kinds["/" + os.fsdecode(entry.path)] = entry.kind
    except SourceError:
        return path  # the item is not on this machine
    if kinds.get(item.path) is Kind.FILE:
        _check_names_file(item.path, program)
        return item.path
    folders = [path[:at] for at, letter in enumerate(path) if letter == "/" and at]
    if path in kinds or any(kinds.get(one) is Kind.SYMLINK for one in folders):
        return path
    programs = f"{item.path}/bin/"
    names = sorted(one.removeprefix(programs) for one in kinds if one.startswith(programs))
    has = f"its bin/ has {', '.join(names[:10])}" if names else "it has no bin/"
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    raise UsageError(
        f"--entrypoint: {printable(path)} does not exist in the target; {printable(has + more)}"
    )


def _check_names_file(path: str, program: str) -> None:
    """Raise UsageError unless `program` names the store item `path`, which is one file.

    Its name is the base name of the store path, or the part after the hash.
    """
    name = posixpath.basename(path)
    if posixpath.normpath(program) not in (".", name, name.partition("-")[2]):
        raise UsageError(
            f"--entrypoint: the target is one file, which does not hold {printable(program)}; "
            f"say --entrypoint {printable(path)}"
        )
