"""Finds the layers of earlier images that can stay, and makes the records for the new image."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from regpush.closure import Item
from regpush.digest import Digest
from regpush.layering.auto.subject import Subject
from regpush.layering.memory import LAYOUTS, Habit, Laid, Layout, Memory, Name, joined
from regpush.layering.plan import Plan, PlanContext

Held: TypeAlias = tuple[Item, ...]
"""The items of a layer of an earlier image, which can be used again unchanged."""


def again(subject: Subject, context: PlanContext) -> Plan | None:
    """Return the plan of an earlier image of exactly these items; None without such an image.

    The records of the last image are taken over unchanged, so that nothing in the new image
    differs. For an image before the last, its layout moves to the front of the records and no habit
    counts this push, because nothing changed that could be learned from.
    """

    def planned(layout: Layout, memory: Memory, step: str) -> Plan | None:
        if not _is_of(layout, subject, context):
            return None
        plan = Plan.of([subject.items[key] for key in layer.keys] for layer in layout.layers)
        return replace(plan, memory=memory, steps=(step,))

    for memory in context.past:
        if plan := planned(
            memory.own, memory, "the plan of an earlier image with the same items is used again"
        ):
            return plan
    if not context.past:
        return None
    past = joined(context.past)
    for layout in past.layouts:
        others = tuple(one for one in past.layouts if one is not layout)
        front = replace(layout, serial=past.own.serial + 1)
        memory = Memory(
            layouts=(front, *others)[:LAYOUTS],
            habits={name: past.habits.get(name, Habit()) for name in subject.names.values()},
            read=past.read,
        )
        if plan := planned(layout, memory, "an image before the last has the same items"):
            return plan
    return None


def _is_of(layout: Layout, subject: Subject, context: PlanContext) -> bool:
    return (
        0 < len(layout.layers) <= context.max_layers
        and frozenset(layout.keys()) == subject.items.keys()
        and all(layer.is_among(context.available) for layer in layout.layers)
        # A layer is mixed now where an item was a dependency then, and is own code now.
        and (len(layout.layers) == 1 or all(map(subject.is_pure, layout.layers)))
        and subject.top <= layout.layers[-1].keys
    )


def base_of(subject: Subject, layouts: Sequence[Layout]) -> Layout | None:
    """Return the layout of which most bytes can stay, the newest of equal ones.

    None for no layouts.
    """

    def staying(layout: Layout) -> int:
        return sum(subject.size(layer.keys) for layer in layout.layers if subject.holds(layer))

    return max(layouts, key=staying, default=None)


def held(
    subject: Subject,
    base: Layout | None,
    layouts: Sequence[Layout],
    available: frozenset[Digest] | None,
) -> Iterator[Held]:
    """Yield the items of each layer that can stay: layers of `base`, then the largest of `layouts`.

    Each item is in at most one of them. A layer that mixes kinds, from a plan of a single layer,
    does not stay; nor does a layer that holds a part of the top layer among other items.
    `available`: digests of blobs that the registry holds, None if unknown.
    """
    free = set(subject.items)
    by_keys = {
        layer.keys: layer
        for layout in layouts
        for layer in layout.layers
        if subject.holds(layer) and layer.is_among(available)
    }
    by_size = sorted(
        by_keys.values(), key=lambda layer: (-subject.size(layer.keys), sorted(layer.keys))
    )
    for layer in (*(base.layers if base else ()), *by_size):
        if layer.keys and layer.keys <= free and layer.is_among(available):
            items = tuple(subject.items[key] for key in sorted(layer.keys))
            torn = 0 < len(subject.top & layer.keys) < len(subject.top)
            if not torn and subject.is_pure(layer):
                free -= layer.keys
                yield items


def habits_after(
    subject: Subject, before: Mapping[Name, Habit], base: Layout | None
) -> dict[Name, Habit]:
    """Return, by name, how often each item changed after this push.

    Every item that `base` lacks has changed in this push. `before`: the habits before it.
    """
    there = frozenset(base.keys()) if base else frozenset()
    habits: dict[Name, Habit] = {}
    for path, name in subject.names.items():
        known = before.get(name)
        habits[name] = known.after(subject.keys[path] not in there) if known else Habit()
    return habits


def remember(
    plan: Plan, subject: Subject, habits: Mapping[Name, Habit], past: Memory | None
) -> Memory:
    """Return the records for the image of `plan`: its own layout, then those in `past`.

    Layouts of `past` with equal layers are left out; at most `LAYOUTS` are kept.
    """
    own = Layout(
        serial=past.own.serial + 1 if past else 0,
        layers=tuple(
            Laid(frozenset(subject.keys[item.path] for item in layer.items))
            for layer in plan.layers
        ),
    )
    earlier: Collection[Layout] = past.layouts if past else ()
    kept = [layout for layout in earlier if not layout.alike(own)]
    read = past.read if past else ()
    return Memory(layouts=(own, *kept)[:LAYOUTS], habits=habits, read=read)
