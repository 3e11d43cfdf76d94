"""What happened, as facts. Whoever shows them (a terminal, a log, a library user) decides how.

Events come from several threads; a listener must be quick and thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Action(Enum):
    """What became of a layer. The values are those of the JSON report."""

    UPLOADED = "uploaded"
    REUSED = "reused"
    MOUNTED = "mounted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something the user may want to know; nothing is wrong."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something the user should look at; the push goes on."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResolved:
    """What the target turned out to be: `kind` for people, items and their bytes."""

    target: str
    kind: str
    items: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersPlanned:
    """The plan is made: `labels` and uncompressed `sizes` (bytes), bottom first.

    Those of several platforms stand one after the other; other events number them as here.
    """

    labels: tuple[str, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProgress:
    """Layer `index` has read `read` of `total` uncompressed bytes, an estimate, in all."""

    index: int
    read: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDone:
    """Layer `index` stands in the registry; `size` bytes as transferred, `why` for people."""

    index: int
    action: Action
    size: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMoved:
    """`image:tag` now names `digest`; `changed` is False where it already did."""

    image: str
    tag: str
    digest: str
    changed: bool


Event: TypeAlias = (
    Note | Warned | TargetResolved | LayersPlanned | LayerProgress | LayerDone | TagMoved
)
Listener: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener of someone who does not listen."""
