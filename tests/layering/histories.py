"""Histories of versions in the format `regpush-history/1`, as closures to plan and score.

`plain`: a changed item alone gets a new identity. `rehash`: its dependents do as well, as
in Nix and Guix. Sizes are bytes; a push's roots are item indexes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regpush.closure import Closure, Identity, Item
from regpush.digest import Digest
from regpush.layering.plan import Plan

History = dict[str, Any]


def load(path: Path) -> History:
    history: History = json.loads(path.read_text())
    assert history["format"] == "regpush-history/1"
    return history


def closures(history: History) -> Iterator[tuple[str, Closure]]:
    """The application and the closure of every push, in time order."""
    current: dict[str, frozenset[int]] = {}
    for push in history["pushes"]:
        indexes = current.get(push["app"], frozenset()) - {*push["remove"]} | {*push["add"]}
        current[push["app"]] = indexes
        yield push["app"], _closure([history["items"][k] for k in sorted(indexes)], history, push)


def _closure(versions: list[dict[str, Any]], history: History, push: dict[str, Any]) -> Closure:
    path_of = {version["name"]: _path(version) for version in versions}
    items = tuple(
        Item(
            path=_path(version),
            name=version["name"],
            origin=version["origin"],
            identity=Identity.nar(Digest("sha256", version["hash"] * 2)),
            size=version["size"],
            references=tuple(path_of[name] for name in version["refs"]),
            entries=lambda: iter(()),
        )
        for version in versions
    )
    return Closure.build(tuple(_path(history["items"][k]) for k in push["roots"]), items)


def _path(version: dict[str, Any]) -> str:
    return f"/gnu/store/{version['hash']}-{version['name']}"


def hashes(plan: Plan) -> list[list[str]]:
    """The plan as a scorer reads it: the hash of each item of each layer, bottom first."""
    return [[item.identity.digest.hex[:32] for item in layer.items] for layer in plan.layers]


def push_ratio(history: History, plans: list[list[list[str]]]) -> float:
    """Bytes of the layers the registry did not hold, over those of the items new to it."""
    size = {version["hash"]: version["size"] for version in history["items"]}
    layers: set[frozenset[str]] = set()
    items: set[str] = set()
    pushed = least = 0
    for plan in plans:
        needed = {item for layer in plan for item in layer}
        pushed += sum(size[h] for layer in {*map(frozenset, plan)} - layers for h in layer)
        least += sum(size[h] for h in needed - items)
        layers.update(map(frozenset, plan))
        items |= needed
    return pushed / least
