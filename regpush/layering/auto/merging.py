"""Joins groups, always the pair that costs least, until few enough remain and no join pays."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from regpush.layering.auto.groups import Groups, ItemGroup

_LIKE_IN_ODDS = 12  # neighbours on either side that a group may be joined with
_LIKE_IN_SIZE = 6
_SMALLEST = 24


def merge(groups: Iterable[ItemGroup], limit: int, using: Groups) -> list[ItemGroup]:
    """Join groups until at most `limit` remain and no further join pays.

    `limit` is at least the number of kinds. Two groups that the registry holds are joined only
    where there are too many. Ties are decided by the order of `groups`.
    """
    alive = _Alive(using)
    for group in groups:
        alive.add(group)
    alive.look_again()
    while True:
        over = len(alive.groups) > limit
        pair = alive.cheapest()
        if pair is None:
            if not over:
                break
            alive.look_again()
            continue
        cost, one, other = pair
        if cost >= 0 and not over:
            break
        first, second = alive.groups[one], alive.groups[other]
        if first.held and second.held and not over:
            continue
        alive.remove(one)
        alive.remove(other)
        alive.look_around(alive.add(using.join(first, second)))
    return list(alive.groups.values())


class _Alive:
    """The groups that remain, by number, and the pairs of them that may be joined."""

    def __init__(self, using: Groups) -> None:
        self.groups: dict[int, ItemGroup] = {}
        self._using = using
        self._next = 0
        self._pairs: list[tuple[int, int, int]] = []
        # For each kind, (odds, number) and (size, number), sorted.
        self._by_odds: dict[int, list[tuple[int, int]]] = {}
        self._by_size: dict[int, list[tuple[int, int]]] = {}

    def add(self, group: ItemGroup) -> int:
        number, self._next = self._next, self._next + 1
        self.groups[number] = group
        insort(self._by_odds.setdefault(group.kind, []), (group.odds, number))
        insort(self._by_size.setdefault(group.kind, []), (group.size, number))
        return number

    def remove(self, number: int) -> None:
        group = self.groups.pop(number)
        by_odds, by_size = self._by_odds[group.kind], self._by_size[group.kind]
        del by_odds[bisect_left(by_odds, (group.odds, number))]
        del by_size[bisect_left(by_size, (group.size, number))]

    def cheapest(self) -> tuple[int, int, int] | None:
        """Remove the pair of least cost whose groups both remain; returns cost and two numbers."""
        while self._pairs:
            pair = heapq.heappop(self._pairs)
            if pair[1] in self.groups and pair[2] in self.groups:
                return pair
        return None

    def look_around(self, number: int) -> None:
        """Record the cost of joining group `number` with each group of similar odds or size."""
        group = self.groups[number]
        cost = self._using.cost(group)
        for other in self._near(group, number):
            pair = (other, number) if other < number else (number, other)
            heapq.heappush(self._pairs, (cost(self.groups[other]), *pair))

    def look_again(self) -> None:
        """Compute and record the costs of joining any two similar groups anew."""
        pairs = {
            (other, number) if other < number else (number, other)
            for number, group in self.groups.items()
            for other in self._near(group, number)
        }
        cost = {number: self._using.cost(group) for number, group in self.groups.items()}
        self._pairs = [(cost[one](self.groups[other]), one, other) for one, other in pairs]
        heapq.heapify(self._pairs)

    def _near(self, group: ItemGroup, number: int) -> set[int]:
        by_odds, by_size = self._by_odds[group.kind], self._by_size[group.kind]
        near = {
            *_around(by_odds, (group.odds, number), _LIKE_IN_ODDS),
            *_around(by_size, (group.size, number), _LIKE_IN_SIZE),
            *(other for _, other in by_size[:_SMALLEST]),
        }
        near.discard(number)
        return near


def _around(ordered: list[tuple[int, int]], entry: tuple[int, int], reach: int) -> Iterator[int]:
    at = bisect_left(ordered, entry)
    for _, number in ordered[max(at - reach, 0) : at + reach + 1]:
        yield number
