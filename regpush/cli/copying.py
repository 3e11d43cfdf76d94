"""The commands that make images of images: of the same layers elsewhere, or on another base."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from regpush.cli.access import option
from regpush.cli.console import print_json, print_lines, read_password, stoppable, tell, width
from regpush.cli.flags import Format, SendingFlags, with_flags
from regpush.cli.outcome import check_files, save
from regpush.cli.rendering import Line
from regpush.cli.target import pairs


@with_flags
def copy(
    flags: SendingFlags,
    source: Annotated[
        str, typer.Argument(metavar="REF", help="An image or an index.", show_default=False)
    ],
    to: Annotated[
        str,
        typer.Argument(metavar="REF2", help="Where to. Default tag: REF's.", show_default=False),
    ],
    platform: Annotated[
        str | None, typer.Option("--platform", help="Of an index, this image alone.")
    ] = None,
    referrers: Annotated[
        bool,
        typer.Option("--referrers", help="With signatures, SBOMs and what else refers to it."),
    ] = False,
    cosign_tags: Annotated[
        bool,
        typer.Option(
            "--cosign-tags",
            help="As --referrers, and with the tags .sig, .att and .sbom of older cosign.",
        ),
    ] = False,
) -> None:
    """Copy an image, or an index with all its images, to another repository, byte for byte.

    Blobs are mounted within a registry, and passed from one to the other between two: nothing
    is unpacked or kept here. Flags of access are for REF2; REF is read with stored logins.
    """
    from regpush.cli import table
    from regpush.cli.progress import showing
    from regpush.commands import copy
    from regpush.settings import Settings

    options = flags.sending(read_password(flags.username, flags.password_stdin))
    settings = Settings.from_environ(os.environ)
    check_files(flags)
    along = copy.Along.REFERRERS if referrers else copy.Along.NOTHING
    along = copy.Along.COSIGN_TAGS if cosign_tags else along
    with stoppable() as cancel, showing(flags.progress, flags.voice, sys.stderr) as notify:
        result = copy.copy(
            source,
            to=to,
            platform=platform,
            along=along,
            settings=settings,
            options=options,
            notify=flags.heard(notify),
            cancel=cancel,
        )
    show(result.to_json(), result.ref, [table.copied(result)], flags)


@with_flags
def rebase(
    flags: SendingFlags,
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="An image or an index.", show_default=False)
    ],
    base: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NEWBASE",
            help="What to put it on. Default: the base it names, at its newest.",
            show_default=False,
        ),
    ] = None,
    old_base: Annotated[
        str | None,
        typer.Option(
            "--old-base", metavar="REF", help="What it stands on, where it does not say so."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it takes.")] = False,
) -> None:
    """Put an image on another base, without its sources: its own layers stay as they are.

    Of an index, each of its images. What of the configuration the image had from its old base
    it gets from the new one. Flags of access are for REF; bases are read with stored logins.
    """
    from regpush.cli import table
    from regpush.cli.progress import showing
    from regpush.commands import rebase as rebasing
    from regpush.report import Tense
    from regpush.settings import Settings

    options = flags.sending(read_password(flags.username, flags.password_stdin))
    settings = Settings.from_environ(os.environ)
    check_files(flags)
    with stoppable() as cancel, showing(flags.progress, flags.voice, sys.stderr) as notify:
        result = rebasing.rebase(
            reference,
            onto=base,
            old=old_base,
            tense=Tense.PLANNED if dry_run else Tense.DONE,
            settings=settings,
            options=options,
            notify=flags.heard(notify),
            cancel=cancel,
        )
    rows = table.styled(table.changes(result, width()))
    show(result.to_json(), result.ref, [*rows, table.summary(result)], flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFlags(SendingFlags):
    """What is said of an index as well."""

    annotation: Annotated[
        list[str],
        option("The index", "Of the index; repeatable.", "-a", "--annotation",
               metavar="KEY=VALUE"),
    ] = field(default_factory=list)  # fmt: skip


@with_flags
def index(
    flags: IndexFlags,
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="Where the index goes.", show_default=False)
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="What it is of: REPOSITORY@DIGEST, or a digest or tag in REF's repository.",
            show_default=False,
        ),
    ],
) -> None:
    """Join images for several platforms, which runners pushed by digest, under one index.

    Platforms are read from the images; an index stands for those in it. Images of other
    repositories are copied. Tags move when all are there.
    """
    from regpush.cli import table
    from regpush.cli.progress import showing
    from regpush.commands import join as union
    from regpush.settings import Settings

    options = flags.sending(read_password(flags.username, flags.password_stdin))
    annotations = pairs("--annotation", flags.annotation)
    settings = Settings.from_environ(os.environ)
    check_files(flags)
    with stoppable() as cancel, showing(flags.progress, flags.voice, sys.stderr) as notify:
        result = union.unite(
            reference,
            images,
            annotations=annotations,
            settings=settings,
            options=options,
            notify=flags.heard(notify),
            cancel=cancel,
        )
    show(result.to_json(), result.ref, table.united(result), flags)


def show(report: Mapping[str, Any], ref: str, summary: Sequence[Line], flags: SendingFlags) -> None:
    """The outcome, in the files that were asked for, on stderr and on stdout."""
    save(report, flags)
    if flags.sums_up:
        tell(*summary)
    if flags.format is Format.JSON:
        print_json(report)
    else:
        print_lines(ref)
