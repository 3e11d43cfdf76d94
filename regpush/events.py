"""Events: facts about a push in progress, for a terminal, a log or a library user to show.

Events come from several threads; a listener must be quick and thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from msgspec import Struct

from regpush.errors import UsageError


class Action(Enum):
    """How a layer came into the registry. The values are those of the JSON report."""

    UPLOADED = "uploaded"
    REUSED = "reused"
    MOUNTED = "mounted"


class Note(Struct, frozen=True, kw_only=True):
    """A fact that may interest the user; nothing is wrong."""

    message: str


class Decided(Struct, frozen=True, kw_only=True):
    """A decision and its reason, for users who want to follow the push. Holds no secret."""

    message: str


class Warned(Struct, frozen=True, kw_only=True):
    """Something that the user should check; the push continues."""

    message: str


class InputWarned(Warned, frozen=True, kw_only=True):
    """A warning about what the user gave or asked for, which `--strict` turns into a UsageError.

    It is for input that is probably a mistake: a pattern that matches nothing, a user that no
    passwd names. Emit it with `notify(InputWarned(message=...))`; a listener that handles `Warned`
    handles it too. Emit it before any tag moves: under `strictly` the call raises. A problem with a
    registry, a cache or a network is a plain `Warned`, because no input could mend it.
    """


class ToolSaid(Struct, frozen=True, kw_only=True):
    """A line that `program` (nix, guix) printed for people while it worked for a push."""

    program: str
    line: str


class ItemFetched(Struct, frozen=True, kw_only=True):
    """An item was fetched from the cache or index `source`, because its layer must be sent.

    `path`: its path in the image. `size`: its bytes, unpacked.
    """

    path: str
    source: str
    size: int


class TargetResolved(Struct, frozen=True, kw_only=True):
    """The target was recognised as `kind` (text for people), with `items` items of `size` bytes."""

    target: str
    kind: str
    items: int
    size: int


class LayersPlanned(Struct, frozen=True, kw_only=True):
    """The layers are planned: `labels` and uncompressed `sizes` (bytes), lowest first.

    The layers of several platforms follow each other; `index` in other events is a position in
    these lists. The last `of_bases` layers come from base images.
    """

    labels: tuple[str, ...]
    sizes: tuple[int, ...]
    of_bases: int = 0


class LayerProgress(Struct, frozen=True, kw_only=True):
    """Packing of layer `index` has read `read` of about `total` uncompressed bytes.

    `packed`: the compressed bytes that were made so far.
    """

    index: int
    read: int
    total: int
    packed: int


class LayerSent(Struct, frozen=True, kw_only=True):
    """The progress of the upload of one layer's blob: `sent` bytes of it were sent so far.

    `index`: the number of the layer. `sent` falls when the upload starts again. `size`: the bytes
    of the blob, None until its last byte is packed.
    """

    index: int
    sent: int
    size: int | None


class LayerDone(Struct, frozen=True, kw_only=True):
    """The registry holds layer `index`.

    `size`: bytes as transferred, `why`: the reason, as text.
    """

    index: int
    action: Action
    size: int
    why: str


class TagMoved(Struct, frozen=True, kw_only=True):
    """`image:tag` now names `digest`; `changed` is False if it named `digest` before."""

    image: str
    tag: str
    digest: str
    changed: bool


class Exchanged(Struct, frozen=True, kw_only=True):
    """One HTTP request and its reply; `sent` and `received` are bytes of the bodies.

    `status` is None where no reply arrived, and `failure` says why. `url` holds nothing that grants
    access.
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
    """Make a listener that passes events on to `notify`, but raises UsageError at an `InputWarned`.

    This is all that `--strict` and `PushOptions.strict` do. The exception is raised where the event
    was emitted, in that thread.
    """

    def hear(event: Event) -> None:
        if isinstance(event, InputWarned):
            raise UsageError(f"{event.message} (without --strict, this is a warning)")
        notify(event)

    return hear


def ignore(event: Event) -> None:
    """Do nothing with `event`; a listener for callers that want no events."""
