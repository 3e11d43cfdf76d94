"""Compute the identities of a directory's items by reading files, or recall them."""

from __future__ import annotations

from collections.abc import Sequence

from regpush.closure import Closure, Identity, Item, Stamp
from regpush.concurrency import Cancellation
from regpush.entry import Entry, TreeHash
from regpush.sources.contents import digests
from regpush.sources.secrets import Secret, SecretError
from regpush.sources.stats import Stats


def identify(closure: Closure, stats: Stats, cancel: Cancellation, *, now_ns: int) -> Closure:
    """Return `closure` with the identity of every item.

    Items that `stats` knows are not read; the files of the others are, the app's own code first.
    `now_ns` is the current time in nanoseconds since the epoch, or slightly less. Raises UsageError
    for what looks like a secret in the app's own code, SourceError for a file that cannot be read
    or changed since it was listed, CancelledError.
    """
    unknown = [item for item in closure.items if item.identity is None]
    stamps = _stamps(unknown)
    known = stats.recall(stamps)
    unknown = [item for item in unknown if item.path not in known]
    read = _read([item for item in unknown if item.look], cancel)
    read |= _read([item for item in unknown if not item.look], cancel)
    stats.remember(stamps, read, read_ns=now_ns)
    return closure.identified({**known, **read})


def remember(closure: Closure, stats: Stats, *, read_ns: int) -> None:
    """Note identities that packing computed at `read_ns` or later, for later pushes.

    They must have been computed from the files.
    """
    identities = {item.path: item.identity for item in closure.items if item.identity}
    stats.remember(_stamps(closure.items), identities, read_ns=read_ns)


def forget(closure: Closure, stats: Stats) -> None:
    """Drop what `stats` has about the directory in `closure`, because a value was wrong."""
    stats.forget(_stamps(closure.items))


def _stamps(items: Sequence[Item]) -> dict[str, Stamp]:
    return {item.path: item.stamp for item in items if item.stamp}


def _read(items: Sequence[Item], cancel: Cancellation) -> dict[str, Identity]:
    """Compute the identities of `items`, by path.

    Raises SecretError after all items were read.
    """
    found: list[Secret] = []
    trees = {item.path: TreeHash() for item in items}
    for item in items:
        for parent in item.parents:
            trees[item.path].add(parent)

    def look(item: Item, entry: Entry, data: bytes | bytearray, start: int, end: int) -> None:
        if item.look:
            try:
                item.look(entry, data, start, end)
            except SecretError as error:
                found.extend(error.found)

    members = ((item, entry) for item in items for entry in item.entries())
    for (item, entry), content in digests(members, look, cancel):
        trees[item.path].add(entry, content)
    if found:
        raise SecretError(found)
    return {path: Identity.tree(tree.digest()) for path, tree in trees.items()}
