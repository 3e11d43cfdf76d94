"""Columns of a table, and the texts of its cells. Plain text for terminals and logs."""

from __future__ import annotations

from collections.abc import Sequence

from regpush.cli.fitting import columns, cut, cut_label
from regpush.digest import Digest
from regpush.image.image import Layer
from regpush.layering.labels import label_of_paths

_CONTENTS = 40


def size(count: int) -> str:
    """Format bytes in decimal units, like network speeds: 1 kB is 1000 B."""
    if count < 1000:
        return f"{count} B"
    value, units = float(count), ("kB", "MB", "GB", "TB")
    for unit in units:
        value /= 1000
        if value < 999.5 or unit == units[-1]:
            return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"
    raise AssertionError  # the last unit always returns


def short(digest: Digest) -> str:
    """Return the algorithm and the first digits of a digest, enough within one table."""
    return f"{digest.algorithm}:{digest.short}"


def held(layer: Layer, width: int) -> str:
    """Describe the contents of a layer, from its annotations, cut to a column of a terminal."""
    return cut_label(label_of_paths(layer.contents), contents_width(width))


def contents_width(width: int) -> int:
    """Return the width of the column of contents: 16 to 40, leaving 50 for the rest."""
    return max(min(_CONTENTS, width - 50), 16)


def aligned(rows: Sequence[tuple[str, ...]], sides: str, width: int) -> list[str]:
    """Format `rows` as lines of at most `width` columns, or of 40 if `width` is less.

    `sides`: `l` or `r` for each column, the side that its cells are aligned to.
    """
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
