"""Columns of a table, and what stands in its cells. Plain text: a terminal and a log read alike."""

from __future__ import annotations

from collections.abc import Sequence

from regpush.cli.fitting import columns, cut, cut_label
from regpush.digest import Digest
from regpush.image.image import Layer
from regpush.layering.labels import label_of_paths

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


def short(digest: Digest) -> str:
    """The beginning of a digest, enough to tell it from others of a table."""
    return f"{digest.algorithm}:{digest.short}"


def held(layer: Layer, width: int) -> str:
    """What a layer says that is in it."""
    return cut_label(label_of_paths(layer.contents), contents_width(width))


def contents_width(width: int) -> int:
    """Columns for what a layer holds: of a narrow terminal enough is left for the reason."""
    return max(min(_CONTENTS, width - 50), 16)


def aligned(rows: Sequence[tuple[str, ...]], sides: str, width: int) -> list[str]:
    """`rows` as lines of at most `width` columns, and no less than 40."""
    width = max(width, 40)
    rows = [tuple(cut(cell, width) for cell in row) for row in rows]
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for cell, wide, side in zip(row, widths, sides, strict=True):
            space = " " * (wide - columns(cell))
            cells.append(space + cell if side == "r" else cell + space)
        lines.append(cut("  ".join(cells).rstrip(), width))
    return lines
