"""The progress of a push, kept by its events: reused, packed, sent and remaining bytes. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from regpush.events import (
    Action,
    Event,
    LayerDone,
    LayerProgress,
    LayerSent,
    LayersPlanned,
    TargetResolved,
)

_USUAL = 0.4
"""The assumed ratio of compressed to plain bytes until layers have been packed: gzip's, for most
images."""

_BASIS = 1_000_000

_WINDOW_S = 10.0

_MOST = 0.99
"""The largest share that a bar shows before the registry has confirmed the blob."""


@dataclass(slots=True, eq=False, repr=False)
class Flight:
    """A layer that is being packed or sent.

    Bytes: `read` of `total` plain bytes are packed into `packed` compressed bytes, of which `sent`
    are sent. `size` is that of the whole blob, None until its last byte is packed.
    """

    index: int
    label: str
    total: int
    read: int = 0
    packed: int = 0
    sent: int = 0
    size: int | None = None

    @property
    def about(self) -> int | None:
        """Bytes of the whole blob, estimated until `size` is known; None before any are packed."""
        if self.size is not None or not (self.packed and self.read):
            return self.size
        return max(self.packed * self.total // self.read, self.sent)

    @property
    def packing(self) -> bool:
        """Whether nothing was sent yet: the layer is read and compressed."""
        return self.sent == 0

    @property
    def done(self) -> float:
        """The finished share, below 1: of the bytes to send, or to read before any are sent.

        It never reaches 1: the registry's confirmation removes the flight.
        """
        of, part = (self.total, self.read) if self.packing else (self.about or 0, self.sent)
        return min(part / of, _MOST) if of else 0.0


class Meter:
    """Bytes a second, over the last ten seconds. Times are of one monotonic clock."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, total: int) -> None:
        """Record that `total` bytes have been sent by the time `now`."""
        self._seen.append((now, total))
        while self._seen[0][0] < now - _WINDOW_S and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """Return the bytes a second; None before two records."""
        if len(self._seen) < 2:
            return None
        (began, before), (now, total) = self._seen[0], self._seen[-1]
        return (total - before) / (now - began) if now > began else None


@dataclass(slots=True, eq=False, repr=False)
class Board:
    """The state of a push, from the events so far. Not thread-safe.

    `of_bases`: how many of the last layers are of base images. `moved`: bytes of layers that were
    sent, failed attempts included, so that it only grows.
    """

    target: str = ""
    labels: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    of_bases: int = 0
    flights: dict[int, Flight] = field(default_factory=dict)
    finished: dict[int, LayerDone] = field(default_factory=dict)
    moved: int = 0

    def take(self, event: Event) -> None:
        """Update the state by `event`."""
        match event:
            case TargetResolved(target=target):
                self.target = target
            case LayersPlanned(labels=labels, sizes=sizes, of_bases=of_bases):
                if not self.labels or labels[: len(self.labels)] != self.labels:
                    self.flights, self.finished = {}, {}
                # Labels that were only extended: an archive's next layers became known.
                self.labels, self.sizes, self.of_bases = labels, sizes, of_bases
            case LayerProgress(index=index, read=read, total=total, packed=packed):
                flight = self._flight(index)
                flight.read, flight.total, flight.packed = read, total, packed
            case LayerSent(index=index, sent=sent, size=size):
                flight = self._flight(index)
                self.moved += max(sent - flight.sent, 0)
                flight.sent, flight.size = sent, size
            case LayerDone(index=index):
                self.flights.pop(index, None)
                self.finished[index] = event

    def _flight(self, index: int) -> Flight:
        if index not in self.flights:
            # The registry had lost this layer; it is sent again.
            self.finished.pop(index, None)
            self.flights[index] = Flight(index, self.labels[index], self.sizes[index])
        return self.flights[index]

    def name(self, index: int) -> str:
        """Return the layer in words: `layer 3/12 python3`."""
        return f"layer {index + 1}/{len(self.labels)} {self.labels[index]}"

    def is_of_base(self, index: int) -> bool:
        """Whether layer `index` is a layer of a base image."""
        return index >= len(self.labels) - self.of_bases

    def bases(self) -> list[LayerDone] | None:
        """Return the base layers, once the registry holds all of them; None before."""
        wanted = set(self.labels[len(self.labels) - self.of_bases :])
        done = [one for index, one in self.finished.items() if self.is_of_base(index)]
        # Equal layers have one event: their labels are equal, since these end with the digest.
        return done if {self.labels[one.index] for one in done} == wanted else None

    def finished_by(self, action: Action) -> list[LayerDone]:
        """Return the finished layers with the given `action`."""
        return [done for done in self.finished.values() if done.action is action]

    @property
    def left(self) -> int:
        """Bytes that remain to be sent, an estimate while layers are not packed."""
        there, going = self.finished_by(Action.UPLOADED), self.flights.values()
        packed = sum(one.size for one in there) + sum(one.packed for one in going)
        unpacked = sum(self.sizes[one.index] for one in there) + sum(one.read for one in going)
        # A few small layers say little about the ratio: a megabyte of the usual one is added.
        ratio = (packed + _USUAL * _BASIS) / (unpacked + _BASIS)
        left = 0
        for index, size in enumerate(self.sizes):
            if index in self.finished:
                continue
            flight = self.flights.get(index)
            about = flight.about if flight else None
            gone = flight.sent if flight else 0
            left += max((int(size * ratio) if about is None else about) - gone, 0)
        return left
