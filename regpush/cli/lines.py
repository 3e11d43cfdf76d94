"""Turn events of a push into lines of text, for logs and above the progress bars on a terminal."""

from __future__ import annotations

from regpush.cli.access import Voice
from regpush.cli.board import Board, Flight
from regpush.cli.colour import Style
from regpush.cli.columns import size
from regpush.cli.rendering import Line, Span
from regpush.errors import plural
from regpush.events import (
    Action,
    Decided,
    Event,
    Exchanged,
    ItemFetched,
    LayerDone,
    LayersPlanned,
    Note,
    TagMoved,
    TargetResolved,
    ToolSaid,
    Warned,
)


def line(event: Event, board: Board, voice: Voice) -> Line | None:
    """Return the line to print about `event` at the level `voice`; None for no line.

    `board` must have recorded the event already.
    """
    if voice is Voice.QUIET:
        return None
    match event:
        case Warned(message=message):
            return Span("warning:", Style.WARNING), f" {message}"
        case Note(message=message):
            return f"note: {message}"
        case ToolSaid(line=said):
            return said
    if voice >= Voice.DECISIONS and (decision := _decision(event, board)):
        return decision
    if voice >= Voice.REQUESTS and isinstance(event, Exchanged):
        return (Span(request(event), Style.FAINT),)
    return None


def log_line(event: Event, board: Board) -> Line | None:
    """Return the line about `event` that is printed in logs, but not above bars; None for no line.

    There are lines for the target, fetched items and finished layers. Reused layers get no line,
    since the table at the end lists them; all layers of the bases share one line.
    """
    match event:
        case TargetResolved(target=target, kind=kind, items=items, size=count):
            return f"{target}: {kind}, {plural(items, 'item')}, {size(count)}"
        case ItemFetched(path=path, source=source, size=count):
            return f"{path}: {size(count)} from {source}"
        case LayerDone(index=index) if board.is_of_base(index):
            return _bases(board)
        case LayerDone(index=index, action=action, size=count) if action is not Action.REUSED:
            word = Span(action.value, Style.GOOD)
            return f"{board.name(index)}: ", word, f" {size(count)}"
    return None


def _bases(board: Board) -> Line | None:
    """Return one line about all layers of the bases; None until they are finished.

    None also if all of them were reused.
    """
    done = board.bases() or []
    counted = []
    for action in (Action.UPLOADED, Action.MOUNTED):
        sizes = [one.size for one in done if one.action is action]
        if sizes:
            counted.append(f"{len(sizes)} {action.value} {size(sum(sizes))}")
    return f"{plural(len(done), 'layer')} of the base: {', '.join(counted)}" if counted else None


def _decision(event: Event, board: Board) -> str | None:
    match event:
        case Decided(message=message):
            return message
        case TargetResolved(target=target, kind=kind, items=items, size=count):
            return f"{target} is a {kind}: {plural(items, 'item')}, {size(count)}"
        case LayersPlanned(labels=labels, sizes=sizes):
            return f"plan: {plural(len(labels), 'layer')}, {size(sum(sizes))} before compression"
        case LayerDone(index=index, action=action, size=count, why=why):
            return f"{board.name(index)}: {action.value} {size(count)}, because: {why}"
        case TagMoved(image=image, tag=tag, digest=digest, changed=changed):
            word = "now names" if changed else "already named"
            return f"{image}:{tag} {word} {digest}"
    return None


def request(event: Exchanged) -> str:
    """Return a line about one HTTP request: method, URL, status, bytes, milliseconds."""
    came = event.failure if event.status is None else str(event.status)
    counts = [f"{size(event.sent)} sent"] if event.sent else []
    counts += [f"{size(event.received)} received"] if event.received else []
    parts = ", ".join([came, *counts, f"{event.seconds * 1000:.0f} ms"])
    return f"{event.method} {event.url}: {parts}"


def heartbeat(board: Board, rate: float | None, elapsed_s: float) -> str:
    """Return a line that shows in a silent log that the push is still running.

    `rate`: bytes sent per second, None if unknown. `elapsed_s`: seconds since the push began.
    """
    if not board.flights:
        doing = "reading the target and the registry"
        if board.labels:
            doing = f"{len(board.finished)} of {len(board.labels)} layers are finished"
        return f"still working: {doing} ({span(elapsed_s)})"
    flights = sorted(board.flights.values(), key=lambda one: one.packing)
    first = flights[0]
    more = f", and {len(flights) - 1} more" if len(flights) > 1 else ""
    speed = f"; {size(int(rate))}/s" if rate else ""
    left = f", about {size(board.left)} left in all" if board.left else ""
    return f"{board.name(first.index)}: {state(first)}{more}{speed}{left}"


def state(flight: Flight) -> str:
    """Return the progress of a layer in words, such as `sent 1.2 MB of 5.6 MB`."""
    if flight.packing:
        return f"packed {size(flight.read)} of {size(flight.total)}"
    about = flight.about
    if about is None:
        return f"sent {size(flight.sent)}"
    return f"sent {size(flight.sent)} of {'' if flight.size else 'about '}{size(about)}"


def span(seconds: float) -> str:
    """Format a duration in seconds as `MINUTES:SECONDS` or `HOURS:MINUTES:SECONDS`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
