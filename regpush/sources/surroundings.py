"""What a source may use of the push: network settings, base images, sending layers early."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeAlias

from msgspec import Struct, field

from regpush.closure import Item
from regpush.errors import UsageError
from regpush.options import RegistryOptions
from regpush.platform import Platform
from regpush.settings import Settings

Ship: TypeAlias = Callable[[int, Item], Future[None]]
"""A function that sends an item as a layer before all layers are known.

It takes the layer's number, counted from the lowest, and the item. The future it returns is done
when the item will not be opened again. Raises UsageError where every item must stay readable.
"""

MOST_LAYERS = 64
"""Maximum number of layers of an archive, unless the user gives another by `--max-layers`."""


def not_kept() -> UsageError:
    """Return the error for a stream that must be read twice and is too large to be stored."""
    return UsageError(
        "the archive must be read more than once, and is too large to be stored in temporary "
        "files: write it to an uncompressed file, and push that file"
    )


def refused(number: int, item: Item) -> Future[None]:  # noqa: ARG001  the signature of Ship
    """Raise UsageError; the `Ship` of a caller that must be able to open every item again."""
    raise not_kept()


class BaseFacts(Struct, frozen=True, kw_only=True):
    """Values from the config of the base image `reference` (OCI image-spec, config.md).

    `env`, `labels`: environment and labels by name. `history`: the commands (`created_by`) of its
    history, lowest layer first. Values of an unexpected type are left out.
    """

    reference: str
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    history: tuple[str, ...] = ()


class Surroundings(Struct, frozen=True, kw_only=True, eq=False):
    """What a source may use of the push, besides its options.

    `settings`, `registry`: settings of the network and of logins. `cache`: whether downloads may be
    kept in the cache directory. `base`: reads the config of a base image (a reference) for a
    platform; raises a RegpushError. `most_layers`: the maximum number of layers of an archive.
    `ship`: sends layers of an archive early, where temporary files have no room for them.
    """

    settings: Settings
    registry: RegistryOptions
    cache: bool
    base: Callable[[str, Platform], BaseFacts]
    most_layers: int = MOST_LAYERS
    ship: Ship = refused
