"""Format tables as plain text for terminals and logs: cells, such as sizes, and aligned columns."""

from __future__ import annotations

from collections.abc import Sequence

from regpush.cli.fitting import columns, cut, cut_label
from regpush.digest import Digest
from regpush.image.image import Layer
from regpush.layering.labels import label_of_paths

_CONTENTS = 40


def size(count: int) -> str:
    """Format a number of bytes in decimal units, such as `21.5 kB`: 1 kB is 1000 B."""
    if count < 1000:
        return f"{count} B"
    value, units = float(count), ("kB", "MB", "GB", "TB")
    for unit in units:
        value /= 1000
        if value < 999.5 or unit == units[-1]:
            return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"
    raise AssertionError  # the last unit always returns


def short(digest: Digest) -> str:
    """Return a digest shortened for a table: its algorithm and first digits."""
    return f"{digest.algorithm}:{digest.short}"


def contents_of(layer: Layer, width: int) -> str:
    """Return the names of the items in a layer, as one text for the column `contents` of a table.

    The items are those in the layer's annotations. `width`: columns of the terminal.
    """
    return cut_label(label_of_paths(layer.contents), contents_width(width))


def contents_width(width: int) -> int:
    """Return the width of a table's column `contents`: 16 to 40 of the terminal's `width` columns.

    At least 50 columns are left for the rest of the table, where the terminal has them.
    """
    return max(min(_CONTENTS, width - 50), 16)


def aligned(rows: Sequence[tuple[str, ...]], sides: str, width: int) -> list[str]:
    """Format `rows` as lines of a table, cut to `width` columns; a `width` below 40 counts as 40.

    `sides`: a letter for each column of the table, `l` to align its cells left, `r` right.
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
