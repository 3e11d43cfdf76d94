"""Tables and sizes for people. Plain text: a terminal and a log read the same."""

from __future__ import annotations

from collections.abc import Sequence

from regpush.errors import printable
from regpush.events import Action
from regpush.inspect import Inspection
from regpush.report import PushResult, Tense

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
    """One row a layer, bottom first: number, contents, size, what happened, and why."""
    rows = [("layer", "contents", "size", "action", "why")]
    for number, layer in enumerate(result.layers, 1):
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
    return _aligned(rows, "rlrll", width)


def summary(result: PushResult) -> str:
    """What crossed the network, in a sentence."""
    saved = result.bytes_of(Action.REUSED) + result.bytes_of(Action.MOUNTED)
    actions = [layer.action for layer in result.layers]
    counts = ", ".join(
        f"{actions.count(action)} {result.tense.word(action)}"
        for action in Action
        if action in actions
    )
    if result.tense is Tense.PLANNED:
        about = "about " if result.digest is None else ""
        upload = result.bytes_of(Action.UPLOADED)
        return f"Would send {about}{size(upload)}, saving {size(saved)} ({counts})."
    unchanged = "" if result.changed else "Unchanged. "
    return (
        f"{unchanged}Sent {size(result.uploaded_bytes)}, saved {size(saved)} ({counts}); "
        f"{result.requests} requests, {result.seconds:.1f} s."
    )


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


def _short(text: str, length: int) -> str:
    text = printable(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def _aligned(rows: Sequence[tuple[str, ...]], sides: str, width: int) -> list[str]:
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(wide) if side == "r" else cell.ljust(wide)
            for cell, wide, side in zip(row, columns, sides, strict=True)
        ]
        lines.append(_short("  ".join(cells).rstrip(), max(width, 40)))
    return lines
