"""Which items changed since earlier images, and which of them caused the others to change. Pure.

With Nix and Guix an item is new whenever anything in its closure is: of a hundred new items one may
be the cause. An item is its own cause if nothing that it references changed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from operator import or_

from msgspec import Struct

from regpush.closure import Closure, Item, Role
from regpush.errors import VerificationError
from regpush.history import layout
from regpush.image.image import Image, Layer
from regpush.layering.memory import Key, keys_of
from regpush.layering.plan import LOCKED, base_name
from regpush.options import Reuse
from regpush.pack.recipe import RECIPE_VERSION, PreviousImage, recipe
from regpush.pack.tar import ArchiveOptions
from regpush.sources.store_path import full_name, is_path, item_name


class Cause(Struct, frozen=True, kw_only=True):
    """An item that changed although nothing in its closure did.

    `before`: the name and version that it replaces, None if the item is new. `dependents`: the
    other changed items that reference it, directly or not. `same_path`: an earlier image holds this
    store item too, so only owners and modes differ.
    """

    item: Item
    before: str | None
    dependents: int
    same_path: bool = False

    @property
    def change(self) -> str:
        """The sentence for people: `openssl 3.0.15 -> 3.0.16 changed`."""
        name, now = self.item.name, version(self.item.name, base_name(self.item))
        if self.same_path:
            return f"{base_name(self.item)} has other owners or modes"
        if self.before is None:
            return f"{base_name(self.item)} is new"
        was = version(name, self.before)
        return f"{name} {was} -> {now} changed" if was and now and was != now else f"{name} changed"

    def __str__(self) -> str:
        if not self.dependents:
            return self.change
        plural, verb = ("", "s") if self.dependents == 1 else ("s", "")
        return f"{self.change}; {self.dependents} item{plural} depend{verb} on it"


class Causes(Struct, frozen=True, kw_only=True, eq=False):
    """Why items are new since the earlier images.

    `of`: for each item that changed, by its path, the cause; where an item has several causes, the
    most important one.
    """

    of: Mapping[str, Cause]

    def among(self, items: Iterable[Item]) -> list[Cause]:
        """Return the causes of changes among `items`, those with most changed items first."""
        changed = [item for item in items if item.path in self.of]
        # Generated items, such as links, are named only if nothing else changed.
        told = [item for item in changed if item.role is not Role.GENERATED] or changed
        found = [self.of[item.path] for item in told]
        counts = Counter(cause.item.path for cause in found)
        by_path = {cause.item.path: cause for cause in found}
        return sorted(by_path.values(), key=lambda one: (-counts[one.item.path], one.item.path))

    def why(self, items: Iterable[Item]) -> str:
        """Return the reason why a layer of `items` must be sent, for people."""
        causes = self.among(items)
        if not causes:
            return "regrouped: none of its items changed"
        more = f" (and {len(causes) - 1} more)" if len(causes) > 1 else ""
        return f"{causes[0]}{more}"


def causes(closure: Closure, images: Sequence[Image], archive: ArchiveOptions) -> Causes:
    """Find, for each changed item of `closure`, the item that caused the change.

    `images`: earlier ones, nearest first. An item of a directory whose layer differs is treated as
    changed, unless something tells it from the other items in that layer.
    """
    there = unchanged(closure, images, archive)
    before = _names(path for image in images for layer in image.own_layers for path in layer.items)
    numbers: dict[str, int] = {}
    roots: list[Item] = []
    for item in closure.items:
        if item.path in there:
            continue
        # A locked package is what its own file is, whatever becomes of those it needs.
        inherits = () if item.locked else item.references
        below = reduce(or_, (numbers.get(path, 0) for path in inherits), 0)
        if not below:
            below = 1 << len(roots)
            roots.append(item)
        numbers[item.path] = below
    # Many items have the same causes: each set is looked at once.
    indexes = {bits: _indexes(bits) for bits in set(numbers.values())}
    dependents = Counter(index for bits in numbers.values() for index in indexes[bits])
    known = [
        Cause(
            item=item,
            before=_replaced(item, before),
            dependents=dependents[index] - 1,
            same_path=item.in_store and item.path in before,
        )
        for index, item in enumerate(roots)
    ]

    def gravest(bits: int) -> Cause:
        of_it = (known[index] for index in indexes[bits])
        return min(of_it, key=lambda cause: (-cause.dependents, cause.item.path))

    first = {bits: gravest(bits) for bits in indexes}
    return Causes(of={path: first[bits] for path, bits in numbers.items()})


def reasons(
    closure: Closure, archive: ArchiveOptions, images: Sequence[PreviousImage], reuse: Reuse
) -> Callable[[Sequence[Item], bool], str]:
    """Return a function that says, for people, why a layer of given items must be sent.

    Its second argument: whether an earlier image has the layer, so that only the registry can have
    lost it.
    """
    found = causes(closure, [before.image for before in images], archive) if images else None

    def why(items: Sequence[Item], known: bool) -> str:
        if reuse is Reuse.NONE:
            return "nothing is reused (--reuse none)"
        if found is None:
            return "no previous image"
        return "the registry has lost the blob" if known else found.why(items)

    return why


def unchanged(closure: Closure, images: Sequence[Image], archive: ArchiveOptions) -> frozenset[str]:
    """Return the paths of items that an earlier image certainly held unchanged.

    A store path tells the content of the item, but not its owners and modes: where a recipe of
    store items alone differs for equal paths, these differ. The path of a locked package holds its
    version. For items of a directory the recipe of their layer tells, or the history in the image.
    """
    keys = keys_of(closure.items) or {}
    found: set[str] = set()
    for image in images:
        remembered = _remembered(image)
        found.update(path for path, key in keys.items() if key in remembered)
        for layer in image.own_layers:
            items = [closure[path] for path in layer.items if path in closure]
            stored = [item.path for item in items if item.in_store]
            found.update(item.path for item in items if item.locked)
            known = [(item.path, item.identity) for item in items if item.identity]
            if not known or len(known) < len(layer.items):
                found.update(stored)
            elif recipe(known, archive) == layer.recipe:
                found.update(path for path, _ in known)
            elif len(stored) < len(items) or not _comparable(layer, image):
                found.update(stored)
    return frozenset(found)


def _comparable(layer: Layer, image: Image) -> bool:
    """Whether `layer` has a recipe of the recipe version of today."""
    return layer.recipe is not None and image.recipe_version == RECIPE_VERSION


def _remembered(image: Image) -> frozenset[Key]:
    try:
        carried = layout.read(image)
    except VerificationError:
        return frozenset()  # the plan has told the user
    return frozenset(carried.memory.own.keys()) if carried else frozenset()


def _names(paths: Iterable[str]) -> dict[str, str]:
    """Return the names of earlier items, by name without version, or by path.

    Where images differ, the nearest wins.
    """
    names: dict[str, str] = {}
    for path in paths:
        if is_path(path):
            names.setdefault(item_name(path), full_name(path))
        if match := re.fullmatch(LOCKED, path):
            names.setdefault(f"{match[1]}/{match[2]}", f"{match[2]}-{match[3]}")
        names.setdefault(path, path.rpartition("/")[2])
    return names


def _replaced(item: Item, before: Mapping[str, str]) -> str | None:
    if item.in_store:
        return before.get(item.name)
    if item.locked:
        match = re.fullmatch(LOCKED, item.path)
        return before.get(f"{match[1]}/{match[2]}") if match else None
    return before.get(item.path)


def version(name: str, whole: str) -> str:
    """Return the version in `whole`, which begins with `name`; empty without a version."""
    rest = whole.removeprefix(name)
    return rest.removeprefix("-") if rest != whole else ""


def _indexes(bits: int) -> list[int]:
    return [index for index, digit in enumerate(reversed(f"{bits:b}")) if digit == "1"]
