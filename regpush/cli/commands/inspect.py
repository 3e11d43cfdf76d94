"""`regpush inspect`: show the layers of images, and which layers several images share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from regpush.cli.access import AccessFlags
from regpush.cli.columns import aligned, contents_of, contents_width, short, size
from regpush.cli.connection import PlatformFlag, access, connected, platform_of
from regpush.cli.console import width, write_file
from regpush.cli.fitting import cut_label
from regpush.cli.flags import Format, with_flags
from regpush.cli.page import page
from regpush.cli.present import OnStdout, Presenter
from regpush.commands import inspect as inspecting
from regpush.commands.inspect import Inspection
from regpush.commands.sharing import Sharing
from regpush.commands.weights import Weights, weigh_image
from regpush.reference import Reference
from regpush.registry.referrers import Referrer

_ITEMS = 10
"""Maximum number of items that are listed for a layer, largest first."""


@with_flags
def inspect(
    flags: AccessFlags,
    references: Annotated[list[str], typer.Argument(metavar="REF...", show_default=False)],
    platform: PlatformFlag = None,
    html: Annotated[
        str | None,
        typer.Option(
            "--html", help="Also write an HTML page with a treemap to this file.", metavar="FILE"
        ),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Read every layer, and show the sizes of the items in it."),
    ] = False,
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Show the layers of an image in a registry, or the layers that several images share.

    For an index without --platform, all its images are shown.
    """
    options, wanted = access(flags), platform_of(platform)
    parsed = [Reference.parse(text) for text in references]
    if html:
        write_file(html, "a", "")  # fails before the images are read
    weights: Weights = {}
    with connected(options, flags.voice) as at:
        found: list[Inspection] = []
        for one in parsed:
            repository = at.repository(one)
            images = inspecting.inspect_each(one, repository, wanted)
            found += inspecting.with_referrers(images, repository)
            for image in images if deep else ():
                more = weigh_image(image.image, repository, options.jobs, weights, at.cancel)
                weights = {**weights, **more}
    if html:
        write_file(html, "w", page(found, weights))
    Presenter(format).result(_report(found, weights), lambda: _lines(found, weights, width()))


def _report(found: Sequence[Inspection], weights: Weights) -> Mapping[str, Any]:
    """Return the JSON report of one image, or of several images and the layers they share.

    `weights`: sizes of items, empty without `--deep`.
    """
    reports = []
    for one in found:
        report = dict(one.to_json())
        if weights:
            report["layers"] = [
                {**told, "item_sizes": dict(weights[layer.descriptor.digest])}
                for told, layer in zip(report["layers"], one.image.layers, strict=True)
            ]
        reports.append(report)
    if len(reports) == 1:
        return reports[0]
    shared = Sharing.of([one.image for one in found]).to_json()
    return {"schema": 1, "images": reports, "shared": shared}


def _lines(found: Sequence[Inspection], weights: Weights, width: int) -> list[str]:
    if len(found) > 1:
        return [*_sharing(found, width), *_attached_to_several(found)]
    (one,) = found
    return [*_about(one), *_attached(one), "", *_layers(one, weights, width)]


def _attached(found: Inspection) -> list[str]:
    """Return a line for each referrer of an image, and of the index that lists the image."""
    lines = [f"attached: {_artifact(one)}" for one in found.referrers]
    if found.index:
        lines += [f"attached to the index: {_artifact(one)}" for one in found.index.referrers]
    return lines


def _attached_to_several(found: Sequence[Inspection]) -> list[str]:
    """Return a line for each referrer of several images, and of their indexes.

    Images are numbered from 1, as in the tables of `_sharing`.
    """
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


def _about(found: Inspection) -> list[str]:
    """Return lines about an image: reference, platform, creation date and run configuration."""
    report = found.to_json()
    created = f", created {found.created}" if found.created else ""
    lines = [report["ref"], f"{report['platform']}{created}"]
    lines += [f"{key}: {json.dumps(value)}" for key, value in sorted(report["config"].items())]
    return lines


def _layers(found: Inspection, weights: Weights, width: int) -> list[str]:
    """Return a table of an image's layers, lowest first; layers of the base are called `base N`.

    The items of a layer in `weights` follow in rows below the layer: the ten largest, and one row
    for the others.
    """
    below = found.image.base_layers
    rows = [("layer", "contents", "size", "unpacked", "digest")]
    for number, layer in enumerate(found.image.layers, 1):
        unpacked = layer.uncompressed_size
        rows.append(
            (
                f"base {number}" if number <= below else str(number),
                contents_of(layer, width),
                size(layer.descriptor.size),
                "" if unpacked is None else size(unpacked),
                short(layer.descriptor.digest),
            )
        )
        weighed = list(weights.get(layer.descriptor.digest, {}).items())
        for path, count in weighed[:_ITEMS]:
            rows.append(("", f"  {cut_label(path, contents_width(width))}", "", size(count), ""))
        if rest := weighed[_ITEMS:]:
            count = sum(count for _, count in rest)
            rows.append(("", f"  and {len(rest)} more", "", size(count), ""))
    return aligned(rows, "rlrrl", width)


def _sharing(found: Sequence[Inspection], width: int) -> list[str]:
    """Return three tables about several images: their sizes, shared bytes of each pair, layers."""
    shared = Sharing.of([one.image for one in found])
    images = [("", "image", "platform", "size", "shared", "only here")]
    for number, image in enumerate(found):
        whole, own = shared.size(number), shared.own(number)
        where = str(image.image.platform)
        row = (str(image.reference), where, size(whole), size(whole - own), size(own))
        images.append((str(number + 1), *row))
    pairs = [("images", "in both", "only in the first", "only in the second")]
    for pair in shared.pairs():
        named = f"{pair.first + 1} and {pair.second + 1}"
        only = size(pair.only_first), size(pair.only_second)
        pairs.append((named, size(pair.shared), *only))
    layers = [("contents", "size", "in", "digest")]
    for one in shared.layers:
        digest = one.layer.descriptor.digest
        layers.append(
            (
                contents_of(one.layer, width),
                size(one.layer.descriptor.size),
                ", ".join(str(number + 1) for number in one.holders),
                short(digest),
            )
        )
    each = sum(shared.size(number) for number in range(len(found)))
    return [
        *aligned(images, "rllrrr", width),
        "",
        *aligned(pairs, "lrrr", width),
        "",
        *aligned(layers, "lrll", width),
        "",
        f"All layers, each once: {size(shared.total)}; without sharing: {size(each)}.",
    ]
