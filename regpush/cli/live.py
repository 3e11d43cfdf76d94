"""Draw progress bars on a terminal: one for each layer in progress, and a line of totals."""

from __future__ import annotations

import math
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from regpush.cli.board import Board, Flight
from regpush.cli.columns import size
from regpush.cli.fitting import cut_label
from regpush.cli.lines import span
from regpush.events import Action

_BYTES = 18
_NARROW = 64


class Bars:
    """The progress bars at the bottom of a terminal. Only one thread may draw them.

    The cursor stays visible, so that a killed process leaves a usable terminal.
    """

    def __init__(self, stream: TextIO, *, coloured: bool) -> None:
        self._console = Console(
            file=stream,
            force_terminal=True,
            no_color=not coloured,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._width = self._console.width
        self._drawn: list[int] = []

    def draw(self, board: Board, rate: float | None, elapsed_s: float) -> None:
        """Draw bars for the state of `board`, in place of the bars drawn before.

        `rate`: bytes sent per second, None if unknown. `elapsed_s`: seconds since the push began.
        """
        width, height = self._console.size
        if not self._live.is_started:
            self._live.start()
            self._console.show_cursor(True)
        if width < self._width:
            self._go_up_to_reflowed(width)
        self._width = width
        picture = picture_of(board, rate, elapsed_s, width - 1, max(height - 1, 1))
        options = self._console.options.update_width(width - 1)
        rows = self._console.render_lines(picture, options, pad=False)
        self._drawn = [sum(segment.cell_length for segment in row) for row in rows]
        self._live.update(_Narrowed(picture), refresh=True)

    def _go_up_to_reflowed(self, width: int) -> None:
        """Move the cursor to the first of the drawn rows, some of which the terminal has wrapped.

        `width`: columns of the terminal, which became narrower. Rich would count each row as one
        line; the rows' lengths tell how many lines they fill now.
        """
        broken = sum(max(math.ceil(drawn / width) - 1, 0) for drawn in self._drawn)
        up = [(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * broken
        start = (ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))
        self._console.control(Control(*start, *up))

    def say(self, line: str) -> None:
        """Print `line` above the bars."""
        self._console.print(Text.from_ansi(line), soft_wrap=True)

    def stop(self) -> None:
        """Erase the bars."""
        self._live.stop()


class _Narrowed:
    """Draws a picture one column narrower: terminals differ in how they treat a full row."""

    def __init__(self, picture: RenderableType) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._picture, options.update_width(options.max_width - 1))


def picture_of(
    board: Board, rate: float | None, elapsed_s: float, width: int, height: int
) -> RenderableType:
    """Return the bars as at most `height` rows of at most `width` columns.

    The last row holds the totals. `rate`: bytes sent per second, None if unknown. `elapsed_s`:
    seconds since the push began.
    """
    flights = sorted(board.flights.values(), key=lambda one: (one.packing, one.index))
    room = height - 1
    shown = flights if len(flights) <= room else flights[: max(room - 1, 0)]
    hidden = len(flights) - len(shown)
    # The longest label of the push, not of the layers shown: so the bars stay where they are.
    longest = max(map(cell_len, board.labels), default=0)
    rows: list[RenderableType] = [_bars(shown, width, longest)] if shown else []
    if hidden and room:
        rows.append(Text(f"and {hidden} more", style="dim", no_wrap=True))
    rows.append(Text(totals(board, rate, elapsed_s, width), no_wrap=True, overflow="ellipsis"))
    return Group(*rows)


def _bars(flights: list[Flight], width: int, longest: int) -> Table:
    bar = min(max(width // 4, 6), 30)
    label = min(longest, width - bar - _BYTES - 2)
    rows = Table.grid(padding=(0, 1, 0, 0))
    rows.add_column(width=label, no_wrap=True, overflow="ellipsis")
    rows.add_column(width=bar)
    rows.add_column(width=_BYTES, no_wrap=True, justify="right")
    for flight in flights:
        style = "dim" if flight.packing else ""
        rows.add_row(
            Text(cut_label(flight.label, label), style=style),
            ProgressBar(
                total=1.0,
                completed=flight.done,
                width=bar,
                complete_style="bright_black" if flight.packing else "cyan",
                finished_style="bright_black" if flight.packing else "cyan",
            ),
            Text(_bytes(flight), style=style),
        )
    return rows


def _bytes(flight: Flight) -> str:
    if flight.packing:
        return f"packing {size(flight.read)}"
    about = flight.about
    if about is None:
        return size(flight.sent)
    return f"{size(flight.sent)}/{'' if flight.size else '~'}{size(about)}"


def totals(board: Board, rate: float | None, elapsed_s: float, width: int) -> str:
    """Return the line of totals, with as many of its parts as fit into `width` columns.

    The least important parts are left out first. `rate`: bytes sent per second.
    """
    if not board.labels:
        return f"reading the target and the registry, {span(elapsed_s)}"
    reused = board.finished_by(Action.REUSED) + board.finished_by(Action.MOUNTED)
    left, parts = board.left, [(1, f"sent {size(board.moved)}")]
    if reused:
        parts.insert(0, (4, f"{len(reused)} reused ({size(sum(one.size for one in reused))})"))
    if left:
        parts.append((2, f"~{size(left)} left"))
    if rate:
        parts.append((3, f"{size(int(rate))}/s"))
    parts.append((5, span(elapsed_s)))
    if left and rate and rate > 1:
        parts.append((2, f"~{span(left / rate)} to go"))
    for least in (5, 4, 3, 2, 1):
        line = ", ".join(text for weight, text in parts if weight <= least)
        if len(line) <= width:
            break
    return line
