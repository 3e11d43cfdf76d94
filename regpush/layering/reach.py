"""Computes, for every item, the set of items that it needs (its closure), as bit sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from regpush.closure import Closure, Item


class BitSets(Mapping[str, int]):
    """Maps the path of each item to a bit set: the item's own bit, and the sets of its references.

    Of an item without references only the number of its bit is kept: 20,000 packages of a
    directory would take 27 MB as bit sets.
    """

    def __init__(self, closure: Closure, numbers: Iterable[int]) -> None:
        """Compute the sets; `numbers` holds the number of each item's own bit, in order."""
        paths = [item.path for item in closure.items]
        bits = self._bits = dict(zip(paths, numbers, strict=True))
        sets = self._sets = dict[str, int]()
        for item in closure.items:
            if item.references:
                own = 1 << bits[item.path]
                for reference in item.references:
                    own |= sets[reference] if reference in sets else 1 << bits[reference]
                sets[item.path] = own

    def __getitem__(self, path: str) -> int:
        found = self._sets.get(path)
        return 1 << self._bits[path] if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)


def closures(closure: Closure) -> BitSets:
    """Return, for each path, the closure of that item as a bit set, the item included.

    Bit i stands for `closure.items[i]`. With Python's integers the union of two sets of 20,000
    items takes a microsecond. Dependencies have the lower indexes, so an item's set is no longer
    than its own index.
    """
    return BitSets(closure, range(len(closure.items)))


def package(item: Item) -> str:
    """Return the name of the source package of `item`, which is released as one.

    An item of a directory is a unit of its own, named by its path: items with equal names are other
    versions, or parts of a package that was divided so that they can change apart.
    """
    return item.origin if item.in_store else item.path


def origins(closure: Closure) -> BitSets:
    """Return, for each path, a bit set of the source packages in the closure of that item.

    The item's own package is included. Outputs of one package are released together, so for the
    odds of a change they count as one.
    """
    number: dict[str, int] = {}
    return BitSets(closure, (number.setdefault(package(i), len(number)) for i in closure.items))
