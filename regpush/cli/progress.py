"""Show the progress of a push on stderr: bars on a terminal, plain lines elsewhere.

Events only update the state. A separate thread draws the bars; in a log it writes a line if there
was none for some seconds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO, assert_never

from regpush.cli import colour, lines
from regpush.cli.access import Voice
from regpush.cli.board import Board, Meter
from regpush.cli.flags import Progress
from regpush.cli.rendering import Line, Renderer, pieces
from regpush.events import Event, Listener, Warned, ignore

if TYPE_CHECKING:
    from regpush.cli.live import Bars

HEARTBEAT_S = 12.0
"""Maximum seconds without a line in a log. CI services end jobs that print nothing for ten minutes,
and people are less patient."""

_FRAME_S = 0.1
_BEFORE_BARS_S = 0.4
"""Seconds before the first bars are drawn. A push that ends earlier does not import the library
rich, which takes a tenth of a second."""


@contextmanager
def showing(how: Progress, voice: Voice, stream: TextIO) -> Iterator[Listener]:
    """Yield a listener that shows events on `stream`, in the way `how`, at the level `voice`.

    At the end of the block, bars are erased.
    """
    render = Renderer.of(stream, os.environ)
    if voice is Voice.QUIET:
        yield ignore
        return
    match how:
        case Progress.NONE:
            yield _Few(voice, stream, render)
        case Progress.AUTO if colour.can_move_cursor(os.environ, stream):
            with _ticking(_Live(voice, stream, render), _FRAME_S) as listener:
                yield listener
        case Progress.AUTO | Progress.PLAIN:
            with _ticking(_Log(voice, stream, render), 1.0) as listener:
                yield listener
        case _:
            assert_never(how)


@contextmanager
def _ticking(shown: _Live | _Log, every_s: float) -> Iterator[Listener]:
    """Yield the listener of `shown`, whose `tick` a thread calls every `every_s` seconds."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(every_s):
            shown.tick(time.monotonic())

    ticker = threading.Thread(target=tick, name="regpush-progress", daemon=True)
    ticker.start()
    try:
        yield shown.hear
    finally:
        ended.set()
        ticker.join()
        shown.end()


def _write(stream: TextIO, line: str) -> None:
    with suppress(OSError):  # a closed stderr does not end a push
        stream.write(f"{line}\n")
        stream.flush()


class _Few:
    """A listener for `--progress none`: it writes only warnings, and the lines of -v."""

    def __init__(self, voice: Voice, stream: TextIO, render: Renderer) -> None:
        self._voice, self._stream, self._render = voice, stream, render
        self._board = Board()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._board.take(event)
            line = lines.line(event, self._board, self._voice)
            if line and isinstance(event, Warned):
                self._say(("regpush: ", *pieces(line)))
            elif line and self._voice > Voice.USUAL:
                self._say(line)

    def _say(self, line: Line) -> None:
        _write(self._stream, self._render(line))


class _Log:
    """A listener for logs: it writes a line for each important event.

    After some seconds without a line, it writes that the push is still running.
    """

    def __init__(self, voice: Voice, stream: TextIO, render: Renderer) -> None:
        self._voice, self._stream, self._render = voice, stream, render
        self._board, self._meter = Board(), Meter()
        self._lock = threading.Lock()
        self._began = self._said = time.monotonic()

    def hear(self, event: Event) -> None:
        with self._lock:
            self._board.take(event)
            line = lines.line(event, self._board, self._voice)
            if line or (line := lines.log_line(event, self._board)):
                self._say(line)

    def tick(self, now: float) -> None:
        with self._lock:
            self._meter.note(now, self._board.moved)
            if now - self._said >= HEARTBEAT_S:
                self._say(lines.heartbeat(self._board, self._meter.rate, now - self._began))

    def _say(self, line: Line) -> None:
        self._said = time.monotonic()
        _write(self._stream, self._render(line))

    def end(self) -> None:
        """Do nothing: unlike bars, lines in a log stay."""


class _Live:
    """A listener for terminals: bars, which only the ticker thread draws, and lines above them."""

    def __init__(self, voice: Voice, stream: TextIO, render: Renderer) -> None:
        self._voice, self._stream, self._render = voice, stream, render
        self._board, self._meter = Board(), Meter()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._bars: Bars | None = None

    def hear(self, event: Event) -> None:
        with self._lock:
            self._board.take(event)
            if line := lines.line(event, self._board, self._voice):
                text = self._render(line)
                if self._bars is None:
                    _write(self._stream, text)
                    return
                with suppress(OSError):
                    self._bars.say(text)

    def tick(self, now: float) -> None:
        elapsed_s = now - self._began
        if elapsed_s < _BEFORE_BARS_S:
            return
        from regpush.cli.live import Bars  # imports rich, 100 ms: see _BEFORE_BARS_S

        with self._lock, suppress(OSError):
            self._meter.note(now, self._board.moved)
            self._bars = self._bars or Bars(self._stream, coloured=self._render.coloured)
            self._bars.draw(self._board, self._meter.rate, elapsed_s)

    def end(self) -> None:
        with suppress(OSError):
            if self._bars:
                self._bars.stop()
