"""Find the layers that several images share. Pure.

Layers with equal digests are shared: a registry stores such a blob once, and a machine pulls it
once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Self

from msgspec import Struct

from regpush.digest import Digest
from regpush.image.image import Image, Layer


class SharedLayer(Struct, frozen=True, kw_only=True):
    """A layer, and the numbers, from 0, of the images that contain it."""

    layer: Layer
    holders: tuple[int, ...]


class Pair(Struct, frozen=True, kw_only=True):
    """Two images, `first` and `second`, by their numbers from 0.

    `shared`: bytes of the layers in both. `only_first`, `only_second`: bytes of the layers in only
    one of them.
    """

    first: int
    second: int
    shared: int
    only_first: int
    only_second: int


class Sharing(Struct, frozen=True, kw_only=True):
    """The distinct layers of `count` images.

    `layers`: those of the most images first; among layers of the same images, the largest first.
    """

    count: int
    layers: tuple[SharedLayer, ...]

    @classmethod
    def of(cls, images: Sequence[Image]) -> Self:
        """Find which layers `images` share; images are numbered from 0 in the given order."""
        found: dict[Digest, Layer] = {}
        holders: dict[Digest, set[int]] = {}
        for number, image in enumerate(images):
            for layer in image.layers:
                digest = layer.descriptor.digest
                # Only one of several images with this blob may list its items: that one is kept.
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
        """Return the bytes of the distinct layers of the image `number`, as transferred."""
        return sum(_size(one) for one in self.layers if number in one.holders)

    def own(self, number: int) -> int:
        """Return the bytes of the layers that only the image `number` has, as transferred."""
        return sum(_size(one) for one in self.layers if one.holders == (number,))

    @property
    def total(self) -> int:
        """Bytes of the distinct layers of all images, as transferred."""
        return sum(map(_size, self.layers))

    def pairs(self) -> list[Pair]:
        """Return a comparison of each pair of images."""
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
        """Return the object `shared` of the JSON report of `regpush inspect`.

        Images are numbered from 0, in the order of the command line.
        """
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
