"""Write the HTML page of `regpush inspect --html`: one file, which loads no other."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from regpush.cli.columns import size
from regpush.cli.fitting import cut
from regpush.commands.inspect import Inspection
from regpush.commands.sharing import SharedLayer, Sharing
from regpush.commands.treemap import Box, squarify
from regpush.commands.weights import Weights
from regpush.digest import Digest
from regpush.errors import plural, printable
from regpush.image.image import Layer
from regpush.layering.labels import called

_WIDE, _NARROW = Box(0, 0, 1200, 640), Box(0, 0, 336, 560)
"""The sizes of two versions of the treemap, for large screens and for phones 360 pixels wide. The
style sheet shows one of them. On a phone, letters of the wide version would be 4 pixels high."""
_HUES = 8
_BASE = "base"
_HEAD = 20.0
"""Height of a group's heading above its cells, in units of about a pixel."""
_LINE = 16.0
_LETTER = 7.2
"""Assumed width of a letter at font size 13, a little more than the width of most letters."""
_NUMBERS = (
    "layer", "size", "unpacked", "shared", "only here", "in both", "only in the first",
    "only in the second",
)  # fmt: skip
_SHARE, _DIGEST = "share", "digest"
"""Table columns that phones do not show: a bar, whose heading is empty, and the digest."""
_CELLS = 250
"""Maximum number of cells in a group; one more cell stands for all smaller items."""

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b2127; --soft: #57616b;
  --line: #d5dbe1; --cell-l: 87%; --head-l: 76%; --sat: 58%; --grey: 84%; --bar: #7aa2d6; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181c; --ink: #e9eef3;
  --soft: #a3aeb9; --line: #343c45; --cell-l: 25%; --head-l: 33%; --sat: 32%; --grey: 28%;
  --bar: #4a76ad; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 78rem; background: var(--ground);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.35rem; overflow-wrap: anywhere; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; color: var(--soft); overflow-wrap: anywhere; }
svg.map { display: block; width: 100%; height: auto; margin: 1rem 0; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
svg text.head { font-weight: 600; }
rect { stroke: var(--ground); stroke-width: 1; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.items { overflow-wrap: anywhere; min-width: 14rem; }
code { font: .9em ui-monospace, monospace; }
ul { margin: .3rem 0; padding-left: 1.2rem; }
summary { cursor: pointer; }
.bar { display: block; height: .35rem; border-radius: .2rem; background: var(--bar); }
td.share { width: 9rem; padding-top: .75rem; }
svg.narrow { display: none; }
@media (max-width: 40rem) {
  body { padding: .75rem; }
  svg.wide, .share, .digest { display: none; }
  svg.narrow { display: block; }
  th, td { padding: .3rem .35rem; }
  td.items { min-width: 7rem; }
}
"""


class _Cell(Struct, frozen=True, kw_only=True):
    """A rectangle of the treemap.

    `weight`: bytes, which set its area. `title`: its tooltip. `lines`: its text, of which as much
    is drawn as fits.
    """

    weight: int
    title: str
    lines: tuple[str, ...]


class _Group(Struct, frozen=True, kw_only=True):
    """Cells of the treemap with one colour and a common heading `title`.

    `weight`: bytes, which set the area of the group.
    """

    weight: int
    title: str
    colour: str
    cells: tuple[_Cell, ...]


def page(found: Sequence[Inspection], weights: Weights) -> str:
    """Return an HTML page about one image and its layers, or several images and shared layers.

    `weights`: sizes of the items in layers that were read; empty if no layer was read. Then the
    page shows the sizes of layers and only the names of items.
    """
    body = _one(found[0], weights) if len(found) == 1 else _several(found, weights)
    title = ", ".join(str(one.reference) for one in found)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
            *body,
            "</body></html>\n",
        ]
    )


def _one(found: Inspection, weights: Weights) -> Iterator[str]:
    image, report = found.image, found.to_json()
    total = sum(layer.descriptor.size for layer in image.layers)
    yield f"<h1>{_text(str(found.reference))}</h1>"
    yield f"<p><code>{_text(report['ref'])}</code></p>"
    yield (
        f"<p>{_text(report['platform'])}, created {_text(str(report['created']))}: "
        f"{plural(len(image.layers), 'layer')}, {size(total)} as transferred</p>"
    )
    groups = [
        _layer_group(layer, number, number <= image.base_layers, weights)
        for number, layer in enumerate(image.layers, 1)
    ]
    yield _picture(groups, f"The layers of {found.reference} by size as transferred")
    yield f"<p>{_of_areas(bool(weights))}</p>"
    most = max((layer.descriptor.size for layer in image.layers), default=0)
    yield "<h2>Layers, lowest first</h2>"
    yield _table(
        ("layer", "contents", "size", _SHARE, "unpacked", _DIGEST),
        (
            (
                _number(number),
                _items(layer, weights),
                _bytes(layer.descriptor.size),
                _bar(layer.descriptor.size, most),
                _bytes(layer.uncompressed_size),
                _digest(layer.descriptor.digest),
            )
            for number, layer in enumerate(image.layers, 1)
        ),
    )
    if report["config"]:
        yield "<h2>Configuration</h2>"
        yield _table(
            ("field", "value"),
            (
                (f"<td>{_text(key)}</td>", f"<td><code>{_text(json.dumps(value))}</code></td>")
                for key, value in sorted(report["config"].items())
            ),
        )


def _several(found: Sequence[Inspection], weights: Weights) -> Iterator[str]:
    sharing = Sharing.of([one.image for one in found])
    whole = sum(sharing.size(number) for number in range(len(found)))
    yield f"<h1>What {len(found)} images share</h1>"
    yield (
        f"<p>{size(sharing.total)} to transfer all of them, {size(whole)} to transfer each "
        "alone.</p>"
    )
    by_holders: dict[tuple[int, ...], list[SharedLayer]] = {}
    for one in sharing.layers:
        by_holders.setdefault(one.holders, []).append(one)
    groups = [
        _Group(
            weight=sum(one.layer.descriptor.size for one in layers),
            title=_whose(holders, len(found)),
            colour=str(number % _HUES),
            cells=tuple(_layer_cell(one.layer) for one in layers),
        )
        for number, (holders, layers) in enumerate(by_holders.items())
    ]
    yield _picture(groups, "Layers by the images that have them, by size as transferred")
    yield "<h2>Images</h2>"
    yield _table(
        ("", "image", "platform", "size", "shared", "only here", _DIGEST),
        (
            (
                _number(number + 1),
                f'<td class="items">{_text(str(one.reference))}</td>',
                f"<td>{_text(str(one.image.platform))}</td>",
                _bytes(sharing.size(number)),
                _bytes(sharing.size(number) - sharing.own(number)),
                _bytes(sharing.own(number)),
                _digest(one.image.descriptor.digest),
            )
            for number, one in enumerate(found)
        ),
    )
    yield "<h2>Pairs of images</h2>"
    yield _table(
        ("images", "in both", "only in the first", "only in the second"),
        (
            (
                f"<td>{pair.first + 1} and {pair.second + 1}</td>",
                _bytes(pair.shared),
                _bytes(pair.only_first),
                _bytes(pair.only_second),
            )
            for pair in sharing.pairs()
        ),
    )
    most = max((one.layer.descriptor.size for one in sharing.layers), default=0)
    yield "<h2>Layers</h2>"
    yield _table(
        ("in", "contents", "size", _SHARE, _DIGEST),
        (
            (
                f"<td>{_whose(one.holders, len(found))}</td>",
                _items(one.layer, weights),
                _bytes(one.layer.descriptor.size),
                _bar(one.layer.descriptor.size, most),
                _digest(one.layer.descriptor.digest),
            )
            for one in sharing.layers
        ),
    )


def _whose(holders: Sequence[int], count: int) -> str:
    if len(holders) == count:
        return "in both" if count == 2 else f"in all {count}"
    named = [str(number + 1) for number in holders]
    return f"only in {named[0]}" if len(named) == 1 else f"in {', '.join(named)}"


def _of_areas(weighed: bool) -> str:
    if weighed:
        return (
            "Areas of layers show the bytes transferred; within a layer, areas of items show their "
            "bytes unpacked."
        )
    return (
        "Areas show the bytes transferred. An image does not record the sizes of its items; --deep "
        "reads the layers to measure them."
    )


def _layer_group(layer: Layer, number: int, is_base: bool, weights: Weights) -> _Group:
    weighed = weights.get(layer.descriptor.digest, {})
    about = ", of the base" if is_base else ""
    return _Group(
        weight=layer.descriptor.size,
        title=f"{number} · {size(layer.descriptor.size)}{about}",
        colour=_BASE if is_base else str((number - 1) % _HUES),
        cells=tuple(_cells_of_items(weighed)) if weighed else (_layer_cell(layer),),
    )


def _cells_of_items(weighed: Mapping[str, int]) -> Iterator[_Cell]:
    """Yield a cell for each of the 250 largest items of a layer, and one cell for all others.

    `weighed`: unpacked bytes of each item, by path.
    """
    ordered = sorted(weighed.items(), key=lambda pair: (-pair[1], pair[0]))
    for path, count in ordered[:_CELLS]:
        yield _Cell(
            weight=count,
            title=f"{path}: {size(count)} unpacked",
            lines=(called(path), size(count)),
        )
    if rest := ordered[_CELLS:]:
        count = sum(count for _, count in rest)
        text = f"{len(rest)} more"
        yield _Cell(weight=count, title=f"{text}: {size(count)} unpacked", lines=(text,))


def _layer_cell(layer: Layer) -> _Cell:
    names = [called(path) for path in layer.contents] or ["(contents unknown)"]
    more = [f"and {len(names) - 20} more"] if len(names) > 20 else []
    return _Cell(
        weight=layer.descriptor.size,
        title=f"{size(layer.descriptor.size)}: {', '.join([*names[:20], *more])}",
        lines=tuple(names),
    )


def _picture(groups: Sequence[_Group], title: str) -> str:
    """Return the treemap as two SVG images, for wide and for narrow windows, with their colours."""
    colours = "".join(
        f".c{number} rect{{fill:hsl({hue} var(--sat) var(--cell-l))}}"
        f".c{number} rect.head{{fill:hsl({hue} var(--sat) var(--head-l))}}"
        for number, hue in enumerate((212, 152, 36, 276, 8, 186, 64, 326))
    )
    grey = f".c{_BASE} rect{{fill:hsl(0 0% var(--grey))}}"
    return "\n".join(
        [
            f"<style>{colours}{grey}</style>",
            *_map(groups, title, _WIDE, "wide"),
            *_map(groups, title, _NARROW, "narrow"),
        ]
    )


def _map(groups: Sequence[_Group], title: str, whole: Box, kind: str) -> Iterator[str]:
    largest = sorted((one for one in groups if one.weight), key=lambda one: -one.weight)
    boxes = squarify([one.weight for one in largest], whole)
    yield (
        f'<svg class="map {kind}" viewBox="0 0 {whole.width:g} {whole.height:g}" role="img" '
        f'aria-label="{_text(title)}">'
    )
    for one, box in zip(largest, boxes, strict=True):
        yield from _drawn(one, box)
    yield "</svg>"


def _drawn(group: _Group, box: Box) -> Iterator[str]:
    has_head = box.width > 40 and box.height > 2 * _HEAD
    inner = box.inset(1, _HEAD) if has_head else box.inset(1)
    yield f'<g class="c{group.colour}">'
    yield f"<g><title>{_text(group.title)}</title>{_rect(box, 'head')}</g>"
    if has_head:
        yield _lines(Box(box.x, box.y, box.width, _HEAD), (group.title,), "head")
    cells = sorted(group.cells, key=lambda cell: -cell.weight)
    for cell, place in zip(cells, squarify([cell.weight for cell in cells], inner), strict=True):
        if place.width * place.height >= 1:
            title = _text(f"{group.title}: {cell.title}" if not has_head else cell.title)
            yield f"<g><title>{title}</title>{_rect(place)}{_lines(place, cell.lines)}</g>"
    yield "</g>"


def _rect(box: Box, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return (
        f'<rect{named} x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}"/>'
    )


def _lines(box: Box, lines: Sequence[str], kind: str = "") -> str:
    """Return an SVG element with as many of `lines` as fit into `box`, cut to its width.

    The element is an inner `<svg>`, which clips text that is still too long. Empty if the box is
    too small for one line of four letters.
    """
    letters, room = int((box.width - 10) / _LETTER), int((box.height - 4) / _LINE)
    if letters < 4 or room < 1:
        return ""
    named = f' class="{kind}"' if kind else ""
    shown = list(lines[:room])
    if len(lines) > room > 1:
        shown[-1] = f"and {len(lines) - room + 1} more"
    texts = "".join(
        f'<text{named} x="5" y="{_LINE * (number + 1) - 2:.0f}">'
        f"{_text(cut(printable(line), letters))}</text>"
        for number, line in enumerate(shown)
    )
    return (
        f'<svg x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}">{texts}</svg>'
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(map(_head, heads))
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _head(name: str) -> str:
    kind = "n" if name in _NUMBERS else name if name in (_SHARE, _DIGEST) else ""
    named = f' class="{kind}"' if kind else ""
    return f'<th scope="col"{named}>{"" if name == _SHARE else name}</th>'


def _digest(digest: Digest) -> str:
    return f'<td class="{_DIGEST}"><code>{digest.short}</code></td>'


def _items(layer: Layer, weights: Weights) -> str:
    """Return the table cell of a layer's contents: its first item, which unfolds to all items."""
    weighed = weights.get(layer.descriptor.digest, {})
    paths = list(weighed) or list(layer.contents)
    if not paths:
        return '<td class="items">(contents unknown)</td>'
    first = _text(called(paths[0]))
    if len(paths) == 1 and not weighed:
        return f'<td class="items">{first}</td>'
    listed = "".join(
        f"<li><code>{_text(path)}</code>{f' {size(weighed[path])}' if path in weighed else ''}</li>"
        for path in paths
    )
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return (
        f'<td class="items"><details><summary>{first}{more}</summary>'
        f"<ul>{listed}</ul></details></td>"
    )


def _number(number: int) -> str:
    return f'<td class="n">{number}</td>'


def _bytes(count: int | None) -> str:
    return f'<td class="n">{"" if count is None else size(count)}</td>'


def _bar(count: int, most: int) -> str:
    """Return a table cell with a bar whose length is the fraction `count / most` of the cell."""
    percent = 100 * count / most if most else 0
    width = max(percent, 0.5)
    return f'<td class="{_SHARE}"><span class="bar" style="width:{width:.1f}%"></span></td>'


def _text(text: str) -> str:
    return html.escape(printable(text))
