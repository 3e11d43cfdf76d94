"""Writes the closures of a history as files of the right sizes, with a closure file."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

from regpush.closure import Closure, Identity, Item
from regpush.commands.history import History, Push, Version
from regpush.digest import Digest
from regpush.sources.store_path import is_path


class MadeUpStore:
    """A store whose items are single files of random bytes, which do not compress.

    `scale`: sizes are divided by it.
    """

    def __init__(self, root: Path, *, scale: int) -> None:
        self._store = root / "store"
        self._store.mkdir(parents=True)
        self._scale = scale

    def shrunk(self, closure: Closure) -> Closure:
        """Return `closure` as it will be written: in this store, smaller, names without dashes.

        A dash may begin a version, which is no part of a name.
        """
        paths = {item.path: self._path(item) for item in closure.items}
        items = tuple(
            replace(
                item,
                path=paths[item.path],
                name=_plain(item.name),
                origin=_plain(item.origin),
                size=item.size // self._scale,
                identity=Identity.nar(
                    nar_hash(_content(paths[item.path], item.size // self._scale))
                ),
                references=tuple(paths[path] for path in item.references),
            )
            for item in closure.items
        )
        roots = tuple(sorted(paths[root] for root in closure.roots))
        return Closure.build(roots, items)

    def write(self, closure: Closure) -> Path:
        """Write the files of `closure`, a result of `shrunk`, that are missing.

        Returns the path of a closure file that lists all of its items.
        """
        listed = {}
        for item in closure.items:
            assert is_path(item.path), item.path
            file = Path(item.path)
            if not file.exists():
                file.write_bytes(_content(item.path, item.size))
            listed[item.path] = {
                "narHash": str(item.identity.digest),
                "narSize": item.size,
                "references": list(item.references),
                "deriver": f"{self._store}/{'0' * 32}-{item.origin}.drv",
            }
        file = self._store.parent / "closure.json"
        file.write_text(json.dumps(listed))
        return file

    def _path(self, item: Item) -> str:
        digits = item.path.rpartition("/")[2][:32].translate(str.maketrans("etou", "wxyz"))
        return f"{self._store}/{digits}-{_plain(item.name)}"


def _content(path: str, size: int) -> bytes:
    return random.Random(path).randbytes(size)


def nar_hash(content: bytes) -> Digest:
    """Return the hash of the Nix archive of a file that is not executable.

    Source: Dolstra's thesis, section 5.2.
    """

    def text(data: bytes) -> bytes:
        return len(data).to_bytes(8, "little") + data + bytes(-len(data) % 8)

    words = (b"nix-archive-1", b"(", b"type", b"regular", b"contents", content, b")")
    return Digest("sha256", hashlib.sha256(b"".join(map(text, words))).hexdigest())


def _plain(name: str) -> str:
    return name.replace("-", "_")


def history(closures: list[Closure]) -> History:
    """Return the pushes of `closures`, one after the other, as a history file describes them."""
    numbers: dict[str, int] = {}
    versions: list[Version] = []
    pushes: list[Push] = []
    current: frozenset[int] = frozenset()
    for closure in closures:
        for item in closure.items:
            if item.path not in numbers:
                numbers[item.path] = len(versions)
                versions.append(
                    Version(
                        name=item.name,
                        hash=item.identity.digest.hex[:32],
                        size=item.size,
                        refs=tuple(closure[path].name for path in item.references),
                        origin=item.origin,
                    )
                )
        now = frozenset(numbers[item.path] for item in closure.items)
        pushes.append(
            Push(
                app="app",
                date="",
                roots=tuple(numbers[root] for root in closure.roots),
                add=tuple(sorted(now - current)),
                remove=tuple(sorted(current - now)),
            )
        )
        current = now
    return History(name="", semantics="rehash", items=tuple(versions), pushes=tuple(pushes))
