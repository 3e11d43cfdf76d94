"""What happened, as facts. Whoever shows them (a terminal, a log, a library user) decides how.

Events come from several threads; a listener must be quick and thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from regpush.errors import UsageError


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
class Decided:
    """What was chosen, and on what grounds: for whoever wants to follow. No secret is in it."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something the user should look at; the push goes on."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InputWarned(Warned):
    """A warning about what the user gave or asked for, which `--strict` makes a UsageError.

    It is for input that is probably a mistake: a pattern that matches nothing, a user that no
    passwd names. Emit it with `notify(InputWarned(message=...))`; a listener that handles
    `Warned` handles it too. Emit it before any tag moves: under `strictly` the call raises.
    What a registry, a cache or a network did is a plain `Warned`, for no input could mend it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSaid:
    """A line that `program` (nix, guix) wrote for people while it works for a push."""

    program: str
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFetched:
    """An item whose layer must be sent came from the binary cache `source`; `size` unpacked."""

    path: str
    source: str
    size: int


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
    """Layer `index` has read `read` of `total` uncompressed bytes, an estimate, in all.

    `packed` are the compressed bytes that came of it.
    """

    index: int
    read: int
    total: int
    packed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSent:
    """Of the blob of layer `index`, `sent` bytes have gone out; fewer again where it began anew.

    `size` is what the blob has in all, None until its last byte is packed.
    """

    index: int
    sent: int
    size: int | None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """One HTTP request and its reply; `status` is None where none came, and `failure` says why.

    `url` has nothing in it that lets anybody in. `sent` and `received` are bytes of the bodies.
    """

    method: str
    url: str
    status: int | None
    sent: int
    received: int
    seconds: float
    failure: str = ""


Event: TypeAlias = (
    Note
    | Decided
    | Warned
    | ToolSaid
    | ItemFetched
    | TargetResolved
    | LayersPlanned
    | LayerProgress
    | LayerSent
    | LayerDone
    | TagMoved
    | Exchanged
)
Listener: TypeAlias = Callable[[Event], None]


def strictly(notify: Listener) -> Listener:
    """A listener that passes events on to `notify`, but raises UsageError at an `InputWarned`.

    This is all that `--strict` and `PushOptions.strict` do. The one who emitted the event gets
    the exception, in whichever thread that is.
    """

    def hear(event: Event) -> None:
        if isinstance(event, InputWarned):
            raise UsageError(f"{event.message} (--strict refuses what is otherwise a warning)")
        notify(event)

    return hear


def ignore(event: Event) -> None:
    """The listener of someone who does not listen."""
