"""Format the table of layers of a push or plan, and the sentence about the bytes sent and saved."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby, islice
from typing import Protocol, TypeAlias

from regpush.cli.colour import Style
from regpush.cli.columns import aligned, contents_width, short, size
from regpush.cli.fitting import cut_label
from regpush.cli.rendering import Line, Span
from regpush.errors import plural
from regpush.events import Action
from regpush.report import BaseReport, ImageReport, LayerReport, PushResult, Tense

_FEW = 3
"""More consecutive reused layers than this become one row."""


_Row: TypeAlias = tuple[str, str, str, str, str]


def layers(result: PushResult, width: int) -> list[str]:
    """Return the table of all layers, lowest first: number, contents, size, action and reason.

    With several images, a line with the platform stands above the rows of each image. `width`:
    columns of the terminal.
    """
    return _of_images(result, width, lambda image: [[layer] for layer in image.layers])


def changes(result: PushResult, width: int) -> list[str]:
    """Return the table of the function `layers`, but several consecutive reused layers in one row.

    Empty if no image was made, because all tags exist and --if-exists skip does not move them.
    """
    if not result.images:
        return []
    return _of_images(result, width, lambda image: _runs(image.layers))


_Groups: TypeAlias = Sequence[Sequence[LayerReport]]


def _of_images(
    result: PushResult, width: int, group: Callable[[ImageReport], _Groups]
) -> list[str]:
    rows: list[_Row] = [("layer", "contents", "size", "action", "why")]
    counts = []
    for image in result.images:
        number, groups = 1, group(image)
        counts.append(len(groups) + (image.base is not None))
        if image.base:
            rows.append(_base(image.base, result.tense, width))
        for several in groups:
            rows.append(_row(number, several, result, width))
            number += len(several)
    head, *lines = aligned(rows, "rlrll", width)
    if len(result.images) < 2:
        return [head, *lines]
    left = iter(lines)
    parts = [
        [image.platform, *islice(left, count)]
        for image, count in zip(result.images, counts, strict=True)
    ]
    return [head, *(line for part in parts for line in part)]


def _runs(layers: Sequence[LayerReport]) -> _Groups:
    """Divide `layers` into the groups that share a row of the table.

    More than three consecutive layers reused for the same reason are a group; each other layer is a
    group of its own.
    """
    groups: list[list[LayerReport]] = []
    for (action, _), run in groupby(layers, lambda one: (one.action, one.why)):
        several = list(run)
        together = action is Action.REUSED and len(several) > _FEW
        groups += [several] if together else [[one] for one in several]
    return groups


def _row(number: int, several: Sequence[LayerReport], result: PushResult, width: int) -> _Row:
    first, about = several[0], "~" if any(one.digest is None for one in several) else ""
    one = len(several) == 1
    return (
        str(number) if one else f"{number}-{number + len(several) - 1}",
        cut_label(first.label, contents_width(width)) if one else f"{len(several)} layers",
        about + size(sum(layer.size for layer in several)),
        result.tense.word(first.action),
        first.why.replace(f"{result.image}:", ""),
    )


def styled(lines: Sequence[str]) -> list[Line]:
    """Return the `lines` of a table of layers with styles: rows of reused layers are faint."""
    if not lines:
        return []
    head, *rows = lines
    return [(Span(head, Style.STRONG),), *map(_styled, rows)]


def _styled(row: str) -> Line:
    found = re.search(_WORD, row)
    if not found:
        return row
    if found[1].startswith("reuse"):
        return (Span(row, Style.FAINT),)
    return row[: found.start(1)], Span(found[1], Style.GOOD), row[found.end(1) :]


_WORD = r"(?<=  )(uploaded|upload|reused|reuse|mounted|mount)(?=  )"


def _base(base: BaseReport, tense: Tense, width: int) -> _Row:
    """Return the one row of the table that stands for all layers of a base image."""
    count = len(base.layers)
    actions = [layer.action for layer in base.layers]
    return (
        "base",
        cut_label(f"{plural(count, 'layer')} of {base.name}", contents_width(width)),
        size(sum(layer.size for layer in base.layers)),
        tense.word(actions[0]) if len(set(actions)) == 1 else counts_of(actions, tense),
        short(base.digest),
    )


def summary(result: PushResult) -> str:
    """Return the sentence about the bytes that a push sent and saved, or a plan would send."""
    upload = result.bytes_of(Action.UPLOADED)
    saved = result.bytes_of(Action.REUSED) + result.bytes_of(Action.MOUNTED)
    every = (*result.layers_of_bases, *result.layers)
    counts = counts_of([layer.action for layer in every], result.tense)
    if result.tense is Tense.PLANNED:
        about = "about " if result.digest is None else ""
        return would_send(f"{about}{size(upload)}", saved, counts)
    if not result.uploaded_bytes:
        return sent(result, "0 B", saved, counts)
    # The first number can be compared with that of a plan. The second also counts config,
    # manifests and repeated attempts.
    layers = f"{size(upload)} of layers, {size(result.uploaded_bytes)} in all"
    return sent(result, layers, saved, counts)


def destinations(result: PushResult) -> list[str]:
    """Return a line for each destination: its tags, or without tags the digest.

    Empty if there is only one destination.
    """
    if len(result.destinations) == 1:
        return []
    return [f"{one.image}: {', '.join(one.tags) or one.digest}" for one in result.destinations]


class Sent(Protocol):
    """The values that `sent` needs of a command's result."""

    @property
    def changed(self) -> bool:
        """Whether a tag moved, or a manifest was new."""

    @property
    def requests(self) -> int:
        """The number of HTTP requests to all registries."""

    @property
    def seconds(self) -> float:
        """The duration of the command in seconds."""


def would_send(what: str, saved: int, counts: str) -> str:
    """Return the sentence about what a push would send.

    `what`: bytes of layers, as text. `saved`: bytes that need not be sent. `counts`: the number of
    layers for each action, as text.
    """
    counted = f" ({counts})" if counts else ""
    return f"Would send {what} of layers, saving {size(saved)}{counted}."


def sent(result: Sent, what: str, saved: int, counts: str) -> str:
    """Return the sentence about what a command sent, with its requests and seconds.

    `what`: the bytes sent, as text. `saved`: bytes that were not sent. `counts`: the number of
    layers for each action, as text.
    """
    unchanged = "" if result.changed else "Unchanged. "
    spared = f", saved {size(saved)} ({counts})" if counts else ""
    return f"{unchanged}Sent {what}{spared}; {result.requests} requests, {result.seconds:.1f} s."


def counts_of(actions: Sequence[Action], tense: Tense) -> str:
    """Return the number of layers for each action, in words: `1 uploaded, 21 reused`."""
    counted = ((actions.count(action), tense.word(action)) for action in Action)
    return ", ".join(f"{count} {word}" for count, word in counted if count)
