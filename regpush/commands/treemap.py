"""Divide a rectangle into near-squares whose areas are in proportion to given weights. Pure.

Bruls, Huizing, van Wijk, "Squarified Treemaps" (2000): rows are laid along the shorter side, and
rectangles are added to a row as long as that improves the row's worst aspect ratio.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Box(Struct, frozen=True):
    """A rectangle; x to the right, y down, in any unit."""

    x: float
    y: float
    width: float
    height: float

    def inset(self, edge: float, top: float = 0.0) -> Box:
        """Return the rectangle inside a border of width `edge`, at the upper side `edge + top`.

        No side becomes shorter than 0.
        """
        return Box(
            self.x + edge,
            self.y + edge + top,
            max(self.width - 2 * edge, 0.0),
            max(self.height - 2 * edge - top, 0.0),
        )


def squarify(weights: Sequence[float], box: Box) -> list[Box]:
    """Return a rectangle in `box` for each weight, in the order of `weights`.

    `weights` must be sorted, largest first, without negative ones. A weight too small for a
    positive area gets a rectangle of size 0.
    """
    total = sum(weights)
    scale = box.width * box.height / total if total else 0.0
    areas = [weight * scale for weight in weights if weight * scale]
    boxes: list[Box] = []
    while len(boxes) < len(areas) and box.width > 0 and box.height > 0:
        row = _row(areas[len(boxes) :], min(box.width, box.height))
        placed, box = _lay(row, box)
        boxes += placed
    nothing = Box(box.x, box.y, 0.0, 0.0)
    return [*boxes, *[nothing] * (len(weights) - len(boxes))]


def _row(areas: Sequence[float], side: float) -> list[float]:
    """Return as many of the first `areas` as give the squarest rectangles in one row.

    `side`: the length of the row.
    """
    row = [areas[0]]
    for area in areas[1:]:
        if _worst([*row, area], side) > _worst(row, side):
            break
        row.append(area)
    return row


def _worst(row: Sequence[float], side: float) -> float:
    """Return the largest aspect ratio, 1 or more, among rectangles with the areas `row`.

    The rectangles fill a row of the length `side`.
    """
    thickness = sum(row) / side
    return max(max(area / thickness**2, thickness**2 / area) for area in row)


def _lay(row: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    """Place the areas in `row` as rectangles side by side along the shorter side of `box`.

    Returns the rectangles, and the part of `box` that stays free.
    """
    placed = []
    if box.width >= box.height:
        thickness, at = sum(row) / box.height, box.y
        for area in row:
            placed.append(Box(box.x, at, thickness, area / thickness))
            at += area / thickness
        rest = Box(box.x + thickness, box.y, max(box.width - thickness, 0.0), box.height)
    else:
        thickness, at = sum(row) / box.width, box.x
        for area in row:
            placed.append(Box(at, box.y, area / thickness, thickness))
            at += area / thickness
        rest = Box(box.x, box.y + thickness, box.width, max(box.height - thickness, 0.0))
    return placed, rest
