"""What a source that fetches is told of the push it works for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

from regpush.closure import Item
from regpush.errors import UsageError
from regpush.options import RegistryOptions
from regpush.platform import Platform
from regpush.settings import Settings

Ship: TypeAlias = Callable[[int, Item], Future[None]]
"""Takes an item that must be let go, and its number from the lowest layer: done when nothing will
open it again. Raises UsageError where it may not be let go."""

MOST_LAYERS = 64
"""Layers that an archive is cut into at most, where nobody says how many."""


def not_kept() -> UsageError:
    """The error where all of a large archive must be at hand."""
    return UsageError(
        "more of the archive must be at hand than is kept of a stream: write it to a file that is "
        "not compressed, which is read in place"
    )


def refused(number: int, item: Item) -> Future[None]:  # noqa: ARG001  the signature of Ship
    """The `Ship` of those who read items again. Raises UsageError."""
    raise not_kept()


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """What the configuration of a base image says, as far as it is of the expected form.

    `history`: the `created_by` of its entries, lowest layer first (OCI image-spec, config.md).
    """

    reference: str
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    history: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """How other hosts are reached, and the bases that an image may stand on.

    `cache`: whether what was fetched may be kept on this machine. `base`: reads the
    configuration of an image for a platform; raises a RegpushError. `most_layers`: how many an
    archive is cut into at most, and `ship` takes those for which its spool has no room.
    """

    settings: Settings
    registry: RegistryOptions
    cache: bool
    base: Callable[[str, Platform], BaseFacts]
    most_layers: int = MOST_LAYERS
    ship: Ship = refused
