"""What the items of a directory are: by what their files hold, or held when last read."""

from __future__ import annotations

from collections.abc import Sequence

from regpush.cancel import Cancellation
from regpush.closure import Closure, Identity, Item, Scheme
from regpush.entry import Entry, TreeHash
from regpush.sources.contents import digests
from regpush.sources.secrets import Secret, SecretError


def identify(closure: Closure, cancel: Cancellation) -> Closure:
    """`closure` with the identity of every item.

    Reads the files of those whose is open, the app's own code first. Raises UsageError for
    what looks like a secret in it, SourceError for a file that cannot be read or changed
    since it was listed, CancelledError.
    """
    unknown = [item for item in closure.items if item.identity is None]
    own = [item for item in unknown if item.look]
    others = [item for item in unknown if not item.look]
    return closure.identified({**_read(own, cancel), **_read(others, cancel)})


def _read(items: Sequence[Item], cancel: Cancellation) -> dict[str, Identity]:
    """The identities of `items` by path. Raises SecretError after all were looked at."""
    found: list[Secret] = []
    trees = {item.path: TreeHash() for item in items}
    for item in items:
        for parent in item.parents:
            trees[item.path].add(parent)

    def look(item: Item, entry: Entry, head: bytes) -> None:
        if item.look:
            try:
                item.look(entry, head)
            except SecretError as error:
                found.extend(error.found)

    members = ((item, entry) for item in items for entry in item.entries())
    for (item, entry), content in digests(members, look, cancel):
        trees[item.path].add(entry, content)
    if found:
        raise SecretError(found)
    return {path: Identity(Scheme.TREE, tree.digest()) for path, tree in trees.items()}
