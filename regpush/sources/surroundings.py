"""What a source that fetches is told of the push it works for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from regpush.options import RegistryOptions
from regpush.platform import Platform
from regpush.settings import Settings


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
    configuration of an image for a platform; raises a RegpushError.
    """

    settings: Settings
    registry: RegistryOptions
    cache: bool
    base: Callable[[str, Platform], BaseFacts]
