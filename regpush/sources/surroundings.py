"""What a source may use of its push: other hosts, base images, sending layers early."""

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
"""Sends an item, which is a whole layer, before the plan is made.

The number counts layers from the lowest. The future is done when nothing will open the item again.
Raises UsageError where the push must be able to open every item again.
"""

MOST_LAYERS = 64
"""Layers that an archive is cut into at most, unless the user names another number."""


def not_kept() -> UsageError:
    """Make the error for an archive that must stay readable and is larger than the spool."""
    return UsageError(
        "the archive must be read again, and is too large to be kept while it is read: write it to "
        "a file that is not compressed, which is read in place"
    )


def refused(number: int, item: Item) -> Future[None]:  # noqa: ARG001  the signature of Ship
    """Raise UsageError: the `Ship` of a caller that must open items again."""
    raise not_kept()


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """Values from the config of a base image; those of an unexpected form are left out.

    `history`: the `created_by` of its entries, lowest layer first (OCI image-spec, config.md).
    """

    reference: str
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    history: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Surroundings:
    """How other hosts are reached, and how base images are looked up.

    `cache`: whether downloads may be kept on this machine. `base`: reads the config of an image for
    a platform; raises a RegpushError. `most_layers`: the number of layers that an archive is cut
    into at most. `ship`: sends layers for which the archive's spool has no room.
    """

    settings: Settings
    registry: RegistryOptions
    cache: bool
    base: Callable[[str, Platform], BaseFacts]
    most_layers: int = MOST_LAYERS
    ship: Ship = refused
