"""Tables and sizes for people. Plain text: a terminal and a log read the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from regpush.errors import printable
from regpush.events import Action
from regpush.inspect import Inspection
from regpush.report import PushResult, Tense

if TYPE_CHECKING:
    from regpush.comparison import Comparison
    from regpush.mirror import CopyResult
    from regpush.quantities import Link
    from regpush.simulate import Score

_CONTENTS = 40


def size(count: int) -> str:
    """Bytes in the units that network people count in: 1 kB is 1000 B."""
    if count < 1000:
        return f"{count} B"
    value, units = float(count), ("kB", "MB", "GB", "TB")
    for unit in units:
        value /= 1000
        if value < 999.5 or unit == units[-1]:
            return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"
    raise AssertionError  # the last unit always returns


def layers(result: PushResult, width: int) -> list[str]:
    """One row a layer, bottom first: number, contents, size, what happened, and why.

    Where there are several images, each comes under a line with its platform.
    """
    rows = [("layer", "contents", "size", "action", "why")]
    for image in result.images:
        for number, layer in enumerate(image.layers, 1):
            about = "~" if layer.digest is None else ""
            rows.append(
                (
                    str(number),
                    _short(layer.label, _CONTENTS),
                    about + size(layer.size),
                    result.tense.word(layer.action),
                    layer.why.replace(f"{result.image}:", ""),
                )
            )
    head, *lines = _aligned(rows, "rlrll", width)
    if len(result.images) < 2:
        return [head, *lines]
    left = iter(lines)
    parts = [[image.platform, *islice(left, len(image.layers))] for image in result.images]
    return [head, *(line for part in parts for line in part)]


def summary(result: PushResult) -> str:
    """What crossed the network, in a sentence."""
    saved = result.bytes_of(Action.REUSED) + result.bytes_of(Action.MOUNTED)
    counts = _counts([layer.action for layer in result.layers], result.tense)
    if result.tense is Tense.PLANNED:
        about = "about " if result.digest is None else ""
        upload = result.bytes_of(Action.UPLOADED)
        return f"Would send {about}{size(upload)}, saving {size(saved)} ({counts})."
    return _sent(result, saved, counts)


def copied(result: CopyResult) -> str:
    """The same of a copy; nothing is counted where the destination had it all."""
    saved = result.bytes_of(Action.REUSED) + result.bytes_of(Action.MOUNTED)
    actions = [one.action for one in result.blobs]
    return _sent(result, saved, _counts(actions, Tense.DONE) or "all was there")


def _sent(result: PushResult | CopyResult, saved: int, counts: str) -> str:
    unchanged = "" if result.changed else "Unchanged. "
    return (
        f"{unchanged}Sent {size(result.uploaded_bytes)}, saved {size(saved)} ({counts}); "
        f"{result.requests} requests, {result.seconds:.1f} s."
    )


def _counts(actions: Sequence[Action], tense: Tense) -> str:
    """`1 uploaded, 21 reused`."""
    counted = ((actions.count(action), tense.word(action)) for action in Action)
    return ", ".join(f"{count} {word}" for count, word in counted if count)


def duration(result: PushResult, link: Link) -> str:
    """How long the upload takes, in a sentence."""
    seconds = link.seconds(result.bytes_of(Action.UPLOADED))
    about = "about " if result.digest is None else ""
    return f"That takes {about}{_span(seconds)} at {link}, if nothing else is on the line."


def on_link(result: PushResult, link: Link | None) -> dict[str, Any]:
    """What the JSON report adds for `--link`."""
    if link is None:
        return {}
    seconds = round(link.seconds(result.bytes_of(Action.UPLOADED)), 3)
    return {"link": {"bits_per_second": link.bits_per_second, "seconds": seconds}}


def _span(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def comparison(found: Comparison, width: int) -> list[str]:
    """Bytes by cause, then the layers that go, bottom first."""
    about = "~" if found.estimated else ""
    total = sum(layer.size for layer in found.layers)
    gone = len(found.layers)
    head = (
        f"{about}{size(total)} in {gone} layers of {gone + found.reused} are not in the old image."
    )
    if not gone:
        return [head]
    causes = [("bytes", "layers", "for")]
    causes += [
        (about + size(count), str(layers), printable(cause))
        for cause, count, layers in found.by_cause()
    ]
    rows = [("layer", "contents", "size", "changed", "unchanged", "why")]
    for layer in found.layers:
        more = f" (and {len(layer.causes) - 1} more)" if len(layer.causes) > 1 else ""
        rows.append(
            (
                str(layer.number),
                _short(layer.label, _CONTENTS),
                about + size(layer.size),
                str(layer.changed),
                str(layer.unchanged),
                printable(layer.causes[0]) + more,
            )
        )
    return [head, "", *_aligned(causes, "rrl", width), "", *_aligned(rows, "rlrrrl", width)]


def scores(found: Mapping[str, Score]) -> list[str]:
    """One row a strategy: ratios to the least possible, and layers."""
    rows: list[tuple[str, ...]] = [("strategy", "push", "pull", "chain", "layers", "most")]
    for name, score in found.items():
        ratios = ("-" if r is None else f"{r:.3f}" for r in (score.push, score.pull, score.chain))
        rows.append((printable(name), *ratios, f"{score.mean_layers:.1f}", str(score.most_layers)))
    return _aligned(rows, "lrrrrr", 200)


def inspection(found: Inspection, width: int) -> list[str]:
    """An image's layers, bottom first."""
    rows = [("layer", "contents", "size", "unpacked", "digest")]
    for number, layer in enumerate(found.image.layers, 1):
        # A generated item has no path; it is worth its name only where it is alone.
        paths = [path for path in layer.items if path.startswith("/")] or layer.items
        names = [path.rpartition("/")[2] or path for path in paths]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        contents = _short(names[0], _CONTENTS) + more if names else "(not said)"
        unpacked = layer.uncompressed_size
        rows.append(
            (
                str(number),
                contents,
                size(layer.descriptor.size),
                "" if unpacked is None else size(unpacked),
                f"{layer.descriptor.digest.algorithm}:{layer.descriptor.digest.short}",
            )
        )
    return _aligned(rows, "rlrrl", width)


def columns(text: str) -> int:
    """Columns of a terminal that `text` takes: East Asian characters have two."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def attached(found: Inspection) -> list[str]:
    """What refers to an image, a line each."""
    return [
        printable(f"attached: {one.artifact_type or 'an artifact'} {one.descriptor.digest}")
        for one in found.referrers
    ]


def _short(text: str, length: int) -> str:
    """`text` in at most `length` columns: of a path its end, of all else its beginning."""
    text = printable(text)
    if columns(text) <= length:
        return text
    if "/" in text and " " not in text:
        while columns(text) > length - 1:
            text = text[1:]
        return f"…{text}"
    while columns(text) > length - 1:
        text = text[:-1]
    return f"{text}…"


def _aligned(rows: Sequence[tuple[str, ...]], sides: str, width: int) -> list[str]:
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for cell, wide, side in zip(row, widths, sides, strict=True):
            space = " " * (wide - columns(cell))
            cells.append(space + cell if side == "r" else cell + space)
        lines.append(_short("  ".join(cells).rstrip(), max(width, 40)))
    return lines
