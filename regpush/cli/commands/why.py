"""`regpush why`: explain which package caused each upload between two images."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from regpush.cli.access import AccessFlags
from regpush.cli.columns import aligned, contents_width, size
from regpush.cli.connection import PlatformFlag, access, connected, platform_of
from regpush.cli.console import width
from regpush.cli.fitting import cut_label
from regpush.cli.flags import Format, Progress, with_flags
from regpush.cli.present import OnStdout, Presenter
from regpush.commands.inspect import inspect
from regpush.errors import UsageError, plural, printable
from regpush.history import comparison
from regpush.history.comparison import Comparison
from regpush.platform import has_placeholders
from regpush.reference import Reference
from regpush.sources import prefixes


@with_flags
def why(
    flags: AccessFlags,
    old: Annotated[str, typer.Argument(metavar="OLD", help="An image.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="A later image.", show_default=False)],
    platform: PlatformFlag = None,
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Explain which package caused each upload between two images of a registry."""
    if _is_target(new):
        raise UsageError(
            f"why compares two images, and {printable(new)} is a target: "
            f"regpush plan {printable(new)} --to {printable(old)} shows what a push would send"
        )
    options, wanted = access(flags), platform_of(platform)
    with connected(options, flags.voice, Progress.AUTO) as at:
        before, after = (
            inspect(one, at.repository(one), wanted).image
            for one in map(Reference.parse, (old, new))
        )
    found = comparison.of_images(before, after)
    Presenter(format).result(found.to_json(), lambda: _table(found, width()))


def _is_target(text: str) -> bool:
    # A path counts as a target even if it does not exist here: a binary cache may hold the store
    # path.
    named = text.partition(":")[0] in prefixes.names() or text.startswith(("/", "./", "../"))
    return named or os.path.lexists(text) or has_placeholders(text)


def _table(found: Comparison, width: int) -> list[str]:
    """Return two tables: bytes by cause, and the layers that are not in the old image.

    Layers are listed lowest first.
    """
    total = sum(layer.size for layer in found.layers)
    gone = len(found.layers)
    shown = plural(gone, "layer")
    head = f"{size(total)} in {shown} of {gone + found.reused} are not in the old image."
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
                cut_label(layer.label, contents_width(width)),
                size(layer.size),
                str(layer.changed),
                str(layer.unchanged),
                layer.causes[0] + more,
            )
        )
    return [head, "", *aligned(causes, "rrl", width), "", *aligned(rows, "rlrrrl", width)]
