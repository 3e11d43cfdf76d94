"""`auto`: plans from the images in the repository, and learns from them which items change.

Layers that the registry holds stay where they can; a new item joins the group where it will cost
least in the pushes to come. How often each item changed is recorded in the image. Without earlier
images the plan is that of `stable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from regpush.closure import Closure, Item
from regpush.errors import plural
from regpush.layering.auto.groups import GroupKind, Groups, ItemGroup
from regpush.layering.auto.history import Held, again, base_of, habits_after, held, remember
from regpush.layering.auto.merging import merge
from regpush.layering.auto.odds import Odds
from regpush.layering.auto.order import stacked
from regpush.layering.auto.subject import Subject
from regpush.layering.memory import LAYOUTS, Habit, Layout, Name, first, joined
from regpush.layering.plan import Plan, PlanContext
from regpush.layering.reach import closures, origins, package
from regpush.layering.stable import stable, user_roots
from regpush.layering.stack import too_large, within_limit


def auto(closure: Closure, context: PlanContext) -> Plan:
    """Plan layers that keep, where they can, the layers that earlier images have.

    At most `context.max_layers` layers. The plan has the `memory` for the new image.
    """
    subject = Subject.of(closure, context.max_layers)
    if subject is None:
        return _afresh(closure, context, "the identities of items are known only after packing")
    if unchanged := again(subject, context):
        return unchanged
    past = joined(context.past) if context.past else None
    layouts = past.layouts[:LAYOUTS] if past else ()
    base = base_of(subject, layouts)
    staying = list(held(subject, base, (*context.others, *layouts), context.available))
    if past is None and not staying:
        return _afresh(closure, context, "there is no earlier image to learn from")
    habits = habits_after(subject, past.habits if past else {}, base)
    if context.max_layers == 1:
        plan = Plan.of([closure.items])
    else:
        plan = Plan.of(_grouped(subject, staying, habits, base, context.max_layers))
    memory = remember(plan, subject, habits, past)
    return replace(plan, memory=memory, steps=_steps(subject, layouts, context))


def _afresh(closure: Closure, context: PlanContext, why: str) -> Plan:
    plan = stable(closure, context)
    memory = first([layer.items for layer in plan.layers])
    return replace(plan, memory=memory, steps=(f"planned by the strategy stable: {why}",))


def _grouped(
    subject: Subject,
    staying: Sequence[Held],
    habits: Mapping[Name, Habit],
    base: Layout | None,
    limit: int,
) -> list[tuple[Item, ...]]:
    closure = subject.closure
    using = Groups(
        habits=habits,
        names=subject.names,
        origins=origins(closure),
        odds=Odds(len(set(map(package, closure.items)))),
    )
    placed = {item.path for items in staying for item in items}
    free = [item for item in closure.items if item.path not in placed]
    groups = [
        *(using.of(items, subject.kind(items[0]), held=True) for items in staying),
        *(using.of(items, subject.kind(items[0]), held=False) for items in _seeds(subject, free)),
    ]
    groups.sort(key=lambda group: (group.first, group.items[0].path))
    merged = list(_cut(merge(groups, limit, using), limit, using))
    return [group.items for group in stacked(merged, subject, base)]


def _cut(groups: Sequence[ItemGroup], limit: int, using: Groups) -> Iterator[ItemGroup]:
    """Yield `groups`, where a group that the registry may refuse as too large is cut into several.

    Groups that the registry holds already stay whole. At most `limit` groups are yielded.
    """
    free = [one for one in groups if one.kind is GroupKind.ORDINARY and not one.held]
    if not any(too_large(one.items) for one in free):
        yield from groups
        return
    kept = [one for one in groups if one not in free]
    yield from kept
    for items in within_limit((one.items for one in free), limit - len(kept)):
        yield using.of(items, GroupKind.ORDINARY, held=False)


def _seeds(subject: Subject, free: Sequence[Item]) -> list[tuple[Item, ...]]:
    """Return the groups to start from: each free item alone, the items of the top layer together.

    In a store the user's roots belong to the top layer too.
    """
    top = {item.path for item in free if subject.keys[item.path] in subject.top}
    if top and not subject.has_own:
        roots = user_roots(subject.closure, closures(subject.closure))
        top |= {item.path for item in free if item.path in roots}
    seeds: list[tuple[Item, ...]] = [(item,) for item in free if item.path not in top]
    if top:
        seeds.append(tuple(item for item in free if item.path in top))
    return seeds


def _steps(subject: Subject, layouts: Sequence[Layout], context: PlanContext) -> tuple[str, ...]:
    """Return sentences for people on the data that the plan used, and the data that was missing."""
    count = len(layouts)
    images = plural(count, "earlier image") if count else "other images"
    steps = [f"planned from {images}"]
    usable = [
        layer for one in (*layouts, *context.others) for layer in one.layers if subject.holds(layer)
    ]
    gone = {layer.keys for layer in usable if not layer.is_among(context.available)}
    if gone:
        steps.append(f"layers of earlier images that the registry lost: {len(gone)}, planned anew")
    most = max((len(layout.layers) for layout in layouts), default=0)
    if most > context.max_layers:
        steps.append(
            f"an earlier image had {most} layers and {context.max_layers} are allowed: "
            "some were joined"
        )
    return tuple(steps)
