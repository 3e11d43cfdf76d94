"""Keep the progress of a push, from its events: bytes reused, packed, sent and left. Pure."""

from __future__ import annotations

from collections import deque

from msgspec import Struct, field

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
"""Assumed ratio of compressed to uncompressed bytes until layers have been packed: that of gzip for
most images."""

_BASIS = 1_000_000

_WINDOW_S = 10.0

_MOST = 0.99
"""The largest fraction that a bar shows before the registry has confirmed the blob."""


class Flight(Struct, eq=False):
    """A layer that is being packed or sent.

    All counts are in bytes. `read` of `total` uncompressed bytes have been packed into `packed`
    compressed bytes, of which `sent` have been sent. `size`: size of the whole blob, None until its
    last byte is packed.
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
        """Size of the whole blob in bytes, estimated until `size` is known.

        None before the first byte is packed.
        """
        if self.size is not None or not (self.packed and self.read):
            return self.size
        return max(self.packed * self.total // self.read, self.sent)

    @property
    def packing(self) -> bool:
        """Whether no byte of the layer was sent yet: it is still being read and compressed."""
        return self.sent == 0

    @property
    def done(self) -> float:
        """The finished fraction, from 0 to 0.99, for the layer's bar.

        It is the fraction of bytes sent; before the first byte is sent, of bytes read. It does not
        reach 1, because the layer's bar disappears when the registry confirms the blob.
        """
        of, part = (self.total, self.read) if self.packing else (self.about or 0, self.sent)
        return min(part / of, _MOST) if of else 0.0


class Meter:
    """Measures the bytes sent per second over the last ten seconds.

    All times must come from one monotonic clock, in seconds.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, total: int) -> None:
        """Record that `total` bytes have been sent by the time `now`."""
        self._seen.append((now, total))
        while self._seen[0][0] < now - _WINDOW_S and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """Bytes per second over the last ten seconds; None before two calls of `note`."""
        if len(self._seen) < 2:
            return None
        (began, before), (now, total) = self._seen[0], self._seen[-1]
        return (total - before) / (now - began) if now > began else None


class Board(Struct, eq=False):
    """The state of a push, from the events so far. Not thread-safe.

    `labels` and `sizes`: name and uncompressed bytes of each layer. `of_bases`: number of layers,
    at the end of `labels`, that belong to base images. `flights`: layers being packed or sent, by
    index. `finished`: the events of finished layers, by index. `moved`: bytes of layers that were
    sent, including failed attempts, so that it never decreases.
    """

    target: str = ""
    labels: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    of_bases: int = 0
    flights: dict[int, Flight] = field(default_factory=dict)
    finished: dict[int, LayerDone] = field(default_factory=dict)
    moved: int = 0

    def take(self, event: Event) -> None:
        """Update the state with `event`; events without progress change nothing."""
        match event:
            case TargetResolved(target=target):
                self.target = target
            case LayersPlanned(labels=labels, sizes=sizes, of_bases=of_bases):
                if not self.labels or labels[: len(self.labels)] != self.labels:
                    self.flights, self.finished = {}, {}
                # If labels were only appended, further layers of an archive became known: layers
                # in progress stay.
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
        """Return the number and label of a layer for messages, such as `layer 3/12 python3`.

        The app's layers are numbered as in the table at the end; a base's layers have no number.
        """
        if self.is_of_base(index):
            return f"base layer {self.labels[index]}"
        return f"layer {index + 1}/{len(self.labels) - self.of_bases} {self.labels[index]}"

    def is_of_base(self, index: int) -> bool:
        """Return whether the layer `index` belongs to a base image."""
        return index >= len(self.labels) - self.of_bases

    def bases(self) -> list[LayerDone] | None:
        """Return the events of the base layers; None until all base layers are finished."""
        wanted = set(self.labels[len(self.labels) - self.of_bases :])
        done = [one for index, one in self.finished.items() if self.is_of_base(index)]
        # Equal layers of several bases have one event. Their labels end with the digest, so they
        # are equal too.
        return done if {self.labels[one.index] for one in done} == wanted else None

    def finished_by(self, action: Action) -> list[LayerDone]:
        """Return the events of the finished layers with the given `action`."""
        return [done for done in self.finished.values() if done.action is action]

    @property
    def left(self) -> int:
        """Bytes of layers that remain to be sent; an estimate until all layers are packed."""
        there, going = self.finished_by(Action.UPLOADED), self.flights.values()
        packed = sum(one.size for one in there) + sum(one.packed for one in going)
        unpacked = sum(self.sizes[one.index] for one in there) + sum(one.read for one in going)
        # The compression ratio of a few small layers is a bad estimate for the others. So a
        # megabyte of the usual ratio is added.
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
