"""The path of an entry point that the user names relative to the target, such as `bin/app`."""

from __future__ import annotations

import os
import posixpath

from regpush.closure import Closure
from regpush.entry import Kind
from regpush.errors import SourceError, UsageError, printable


def program_in(closure: Closure, program: str) -> str:
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
