"""What each item brings with it: the closures of all items, as bit sets."""

from __future__ import annotations

from regpush.closure import Closure, Item


def closures(closure: Closure) -> dict[str, int]:
    """For each path a bit set of its own closure: bit i is `closure.items[i]`, itself included.

    Python's integers make a union of 20,000 items a matter of a microsecond; since
    dependencies come first, an item's set is no longer than its own index.
    """
    sets: dict[str, int] = {}
    for index, item in enumerate(closure.items):
        own = 1 << index
        for reference in item.references:
            own |= sets[reference]
        sets[item.path] = own
    return sets


def package(item: Item) -> str:
    """What is released at once with the item: all of one source package.

    An item of a directory is by itself: others of its name are copies of other versions, or
    parts of a package that was divided so that they may change apart.
    """
    return item.origin if item.in_store else item.path


def origins(closure: Closure) -> dict[str, int]:
    """For each path a bit set of the packages in its closure, its own included.

    Outputs of one package are released together: to the odds of a change they are one.
    """
    number: dict[str, int] = {}
    sets: dict[str, int] = {}
    for item in closure.items:
        own = 1 << number.setdefault(package(item), len(number))
        for reference in item.references:
            own |= sets[reference]
        sets[item.path] = own
    return sets
