"""Find the identities of a directory's items, in the stat index or by reading their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from regpush.closure import Closure, Identity, Item, Stamp
from regpush.concurrency import Cancellation
from regpush.entry import Entry
from regpush.files import scan_ahead
from regpush.files.scan_ahead import ScanAhead
from regpush.sources.contents import digests
from regpush.sources.secrets import Secret, SecretError
from regpush.sources.stats import Stats
from regpush.tree_hash import TreeHash


def identify(
    closure: Closure,
    stats: Stats,
    cancel: Cancellation,
    *,
    now_ns: int,
    changed: Callable[[], object] = lambda: None,
    own_read: Callable[[Sequence[Item]], object] = lambda _: None,
) -> Closure:
    """Return `closure` with the identity of every item filled in.

    An identity is recalled from `stats`, else computed by reading the item's files, the app's own
    code first. `now_ns`: the current time in nanoseconds since the epoch, or slightly less.
    `changed` is called before any file is read, if `stats` has identities for only some of the
    items: files changed since the last push from here. `own_read` is called once the app's own code
    is read, if other items are read after it, with all items whose identities are known by then.
    Raises UsageError for a file of the app's own code that looks like a secret; SourceError for a
    file that cannot be read or was changed since it was listed; CancelledError.
    """
    unknown = [item for item in closure.items if item.identity is None]
    stamps = _stamps(unknown)
    known = stats.recall(stamps)
    unknown = [item for item in unknown if item.path not in known]
    if known and unknown:
        changed()
    # If only some items are unknown, the second process would mostly read the wrong files.
    ahead = scan_ahead.taken() if unknown and not known else None
    if ahead and not ahead.hash():
        ahead = None
    try:
        read = _read([item for item in unknown if item.look], ahead, cancel)
        others = [item for item in unknown if not item.look]
        if others:
            identified = closure.identified({**known, **read})
            own_read([item for item in identified.items if item.identity])
        read |= _read(others, ahead, cancel)
    finally:
        scan_ahead.end()
    stats.remember(stamps, read, read_ns=now_ns)
    return closure.identified({**known, **read})


def remember(closure: Closure, stats: Stats, *, read_ns: int) -> None:
    """Store the identities of the items of `closure` in `stats`, for later pushes.

    They must have been computed from the files, at `read_ns` (nanoseconds since the epoch) or
    later.
    """
    identities = {item.path: item.identity for item in closure.items if item.identity}
    stats.remember(_stamps(closure.items), identities, read_ns=read_ns)


def forget(closure: Closure, stats: Stats) -> None:
    """Delete all that `stats` has about the directory of `closure`, because a value was wrong."""
    stats.forget(_stamps(closure.items))


def _stamps(items: Sequence[Item]) -> dict[str, Stamp]:
    return {item.path: item.stamp for item in items if item.stamp}


def _read(
    items: Sequence[Item], ahead: ScanAhead | None, cancel: Cancellation
) -> dict[str, Identity]:
    """Read the files of `items` and return their identities by the items' paths.

    `ahead`: a second process that reads files of the directory too. Raises SecretError, after all
    items were read, where files look like secrets.
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
    for (item, entry), content in digests(members, look, ahead, cancel):
        trees[item.path].add(entry, content)
    if found:
        raise SecretError(found)
    return {path: Identity.tree(tree.digest()) for path, tree in trees.items()}
