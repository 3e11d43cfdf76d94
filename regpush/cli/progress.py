"""Events to lines: live on a terminal, plain elsewhere. stdout is never touched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from regpush.cli.flags import Progress
from regpush.cli.table import size
from regpush.errors import printable
from regpush.events import (
    Action,
    Event,
    LayerDone,
    LayerProgress,
    LayersPlanned,
    Listener,
    Note,
    TargetResolved,
    Warned,
)

Say = Callable[[str], None]


@contextmanager
def showing(how: Progress, stream: TextIO) -> Iterator[Listener]:
    """A listener that writes to `stream`; live bars only where it is a terminal."""
    if how is Progress.NONE:
        yield _Warnings(stream)
    elif how is Progress.AUTO and stream.isatty():
        with _bars(stream) as listener:
            yield listener
    else:
        yield _Lines(lambda line: _write(stream, line))


def _write(stream: TextIO, line: str) -> None:
    stream.write(f"{line}\n")
    stream.flush()


class _Warnings:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        if isinstance(event, Warned):
            _write(self._stream, f"regpush: warning: {event.message}")


class _Lines:
    """One line for each thing worth knowing; reused layers stand in the final table."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._labels: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if line := self._line(event):
                self._say(line)

    def _line(self, event: Event) -> str | None:
        match event:
            case Note(message=message):
                return f"note: {message}"
            case Warned(message=message):
                return f"warning: {message}"
            case TargetResolved(target=target, kind=kind, items=items, size=count):
                return f"{printable(target)}: {kind}, {items} items, {size(count)}"
            case LayersPlanned(labels=labels):
                self._labels = labels
            case LayerDone(index=index, action=action, size=count) if action is not Action.REUSED:
                where = f"layer {index + 1}/{len(self._labels)}"
                label = printable(self._labels[index])
                return f"{where} {label}: {action.value} {size(count)}"
        return None


@contextmanager
def _bars(stream: TextIO) -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        console=console,
        transient=True,
    )
    lines = _Lines(lambda line: console.print(line, soft_wrap=True))
    tasks: dict[int, TaskID] = {}
    labels: tuple[str, ...] = ()
    lock = threading.Lock()

    def listener(event: Event) -> None:
        nonlocal labels
        with lock:
            match event:
                case LayersPlanned():
                    labels = event.labels
                case LayerProgress(index=index, read=read, total=total):
                    if index not in tasks:
                        tasks[index] = bars.add_task(printable(labels[index]), total=total)
                    bars.update(tasks[index], completed=read, total=total)
                case LayerDone(index=index) if index in tasks:
                    bars.remove_task(tasks.pop(index))
        lines(event)

    with bars:
        yield listener
