"""Compute the bytes that a layer strategy would have sent in past pushes. Pure.

Results are ratios to the least possible bytes. Bytes are the uncompressed sizes of items. A push
sends a layer, and pays its size, unless the registry holds a layer of exactly the same items.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeAlias

from msgspec import Struct

from regpush.closure import Closure
from regpush.commands.history import History, hash_of
from regpush.layering import strategies
from regpush.layering.memory import Memory
from regpush.layering.plan import PlanContext

HashPlan: TypeAlias = tuple[tuple[str, ...], ...]
"""For each layer, lowest first, the sorted hashes of its items."""

Hashes: TypeAlias = Collection[str]


class Score(Struct, frozen=True, kw_only=True):
    """The score of a strategy: ratios of bytes (1 is the least possible), and numbers of layers.

    `push`: bytes of layers that the registry lacked, divided by bytes of items new to it. `pull`:
    bytes of layers that a node with the app's previous image lacks, divided by bytes of items new
    to the app. `chain`: bytes of all layers from the lowest changed layer upwards, which container
    runtimes unpack again, divided by bytes of items new to the app. A ratio is None if no item was
    new in any push. `mean_layers`, `most_layers`: mean and maximum of layers in an image.
    """

    push: float | None
    pull: float | None
    chain: float | None
    mean_layers: float
    most_layers: int

    def to_json(self) -> Mapping[str, Any]:
        """Return the score for the JSON report of `regpush simulate`; ratios have four decimals."""
        return {
            "push_ratio": _rounded(self.push, 4),
            "pull_ratio": _rounded(self.pull, 4),
            "chain_ratio": _rounded(self.chain, 4),
            "mean_layers": _rounded(self.mean_layers, 1),
            "max_layers": self.most_layers,
        }


def plans(history: History, strategy: str, max_layers: int) -> Iterator[HashPlan]:
    """Yield the plan that `strategy` makes for each push of `history`, in time order.

    A strategy that learns gets what it recorded in the app's earlier images. Raises UsageError for
    an unknown strategy or an inconsistent history.
    """
    chosen = strategies.named(strategy, max_layers)
    memories: dict[str, Memory] = {}
    for app, closure in history.closures():
        past = (memories[app],) if app in memories else ()
        context = PlanContext(max_layers=max_layers, past=past)
        plan = strategies.carry_out(chosen, closure, context)
        if plan.memory:
            memories[app] = plan.memory
        yield tuple(tuple(sorted(map(hash_of, layer.items))) for layer in plan.layers)


def score(history: History, planned: Sequence[HashPlan]) -> Score:
    """Return the score of the plans `planned`, one for each push of `history`, in time order."""
    size = {version.hash: version.size for version in history.items}
    registry: set[tuple[str, ...]] = set()
    known: set[str] = set()
    images: dict[str, tuple[HashPlan, frozenset[str]]] = {}
    pushed = least = pulled = least_pulled = unpacked = 0

    def weigh(hashes: Hashes) -> int:
        return sum(size[one] for one in hashes)

    for (app, closure), layers in zip(history.closures(), planned, strict=True):
        needed = _hashes(closure)
        pushed += sum(weigh(layer) for layer in set(layers) - registry)
        least += weigh(needed - known)
        if app in images:
            before, had = images[app]
            pulled += sum(weigh(layer) for layer in set(layers) - set(before))
            least_pulled += weigh(needed - had)
            same = takewhile(lambda pair: pair[0] == pair[1], zip(layers, before, strict=False))
            unpacked += sum(map(weigh, layers[len(list(same)) :]))
        registry.update(layers)
        known |= needed
        images[app] = layers, needed
    counts = [len(layers) for layers in planned]
    return Score(
        push=_ratio(pushed, least),
        pull=_ratio(pulled, least_pulled),
        chain=_ratio(unpacked, least_pulled),
        mean_layers=sum(counts) / len(counts) if counts else 0.0,
        most_layers=max(counts, default=0),
    )


def _hashes(closure: Closure) -> frozenset[str]:
    return frozenset(map(hash_of, closure.items))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
