"""What made layers go: an older image beside a newer one, or beside a target. Pure.

With a target the references are known, and so is which item made others change. Between
two images only names are: an item of another version is taken for a cause, one that has
only another hash for something built anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regpush.closure import Closure, Item, Role
from regpush.history.causes import causes
from regpush.image.image import Image, Layer
from regpush.layering.plan import PlannedLayer
from regpush.pack.tar import ArchiveOptions
from regpush.sources.store_path import full_name, is_path, item_name

_ANEW = "built anew, of the same version"
_REGROUPED = "grouped anew; nothing in it changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """A layer that the older image lacks: `number` from 1 at the bottom, `size` in bytes.

    `causes`: what made it go, the gravest first. `changed` and `unchanged` count its items.
    """

    number: int
    label: str
    size: int
    causes: tuple[str, ...]
    changed: int
    unchanged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`layers`: those to be sent, bottom first. Sizes are estimates unless layers are packed."""

    layers: tuple[Forced, ...]
    reused: int
    estimated: bool

    def by_cause(self) -> list[tuple[str, int, int]]:
        """Each layer's first cause, the bytes and the layers that go for it; most bytes first."""
        total: dict[str, list[int]] = {}
        for layer in self.layers:
            total.setdefault(layer.causes[0], []).append(layer.size)
        rows = [(cause, sum(sizes), len(sizes)) for cause, sizes in total.items()]
        return sorted(rows, key=lambda row: (-row[1], row[0]))

    def to_json(self) -> Mapping[str, Any]:
        """The JSON report of `regpush why`."""
        return {
            "schema": 1,
            "size_is_estimate": self.estimated,
            "reused_layers": self.reused,
            "causes": [
                {"cause": cause, "size": size, "layers": layers}
                for cause, size, layers in self.by_cause()
            ],
            "layers": [
                {
                    "number": layer.number,
                    "label": layer.label,
                    "size": layer.size,
                    "causes": list(layer.causes),
                    "changed_items": layer.changed,
                    "unchanged_items": layer.unchanged,
                }
                for layer in self.layers
            ],
        }


def with_target(
    planned: Sequence[PlannedLayer], sent: Sequence[int], old: Image, archive: ArchiveOptions
) -> Comparison:
    """`planned` layers of a target, of which those numbered `sent` (from 0) are not in `old`."""
    items = tuple(item for layer in planned for item in layer.items)
    found = causes(Closure.build((), items), [old], archive)

    def forced(number: int) -> Forced:
        layer = planned[number]
        reasons = tuple(str(cause) for cause in found.among(layer.items)) or (_REGROUPED,)
        changed = sum(item.path in found.of for item in layer.items)
        return Forced(
            number=number + 1,
            label=layer.label,
            size=sum(item.size for item in layer.items),
            causes=reasons,
            changed=changed,
            unchanged=_told(layer.items) - changed,
        )

    layers = tuple(map(forced, sent))
    return Comparison(layers=layers, reused=len(planned) - len(layers), estimated=True)


def _told(items: Sequence[Item]) -> int:
    return sum(item.role is not Role.GENERATED for item in items) or len(items)


def of_images(old: Image, new: Image) -> Comparison:
    """Two images of a registry, whose layers say what is in them if regpush made them."""
    there = {layer.diff_id for layer in old.layers}
    before = {path for layer in old.layers for path in layer.items}
    names = {item_name(path): full_name(path) for path in before if is_path(path)}

    def forced(number: int, layer: Layer) -> Forced:
        paths = layer.contents
        if number <= new.base_layers:
            return Forced(
                number=number,
                label=label(paths),
                size=layer.descriptor.size,
                causes=("the base changed",),
                changed=0,
                unchanged=0,
            )
        # Of a directory's items a path does not say what is in them.
        changed = [path for path in paths if path not in before or not is_path(path)]
        told = [_told_of(path, before, names) for path in changed]
        versions = tuple(dict.fromkeys(text for text in told if text))
        reasons = versions or ((_ANEW,) if changed else (_REGROUPED,))
        return Forced(
            number=number,
            label=label(paths),
            size=layer.descriptor.size,
            causes=reasons if paths else ("not said: regpush did not make this image",),
            changed=len(changed),
            unchanged=len(paths) - len(changed),
        )

    layers = tuple(
        forced(number, layer)
        for number, layer in enumerate(new.layers, 1)
        if layer.diff_id not in there
    )
    return Comparison(layers=layers, reused=len(new.layers) - len(layers), estimated=False)


def _told_of(path: str, before: set[str], names: Mapping[str, str]) -> str | None:
    """What happened to the item, for people; None where it was only built anew."""
    if not is_path(path):
        name = path.rpartition("/")[2] or path
        return f"{name} changed" if path in before else f"{name} is new"
    name, now = item_name(path), full_name(path)
    was = names.get(name)
    if was is None:
        return f"{now} is new"
    if was == now:
        return None
    old, new = (text.removeprefix(name).removeprefix("-") for text in (was, now))
    return f"{name} {old or '(no version)'} -> {new or '(no version)'} changed"


def label(paths: Sequence[str]) -> str:
    """What people call a layer that holds `paths`."""
    names = [path.rpartition("/")[2] or path for path in paths]
    first = [name[33:] if is_path(path) else name for name, path in zip(names, paths, strict=True)]
    more = f" and {len(first) - 1} more" if len(first) > 1 else ""
    return first[0] + more if first else "(not said)"
