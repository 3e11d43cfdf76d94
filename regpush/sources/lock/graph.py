"""Dependencies between locked packages, without cycles. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def acyclic(needs: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Reduce `needs` to dependencies among its own keys, sorted, without cycles.

    Each dependency is listed once. Which edges are dropped to break cycles depends on the names
    alone.
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
