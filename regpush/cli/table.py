"""Tables and sizes for people. Plain text: a terminal and a log read the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, TypeAlias

from regpush.cli.colour import Style
from regpush.cli.fitting import columns, cut, cut_label
from regpush.cli.rendering import Line, Span
from regpush.commands.inspect import Inspection
from regpush.events import Action
from regpush.image.image import Layer
from regpush.layering.labels import label_of_paths
from regpush.report import BaseReport, ImageReport, LayerReport, PushResult, Tense

if TYPE_CHECKING:
    from regpush.commands.copy import CopyResult
    from regpush.commands.simulate import Score
    from regpush.commands.tags import Tag
    from regpush.commands.verify import Verification
    from regpush.commands.weights import Weights
    from regpush.history.comparison import Comparison
    from regpush.quantities import Link
    from regpush.registry.referrers import Referrer

_CONTENTS = 40
_ITEMS = 10
"""Items of a layer that are listed, the largest."""
_FEW = 3
"""Rows that are not worth being made one."""


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


_Row: TypeAlias = tuple[str, str, str, str, str]


def layers(result: PushResult, width: int) -> list[str]:
    """One row a layer, bottom first: number, contents, size, what happened, and why.

    Where there are several images, each comes under a line with its platform.
    """
    return _of_images(result, width, lambda image: [[layer] for layer in image.layers])


def changes(result: PushResult, width: int) -> list[str]:
    """The same, but of layers that were reused one after the other a row for all of them."""
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
    head, *lines = _aligned(rows, "rlrll", width)
    if len(result.images) < 2:
        return [head, *lines]
    left = iter(lines)
    parts = [
        [image.platform, *islice(left, count)]
        for image, count in zip(result.images, counts, strict=True)
    ]
    return [head, *(line for part in parts for line in part)]


def _runs(layers: Sequence[LayerReport]) -> _Groups:
    """Layers that were reused for one reason together, if they are more than a few."""
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
        cut_label(first.label, _contents(width)) if one else f"{len(several)} layers",
        about + size(sum(layer.size for layer in several)),
        result.tense.word(first.action),
        first.why.replace(f"{result.image}:", ""),
    )


def _contents(width: int) -> int:
    """Columns for what a layer holds: of a narrow terminal enough is left for the reason."""
    return max(min(_CONTENTS, width - 50), 16)


def styled(lines: Sequence[str]) -> list[Line]:
    """`lines` of a table of layers with styles: what was reused is faint."""
    if not lines:
        return []
    head, *rows = lines
    return [(Span(head, Style.STRONG),), *map(_styled, rows)]


def _styled(row: str) -> Line:
    found = _WORD.search(row)
    if not found:
        return row
    if found[1].startswith("reuse"):
        return (Span(row, Style.FAINT),)
    return row[: found.start(1)], Span(found[1], Style.GOOD), row[found.end(1) :]


_WORD = re.compile(r"(?<=  )(uploaded|upload|reused|reuse|mounted|mount)(?=  )")


def _base(base: BaseReport, tense: Tense, width: int) -> _Row:
    """One row for all layers of a base."""
    count = len(base.layers)
    actions = [layer.action for layer in base.layers]
    return (
        "base",
        cut_label(f"{count} layer{'s' * (count != 1)} of {base.name}", _contents(width)),
        size(sum(layer.size for layer in base.layers)),
        tense.word(actions[0]) if len(set(actions)) == 1 else _counts(actions, tense),
        f"{base.digest.algorithm}:{base.digest.short}",
    )


def summary(result: PushResult) -> str:
    """What crossed the network, in a sentence."""
    saved = result.bytes_of(Action.REUSED) + result.bytes_of(Action.MOUNTED)
    every = (*result.layers_of_bases, *result.layers)
    counts = _counts([layer.action for layer in every], result.tense)
    if result.tense is Tense.PLANNED:
        about = "about " if result.digest is None else ""
        upload = result.bytes_of(Action.UPLOADED)
        return f"Would send {about}{size(upload)}, saving {size(saved)} ({counts})."
    return _sent(result, saved, counts)


def destinations(result: PushResult) -> list[str]:
    """A line each where there are several: which tags name the image there now."""
    if len(result.destinations) == 1:
        return []
    return [f"{one.image}: {', '.join(one.tags) or one.digest}" for one in result.destinations]


def copied(result: CopyResult) -> str:
    """The same of a copy; nothing is counted where the destination had it all."""
    saved = result.bytes_of(Action.REUSED) + result.bytes_of(Action.MOUNTED)
    actions = [one.action for one in result.blobs]
    return _sent(result, saved, _counts(actions, Tense.DONE) or "all was there")


def united(result: PushResult) -> list[str]:
    """The images of an index, a line each, and what crossed the network."""
    lines = [f"{image.platform}  {image.digest}" for image in result.images]
    unchanged = "" if result.changed else "Unchanged. "
    lines.append(
        f"{unchanged}Sent {size(result.uploaded_bytes)}; {result.requests} requests, "
        f"{result.seconds:.1f} s."
    )
    return lines


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
    total = sum(layer.size for layer in found.layers)
    gone = len(found.layers)
    head = f"{size(total)} in {gone} layers of {gone + found.reused} are not in the old image."
    if not gone:
        return [head]
    causes = [("bytes", "layers", "for")]
    causes += [(size(count), str(layers), cause) for cause, count, layers in found.by_cause()]
    rows = [("layer", "contents", "size", "changed", "unchanged", "why")]
    for layer in found.layers:
        more = f" (and {len(layer.causes) - 1} more)" if len(layer.causes) > 1 else ""
        rows.append(
            (
                str(layer.number),
                cut_label(layer.label, _contents(width)),
                size(layer.size),
                str(layer.changed),
                str(layer.unchanged),
                layer.causes[0] + more,
            )
        )
    return [head, "", *_aligned(causes, "rrl", width), "", *_aligned(rows, "rlrrrl", width)]


def scores(found: Mapping[str, Score]) -> list[str]:
    """One row a strategy: ratios to the least possible, and layers."""
    rows: list[tuple[str, ...]] = [("strategy", "push", "pull", "chain", "layers", "most")]
    for name, score in found.items():
        ratios = ("-" if r is None else f"{r:.3f}" for r in (score.push, score.pull, score.chain))
        rows.append((name, *ratios, f"{score.mean_layers:.1f}", str(score.most_layers)))
    return _aligned(rows, "lrrrrr", 200)


def verification(found: Verification, width: int) -> list[str]:
    """What was checked of each layer, bottom first, and what is wrong."""
    lines: list[str] = []
    for image in found.images:
        rows: list[tuple[str, ...]] = [("layer", "contents", "size", "checked", "result")]
        for check in image.layers:
            words = ["read" if check.read else "asked for", *(["compared"] * check.compared)]
            result = "wrong" if check.problems else "; ".join(("right", *check.remarks))
            rows.append(
                (
                    str(check.number),
                    _held(check.layer, width),
                    size(check.layer.descriptor.size),
                    ", ".join(words),
                    result,
                )
            )
        lines += [f"{image.ref}, {image.image.platform}", *_aligned(rows, "rlrll", width)]
        lines += [f"wrong: {problem}" for problem in image.failures()]
        lines.append("")
    checks = [check for image in found.images for check in image.layers]
    read, compared = sum(check.read for check in checks), sum(check.compared for check in checks)
    made_again = f", {compared} made again from the target" if compared else ""
    wrong = sum(True for image in found.images for _ in image.failures())
    verdict = f"{wrong} wrong" if wrong else "all right"
    return [*lines, f"{len(checks)} layers, {size(read)} read{made_again}: {verdict}."]


def about(found: Inspection) -> list[str]:
    """An image's name, its platform and date, and its configuration."""
    report = found.to_json()
    lines = [report["ref"], f"{report['platform']}, created {report['created']}"]
    lines += [f"{key}: {json.dumps(value)}" for key, value in sorted(report["config"].items())]
    return lines


def inspection(found: Inspection, weights: Weights, width: int) -> list[str]:
    """An image's layers, bottom first, and where those were read, their largest items.

    Those of a base say so.
    """
    below = found.image.base_layers
    rows = [("layer", "contents", "size", "unpacked", "digest")]
    for number, layer in enumerate(found.image.layers, 1):
        unpacked = layer.uncompressed_size
        rows.append(
            (
                f"base {number}" if number <= below else str(number),
                _held(layer, width),
                size(layer.descriptor.size),
                "" if unpacked is None else size(unpacked),
                f"{layer.descriptor.digest.algorithm}:{layer.descriptor.digest.short}",
            )
        )
        weighed = list(weights.get(layer.descriptor.digest, {}).items())
        for path, count in weighed[:_ITEMS]:
            rows.append(("", f"  {cut_label(path, _contents(width))}", "", size(count), ""))
        if rest := weighed[_ITEMS:]:
            count = sum(count for _, count in rest)
            rows.append(("", f"  and {len(rest)} more", "", size(count), ""))
    return _aligned(rows, "rlrrl", width)


def sharing(found: Sequence[Inspection], width: int) -> list[str]:
    """What several images have in common: each, every two, and layer by layer."""
    from regpush.commands.sharing import Sharing

    shared = Sharing.of([one.image for one in found])
    images = [("", "image", "platform", "size", "shared", "only here")]
    for number, one in enumerate(found):
        whole, own = shared.size(number), shared.own(number)
        where = str(one.image.platform)
        row = (str(one.reference), where, size(whole), size(whole - own), size(own))
        images.append((str(number + 1), *row))
    pairs = [("images", "in both", "only in the first", "only in the second")]
    for pair in shared.pairs():
        named = f"{pair.first + 1} and {pair.second + 1}"
        only = size(pair.only_first), size(pair.only_second)
        pairs.append((named, size(pair.shared), *only))
    layers = [("contents", "size", "in", "digest")]
    for held in shared.layers:
        digest = held.layer.descriptor.digest
        layers.append(
            (
                _held(held.layer, width),
                size(held.layer.descriptor.size),
                ", ".join(str(number + 1) for number in held.holders),
                f"{digest.algorithm}:{digest.short}",
            )
        )
    each = sum(shared.size(number) for number in range(len(found)))
    return [
        *_aligned(images, "rllrrr", width),
        "",
        *_aligned(pairs, "lrrr", width),
        "",
        *_aligned(layers, "lrll", width),
        "",
        f"Together {size(shared.total)}; each by itself {size(each)}.",
    ]


def tags(found: Sequence[Tag], width: int) -> list[str]:
    """A line for each tag: digest, platforms, size and date, or what is wrong with it."""
    rows = [("tag", "digest", "platforms", "size", "created")]
    for one in found:
        digest = f"{one.digest.algorithm}:{one.digest.short}" if one.digest else "-"
        about = ", ".join(one.platforms) or one.problem
        rows.append((one.name, digest, about, size(one.size) if one.size else "-", _day(one)))
    return _aligned(rows, "lllrl", width) if found else ["no tags"]


def _day(tag: Tag) -> str:
    """The date; none for the fixed one that reproducible images have."""
    return "-" if tag.created < "1981" else tag.created[:10]


def _held(layer: Layer, width: int) -> str:
    """What a layer says that is in it."""
    return cut_label(label_of_paths(layer.contents), _contents(width))


def attached(found: Inspection) -> list[str]:
    """What refers to an image, and to the index that it was found in, a line each."""
    lines = [f"attached: {_artifact(one)}" for one in found.referrers]
    if found.index:
        lines += [f"attached to the index: {_artifact(one)}" for one in found.index.referrers]
    return lines


def attached_to_several(found: Sequence[Inspection]) -> list[str]:
    """What refers to images, by their numbers in `sharing`, and to the indexes of them."""
    lines = [
        f"attached to {number}: {_artifact(referrer)}"
        for number, one in enumerate(found, 1)
        for referrer in one.referrers
    ]
    indexes = {one.index.digest: (one.reference, one.index) for one in found if one.index}
    lines += [
        f"attached to the index {reference}: {_artifact(referrer)}"
        for reference, index in indexes.values()
        for referrer in index.referrers
    ]
    return ["", *lines] if lines else []


def _artifact(referrer: Referrer) -> str:
    return f"{referrer.artifact_type or 'an artifact'} {referrer.descriptor.digest}"


def _aligned(rows: Sequence[tuple[str, ...]], sides: str, width: int) -> list[str]:
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
