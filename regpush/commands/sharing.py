"""The layers that several images share. Pure.

A registry stores, and a machine pulls, each blob once: layers with one digest are shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

from regpush.digest import Digest
from regpush.image.image import Image, Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLayer:
    """A layer and the images that contain it, by their numbers from 0."""

    layer: Layer
    holders: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two images, by their numbers from 0: bytes of layers in both, and in only one of them."""

    first: int
    second: int
    shared: int
    only_first: int
    only_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """The distinct layers of several images: those of the most images first, then by size."""

    count: int
    layers: tuple[SharedLayer, ...]

    @classmethod
    def of(cls, images: Sequence[Image]) -> Self:
        """Compare `images`."""
        found: dict[Digest, Layer] = {}
        holders: dict[Digest, set[int]] = {}
        for number, image in enumerate(images):
            for layer in image.layers:
                digest = layer.descriptor.digest
                # Of equal blobs, the layer that lists its items is kept.
                if not found.get(digest, layer).items:
                    found[digest] = layer
                found.setdefault(digest, layer)
                holders.setdefault(digest, set()).add(number)
        layers = [
            SharedLayer(layer=layer, holders=tuple(sorted(holders[digest])))
            for digest, layer in found.items()
        ]
        layers.sort(key=lambda one: (-len(one.holders), one.holders, -one.layer.descriptor.size))
        return cls(count=len(images), layers=tuple(layers))

    def size(self, number: int) -> int:
        """Return the bytes of the layers of an image, each once."""
        return sum(_size(one) for one in self.layers if number in one.holders)

    def own(self, number: int) -> int:
        """Return the bytes of the layers that only the image `number` has."""
        return sum(_size(one) for one in self.layers if one.holders == (number,))

    @property
    def total(self) -> int:
        """Bytes of the layers of all images, each once."""
        return sum(map(_size, self.layers))

    def pairs(self) -> list[Pair]:
        """Return all pairs of images."""
        return [self._pair(first, second) for first, second in combinations(range(self.count), 2)]

    def _pair(self, first: int, second: int) -> Pair:
        both = [one for one in self.layers if first in one.holders and second in one.holders]
        shared = sum(map(_size, both))
        return Pair(
            first=first,
            second=second,
            shared=shared,
            only_first=self.size(first) - shared,
            only_second=self.size(second) - shared,
        )

    def to_json(self) -> Mapping[str, Any]:
        """Return the object `shared` of the report, with images numbered from 0 as requested."""
        return {
            "size": self.total,
            "images": [
                {"size": self.size(number), "only_here": self.own(number)}
                for number in range(self.count)
            ],
            "pairs": [
                {
                    "images": [pair.first, pair.second],
                    "shared": pair.shared,
                    "only": [pair.only_first, pair.only_second],
                }
                for pair in self.pairs()
            ],
            "layers": [
                {
                    "digest": str(one.layer.descriptor.digest),
                    "size": _size(one),
                    "images": list(one.holders),
                }
                for one in self.layers
            ],
        }


def _size(one: SharedLayer) -> int:
    return one.layer.descriptor.size
