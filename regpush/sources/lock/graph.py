"""Dependencies between locked packages, without cycles. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def acyclic(needs: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the dependencies of each package in `needs`, without those that would close a cycle.

    `needs`: names of dependencies by package name. A dependency that is not itself a key of `needs`
    is left out; each is listed once, in alphabetical order. Which dependency is dropped to break a
    cycle depends on the names alone, so that it is the same on every machine.
    """
    among = {name: sorted({one for one in needs[name] if one in needs} - {name}) for name in needs}
    kept: dict[str, list[str]] = {name: [] for name in needs}
    done: set[str] = set()
    for start in sorted(needs):
        if start in done:
            continue
        walk, on_the_way = [(start, iter(among[start]))], {start}
        while walk:
            name, left = walk[-1]
            for needed in left:
                if needed in on_the_way:
                    continue
                kept[name].append(needed)
                if needed not in done:
                    on_the_way.add(needed)
                    walk.append((needed, iter(among[needed])))
                    break
            else:
                walk.pop()
                on_the_way.discard(name)
                done.add(name)
    return {name: tuple(found) for name, found in kept.items()}
