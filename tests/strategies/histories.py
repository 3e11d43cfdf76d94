"""Version histories (format regpush-history/1) as closures, one a push."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regpush.closure import Closure, Identity, Item, Scheme
from regpush.digest import Digest
from regpush.strategies.plan import Plan

TINY = Path(__file__).parents[1] / "data" / "history-tiny.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One push of a history: which app, and the closure it needs."""

    app: str
    date: str
    closure: Closure


def load(path: Path) -> dict[str, Any]:
    """Read a history file."""
    history: dict[str, Any] = json.loads(path.read_text())
    assert history["format"] == "regpush-history/1"
    return history


def pushes(history: dict[str, Any]) -> Iterator[Push]:
    """The pushes in time order; an item's path is `/nix/store/<32 hex>-<name>`."""
    current: dict[str, frozenset[int]] = {}
    for push in history["pushes"]:
        held = current.get(push["app"], frozenset())
        held = (held - frozenset(push["remove"])) | frozenset(push["add"])
        current[push["app"]] = held
        yield Push(app=push["app"], date=push["date"], closure=_closure(history, push, held))


def hashes(plan: Plan) -> list[list[str]]:
    """A plan as `score.py` reads it: the item hashes of each layer, bottom first."""
    return [[item.path[11:43] for item in layer.items] for layer in plan.layers]


def sent(history: dict[str, Any], plans: list[list[list[str]]]) -> int:
    """Bytes of all layers that the registry did not hold yet when they were pushed."""
    size = {item["hash"]: item["size"] for item in history["items"]}
    layers = {frozenset(layer) for plan in plans for layer in plan}
    return sum(size[digits] for layer in layers for digits in layer)


def _closure(history: dict[str, Any], push: dict[str, Any], held: frozenset[int]) -> Closure:
    raw = [history["items"][index] for index in sorted(held)]
    paths = {item["name"]: f"/nix/store/{item['hash']}-{item['name']}" for item in raw}
    items = tuple(
        Item(
            path=paths[item["name"]],
            name=item["name"],
            origin=item["origin"],
            identity=Identity(Scheme.NAR, Digest("sha256", item["hash"] * 2)),
            size=item["size"],
            references=tuple(sorted(paths[name] for name in item["refs"])),
            entries=lambda: iter(()),
        )
        for item in raw
    )
    roots = tuple(paths[history["items"][index]["name"]] for index in push["roots"])
    return Closure.build(roots, items)
