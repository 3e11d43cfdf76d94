"""`regpush tags`: list the tags of a repository and the image that each names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from regpush.cli.access import AccessFlags
from regpush.cli.columns import aligned, short, size
from regpush.cli.connection import access, connected
from regpush.cli.console import width
from regpush.cli.flags import Format, with_flags
from regpush.cli.present import OnStdout, Presenter
from regpush.commands.tags import Tag, list_tags
from regpush.reference import Reference


@with_flags
def tags(
    flags: AccessFlags,
    reference: Annotated[str, typer.Argument(metavar="REPOSITORY", show_default=False)],
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """List the tags of a repository with digest, platforms, size and date: 1,000 at most.

    To delete tags use the registry's own tools: many registries reject a DELETE, and others delete
    all tags of a digest with it.
    """
    options, parsed = access(flags), Reference.parse(reference)
    with connected(options, flags.voice) as at:
        found = list_tags(at.repository(parsed), at.cancel)
    told = [one.to_json() for one in found.tags]
    about = {"schema": 1, "repository": str(parsed.name), "complete": found.complete}
    Presenter(format).result({**about, "tags": told}, lambda: _table(found.tags, width()))


def _table(found: Sequence[Tag], width: int) -> list[str]:
    """Return a table with a row for each tag: digest, platforms, size, date.

    A tag whose image cannot be read has its problem in place of platforms.
    """
    rows = [("tag", "digest", "platforms", "size", "created")]
    for one in found:
        digest = short(one.digest) if one.digest else "-"
        about = ", ".join(one.platforms) or one.problem
        rows.append((one.name, digest, about, size(one.size) if one.size else "-", _day(one)))
    return aligned(rows, "lllrl", width) if found else ["no tags"]


def _day(tag: Tag) -> str:
    """Return the image's creation date as YYYY-MM-DD.

    `-` for a date before 1981, which is a fixed date of reproducible images.
    """
    return "-" if tag.created < "1981" else tag.created[:10]
