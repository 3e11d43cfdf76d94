"""`file=layers.json`: the user's own split; `stable` plans the items that no pattern names.

    {"layers": [["glibc", "gcc-*"], ["python3"], ["/gnu/store/*-numpy-*"]]}

The list starts with the lowest layer. A pattern is the name of an item, its name and version, or
its path; `*` and `?` match any text and any character. The app's own code, and items that regpush
generates, always lie in layers above.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Self

from msgspec import Struct

from regpush.closure import Closure, Item
from regpush.errors import UsageError, printable, similar
from regpush.layering.own_code import apart
from regpush.layering.plan import Plan, PlanContext, base_name
from regpush.layering.reach import closures
from regpush.layering.stable import groups, ordered, user_roots
from regpush.layering.stack import stack

_LIMIT = 1 << 20
"""Bytes that a layers file may have at most; people write it by hand."""


class Split(Struct, frozen=True):
    """A strategy that reads from a file a list of patterns for each layer, lowest first."""

    path: str
    layers: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, path: str) -> Self:
        """Read the layers file at `path`. Raises UsageError that names the place of a fault."""
        try:
            with open(path, "rb") as file:
                data = file.read(_LIMIT + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"cannot read the layers file {printable(path)}: {reason}") from error
        if len(data) > _LIMIT:
            raise UsageError(f"the layers file {printable(path)} is over {_LIMIT >> 20} MiB")
        return cls.parse(data, path)

    @classmethod
    def parse(cls, data: bytes, path: str) -> Self:
        """Read the content of a layers file; `path` is for messages.

        Raises UsageError where the content is not JSON of the form of a layers file.
        """

        def bad(why: str) -> UsageError:
            return UsageError(f"bad layers file {printable(path)}: {why}")

        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
            raise bad(f"it is not JSON{where}") from error
        layers = value.get("layers") if isinstance(value, dict) else None
        if not isinstance(layers, list) or value.keys() != {"layers"}:
            raise bad('write it as {"layers": [["item", "item-*"], ["item"]]}, lowest layer first')
        for number, patterns in enumerate(layers, 1):
            if not isinstance(patterns, list) or not patterns:
                raise bad(f"layer {number} is not a list of items")
            for pattern in patterns:
                if not isinstance(pattern, str) or not pattern:
                    raise bad(f"in layer {number}, {json.dumps(pattern)[:100]} names no item")
        return cls(path=path, layers=tuple(map(tuple, layers)))

    def __call__(self, closure: Closure, context: PlanContext) -> Plan:
        """Plan the layers that the file lists, and layers for the items that it does not name.

        At most `context.max_layers` layers. Raises UsageError where the file does not fit the
        closure: two layers name one item, a pattern without `*` or `?` matches nothing, or no layer
        remains for items that the file does not name.
        """
        reach = closures(closure)

        def grouped(items: tuple[Item, ...], room: int) -> list[tuple[Item, ...]]:
            listed, rest = self._divide(items)
            named = [group for group in listed if group]
            needed = len(named) + bool(rest)
            if needed > room:
                unnamed = ", one of them for items that it does not name" if rest else ""
                raise UsageError(
                    f"the layers file {printable(self.path)} needs {needed} layers{unnamed}; "
                    f"--max-layers {context.max_layers} leaves {room}"
                )
            left = groups(rest, room - len(named), reach) if rest else []
            return [*named, *ordered(left, reach)]

        self._check_names(closure)
        roots = user_roots(closure, reach)
        top = [root for root in roots if not self._layers_of(closure[root])]
        return stack(closure, context.max_layers, grouped, top=top, own=apart)

    def _divide(self, items: Sequence[Item]) -> tuple[list[tuple[Item, ...]], list[Item]]:
        """Divide `items` among the layers of the file.

        Returns the items of each layer, lowest first, and the items that no pattern names. Raises
        UsageError where two layers name one item.
        """
        listed: list[list[Item]] = [[] for _ in self.layers]
        rest: list[Item] = []
        for item in items:
            numbers = self._layers_of(item)
            if len(numbers) > 1:
                first, second = numbers[:2]
                raise UsageError(
                    f"the layers file {printable(self.path)} has {printable(item.path)} "
                    f"in layer {first + 1} and in layer {second + 1}"
                )
            (listed[numbers[0]] if numbers else rest).append(item)
        return [tuple(layer) for layer in listed], rest

    def _layers_of(self, item: Item) -> list[int]:
        return [
            number
            for number, patterns in enumerate(self.layers)
            if any(_matches(item, pattern) for pattern in patterns)
        ]

    def _check_names(self, closure: Closure) -> None:
        for number, patterns in enumerate(self.layers, 1):
            for pattern in patterns:
                if any(c in pattern for c in "*?["):
                    continue
                if any(_matches(item, pattern) for item in closure.items):
                    continue
                near = similar(pattern, (item.name for item in closure.items))
                hint = f"; did you mean '{printable(near)}'?" if near else ""
                raise UsageError(
                    f"the layers file {printable(self.path)} has '{printable(pattern)}' in layer "
                    f"{number}, which matches no item{hint}"
                )


def _matches(item: Item, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (item.name, base_name(item), item.path))
