"""Why an image has layers that an older image lacks, by the items that both list. Pure.

An item with another version counts as a cause. An item of equal version with another hash was
rebuilt: two images alone do not tell which of its references caused that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from regpush.image.image import Image, Layer
from regpush.layering.labels import label_of_paths
from regpush.layering.plan import LOCKED
from regpush.sources.store_path import full_name, is_path, item_name

_REBUILT = "rebuilt, of the same version"
_REGROUPED = "regrouped: none of its items changed"


class Forced(Struct, frozen=True, kw_only=True):
    """A layer that the older image lacks: `number` from 1, lowest first, `size` in bytes.

    `causes`: why it had to be sent, the most important first. `changed` and `unchanged`: numbers of
    its items.
    """

    number: int
    label: str
    size: int
    causes: tuple[str, ...]
    changed: int
    unchanged: int


class Comparison(Struct, frozen=True, kw_only=True):
    """How the layers of a newer image differ from those of an older image.

    `layers`: those that the older image lacks, lowest first. `reused`: the number of all others.
    """

    layers: tuple[Forced, ...]
    reused: int

    def by_cause(self) -> list[tuple[str, int, int]]:
        """Add up bytes and layers by the first cause of each layer; most bytes first."""
        total: dict[str, list[int]] = {}
        for layer in self.layers:
            total.setdefault(layer.causes[0], []).append(layer.size)
        rows = [(cause, sum(sizes), len(sizes)) for cause, sizes in total.items()]
        return sorted(rows, key=lambda row: (-row[1], row[0]))

    def to_json(self) -> Mapping[str, Any]:
        """Return the JSON report of `regpush why`."""
        return {
            "schema": 1,
            "size_is_estimate": False,
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


def of_images(old: Image, new: Image) -> Comparison:
    """Compare two images of a registry, both pushed by regpush."""
    there = {layer.diff_id for layer in old.layers}
    before = {path for layer in old.layers for path in layer.items}
    names = {known.key: known.whole for path in before if (known := _versioned(path))}

    def forced(number: int, layer: Layer) -> Forced:
        paths = layer.contents
        if number <= new.base_layers:
            return Forced(
                number=number,
                label=label_of_paths(paths),
                size=layer.descriptor.size,
                causes=("the base changed",),
                changed=0,
                unchanged=0,
            )
        # The path of a directory's item does not tell what is in it.
        changed = [path for path in paths if path not in before or not _versioned(path)]
        told = [_told_of(path, before, names) for path in changed]
        versions = tuple(dict.fromkeys(text for text in told if text))
        reasons = versions or ((_REBUILT,) if changed else (_REGROUPED,))
        return Forced(
            number=number,
            label=label_of_paths(paths),
            size=layer.descriptor.size,
            causes=reasons if paths else ("unknown: regpush did not push this image",),
            changed=len(changed),
            unchanged=len(paths) - len(changed),
        )

    layers = tuple(
        forced(number, layer)
        for number, layer in enumerate(new.layers, 1)
        if layer.diff_id not in there
    )
    return Comparison(layers=layers, reused=len(new.layers) - len(layers))


class _Versioned(NamedTuple):
    """What the path of an item tells: `key` is equal for all versions, `whole` is `numpy-2.1`."""

    key: str
    name: str
    whole: str


def _versioned(path: str) -> _Versioned | None:
    """Return the item of a store, or the package of a lock, at `path`; None for other paths."""
    if is_path(path):
        name = item_name(path)
        return _Versioned(name, name, full_name(path))
    if match := re.fullmatch(LOCKED, path):
        folder, name, version = match.groups()
        return _Versioned(f"{folder}/{name}", name, f"{name}-{version}")
    return None


def _told_of(path: str, before: set[str], names: Mapping[str, str]) -> str | None:
    """Describe the change of the item, for people; None if it was only rebuilt."""
    found = _versioned(path)
    if found is None:
        name = path.rpartition("/")[2] or path
        return f"{name} changed" if path in before else f"{name} is new"
    was = names.get(found.key)
    if was is None:
        return f"{found.whole} is new"
    if was == found.whole:
        return None
    old, new = (text.removeprefix(found.name).removeprefix("-") for text in (was, found.whole))
    return f"{found.name} {old or '(no version)'} -> {new or '(no version)'} changed"
