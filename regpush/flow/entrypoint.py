"""The entry point of an image: the one that the user names, or the source's proposal."""

from __future__ import annotations

import os
import posixpath
from dataclasses import replace

from regpush.closure import Closure, Item
from regpush.entry import Kind
from regpush.errors import SourceError, UsageError, printable
from regpush.options import ImageOptions


def with_entrypoint(options: ImageOptions, closure: Closure) -> ImageOptions:
    """Return `options` with an absolute entry point; without one, the source's proposal.

    An entry point such as `bin/app` is relative to the directory or profile that is the target;
    `./NAME` means a store item that is one file. Raises UsageError where a store item on this
    machine has no such file.
    """
    if options.entrypoint is None:
        wishes = closure.wishes
        wished = () if options.cmd else wishes.entrypoint or wishes.find_entrypoint()
        return replace(options, entrypoint=wished or None)
    program = options.entrypoint[0] if options.entrypoint else "/"
    if program.startswith("/") or "/" not in program:
        return options
    path = _program_in(closure[closure.roots[0]], closure.roots[0], program)
    return replace(options, entrypoint=(path, *options.entrypoint[1:]))


def _program_in(item: Item, root: str, program: str) -> str:
    """Return the absolute path of `program`, which is relative to `root`. Raises UsageError.

    An item in a binary cache is not fetched to check the path, and links in the item are not
    followed.
    """
    path = f"{root.rstrip('/')}/{program.removeprefix('./')}"
    if not item.in_store or item.ahead is not None:
        return path
    kinds: dict[str, Kind] = {}
    try:
        for entry in item.entries():
            kinds["/" + os.fsdecode(entry.path)] = entry.kind
    except SourceError:
        return path  # it is not on this machine
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
