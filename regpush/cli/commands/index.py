"""`regpush index`: push one index of images for several platforms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from regpush.cli import table
from regpush.cli.access import option
from regpush.cli.columns import size
from regpush.cli.connection import sending
from regpush.cli.flags import SendingFlags, with_flags
from regpush.cli.present import sent
from regpush.cli.target import pairs
from regpush.commands import join
from regpush.report import PushResult


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class IndexFlags(SendingFlags):
    """The flag for annotations of the index, and the flags of `SendingFlags`."""

    annotation: Annotated[
        list[str],
        option("The index", "An annotation of the index; repeatable.", "-a", "--annotation",
               metavar="KEY=VALUE"),
    ] = field(default_factory=list)  # fmt: skip


@with_flags
def index(
    flags: IndexFlags,
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="Destination of the index.", show_default=False)
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="An image or index: REPOSITORY@DIGEST, or a digest or tag in REF's repository.",
            show_default=False,
        ),
    ],
) -> None:
    """Push one index of images for several platforms, which CI runners pushed by digest.

    Platforms are read from the images. An index among the IMAGEs adds all its images. Images of
    other repositories are copied. Tags move once the repository holds all images.
    """
    annotations = pairs("--annotation", flags.annotation)
    with sending(flags) as at:
        result = join.unite(
            reference,
            images,
            annotations=annotations,
            settings=at.settings,
            options=at.options,
            notify=at.notify,
            cancel=at.cancel,
        )
    sent(result.to_json(), _lines(result), flags)


def _lines(result: PushResult) -> list[str]:
    """Return a line for each image of the index, and the sentence about the bytes sent."""
    lines = [f"{image.platform}  {image.digest}" for image in result.images]
    return [*lines, table.sent(result, size(result.uploaded_bytes), 0, "")]
