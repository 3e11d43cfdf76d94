"""`regpush sbom`: print the SBOM that is attached to an image."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from regpush.attach import sbom as sboms
from regpush.cli.access import AccessFlags
from regpush.cli.connection import PlatformFlag, access, connected, platform_of
from regpush.cli.console import print_document
from regpush.cli.flags import with_flags
from regpush.commands.inspect import inspect
from regpush.options import Sbom
from regpush.reference import Reference


class SbomFormat(StrEnum):
    """The SBOM formats that `--format` accepts; `none` of `regpush.options.Sbom` is not one."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"


@with_flags
def sbom(
    flags: AccessFlags,
    reference: Annotated[str, typer.Argument(metavar="REF", show_default=False)],
    platform: PlatformFlag = None,
    format: Annotated[  # noqa: A002  the flag's name
        SbomFormat | None,
        typer.Option(
            help="Format of the SBOM to print. Default: the SBOM attached last, in any format.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print the SBOM that is attached to an image (`regpush TARGET --sbom`)."""
    options, parsed = access(flags), Reference.parse(reference)
    with connected(options, flags.voice) as at:
        repository = at.repository(parsed)
        image = inspect(parsed, repository, platform_of(platform)).image
        wanted = Sbom(format.value) if format else None
        found = sboms.attached(repository, image.descriptor.digest, wanted)
    print_document(found.data)
