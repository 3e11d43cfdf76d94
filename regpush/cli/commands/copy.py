"""`regpush copy`: copy an image to another repository, byte for byte."""

from __future__ import annotations

from typing import Annotated

import typer

from regpush.cli import table
from regpush.cli.columns import size
from regpush.cli.connection import sending
from regpush.cli.flags import SendingFlags, with_flags
from regpush.cli.present import sent
from regpush.commands import copy as copying
from regpush.commands.copy import CopyResult
from regpush.events import Action
from regpush.report import Tense


@with_flags
def copy(
    flags: SendingFlags,
    source: Annotated[
        str, typer.Argument(metavar="REF", help="An image or an index.", show_default=False)
    ],
    to: Annotated[
        str,
        typer.Argument(
            metavar="REF2",
            help="Destination: registry/repository[:tag]. Default: the tag of REF.",
            show_default=False,
        ),
    ],
    platform: Annotated[
        str | None,
        typer.Option("--platform", help="Of an index, copy only the image for this platform."),
    ] = None,
    referrers: Annotated[
        bool,
        typer.Option("--referrers", help="Also copy signatures, SBOMs and other referrers."),
    ] = False,
    cosign_tags: Annotated[
        bool,
        typer.Option(
            "--cosign-tags",
            help="Like --referrers, and also copy the tags .sig, .att and .sbom of older cosign.",
        ),
    ] = False,
) -> None:
    """Copy an image, or an index with all its images, to another repository, byte for byte.

    Within one registry blobs are mounted; between two they are streamed. Nothing is unpacked or
    stored here. Access flags apply to REF2; REF is read with stored logins.
    """
    along = copying.Along.REFERRERS if referrers else copying.Along.NOTHING
    along = copying.Along.COSIGN_TAGS if cosign_tags else along
    with sending(flags) as at:
        result = copying.copy(
            source,
            to=to,
            platform=platform,
            along=along,
            settings=at.settings,
            options=at.options,
            notify=at.notify,
            cancel=at.cancel,
        )
    sent(result.to_json(), [copied(result)], flags)


def copied(result: CopyResult) -> str:
    """Return the sentence about the bytes that a copy sent and saved."""
    saved = result.bytes_of(Action.REUSED) + result.bytes_of(Action.MOUNTED)
    actions = [one.action for one in result.blobs]
    return table.sent(
        result,
        size(result.uploaded_bytes),
        saved,
        table.counts_of(actions, Tense.DONE) or "nothing was missing",
    )
