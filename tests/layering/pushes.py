"""Pushes of one app after another, each planned from what the one before remembers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from regpush.closure import Closure, Identity, Item
from regpush.digest import Digest
from regpush.layering import strategies
from regpush.layering.memory import Memory
from regpush.layering.plan import Plan, PlanContext

Forget = Callable[[int, list[Memory]], tuple[Memory, ...]]
"""Of push number `n` and the memories of all images so far, newest first: those it can read."""


def newest(_number: int, memories: list[Memory]) -> tuple[Memory, ...]:
    """One tag that moves: the registry keeps nothing else."""
    return tuple(memories[:1])


def every_tenth_lost(number: int, memories: list[Memory]) -> tuple[Memory, ...]:
    """Every tenth time the newest cannot be read, and the ones before it can."""
    return tuple(memories[1:4] if number % 10 == 0 else memories[:1])


def all_lost_every_tenth(number: int, memories: list[Memory]) -> tuple[Memory, ...]:
    """Every tenth time nothing can be read."""
    return tuple(memories[:1]) if number % 10 else ()


def plans(
    closures: Iterable[Closure],
    *,
    limit: int = 64,
    readable: Forget = newest,
    other: Callable[[Plan], Memory | None] = lambda plan: plan.memory,
) -> Iterator[Plan]:
    """The plans of `auto`. `other` may alter what an image remembers on its way."""
    memories: list[Memory] = []
    for number, closure in enumerate(closures, 1):
        context = PlanContext(max_layers=limit, past=readable(number, memories))
        plan = strategies.plan(closure, "auto", context)
        memory = other(plan)
        if memory and (not memories or memory != memories[0]):
            memories.insert(0, memory)
        yield plan


def with_new_versions(closure: Closure, names: Iterable[str], tag: str) -> Closure:
    """The closure after new versions of some items, their dependents rebuilt, as a store does."""
    wanted = frozenset(names)
    paths: dict[str, str] = {}
    items: list[Item] = []
    for one in closure.items:
        references = tuple(paths.get(path, path) for path in one.references)
        if one.name in wanted or references != one.references:
            digest = hashlib.sha256(f"{tag} {one.path}".encode()).hexdigest()[:32]
            path = f"/gnu/store/{digest}-{one.name}"
            paths[one.path] = path
            identity = Identity.nar(Digest.of(path.encode()))
            one = replace(one, path=path, identity=identity)
        items.append(replace(one, references=references))
    roots = tuple(paths.get(root, root) for root in closure.roots)
    return Closure.build(roots, tuple(items))


def releases(closure: Closure, count: int, *, seed: int = 1, often: int = 6) -> Iterator[Closure]:
    """`count` closures: the roots are new each time, some of `often` packages are as a rule."""
    chance = random.Random(seed)
    origins = sorted({item.origin for item in closure.items})
    restless = chance.sample(origins, min(often, len(origins)))
    yield closure
    for number in range(1, count):
        released = [origin for origin in restless if chance.random() < 0.2]
        if chance.random() < 0.2:
            released.append(chance.choice(origins))
        names = [item.name for item in closure.items if item.origin in released]
        roots = [closure[root].name for root in closure.roots if "profile" in root]
        closure = with_new_versions(closure, [*names, *roots], f"{seed} {number}")
        yield closure


def ratio(closures: Iterable[Closure], made: Iterable[Plan]) -> float:
    """Bytes of layers that the registry did not hold, over those of the items new to it."""
    layers: set[frozenset[str]] = set()
    items: set[str] = set()
    pushed = least = 0
    for closure, plan in zip(closures, made, strict=True):
        for layer in plan.layers:
            members = frozenset(item.path for item in layer.items)
            if members not in layers:
                pushed += sum(item.size for item in layer.items)
                layers.add(members)
        least += sum(item.size for item in closure.items if item.path not in items)
        items.update(item.path for item in closure.items)
    return pushed / least
