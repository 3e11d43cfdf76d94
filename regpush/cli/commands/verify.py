"""`regpush verify`: check that a registry holds an image as it was pushed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import typer

from regpush.cli.access import AccessFlags
from regpush.cli.columns import aligned, contents_of, size
from regpush.cli.connection import Connection, PlatformFlag, access, connected, platform_of
from regpush.cli.console import width
from regpush.cli.flags import Format, with_flags
from regpush.cli.present import OnStdout, Presenter
from regpush.cli.target import TargetFlags
from regpush.commands import rederive
from regpush.commands import verify as verifying
from regpush.commands.inspect import inspect_each
from regpush.errors import UsageError, plural
from regpush.image.image import Image
from regpush.options import SourceOptions
from regpush.reference import Reference
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop
from regpush.transfer.base import Bases


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class VerifyFlags(TargetFlags, AccessFlags):
    """The flags about the target, and the flags for access to the registry."""


@with_flags
def verify(
    flags: VerifyFlags,
    reference: Annotated[str, typer.Argument(metavar="REF", show_default=False)],
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET]...",
            help="Targets of the push: their layers are packed again and compared. Flags that "
            "decide layers (--root-dir, -S, --chown …) must be those of the push.",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        str, typer.Option("--sample", help="Percentage of the layers to read, such as 5%.")
    ] = "100%",
    seed: Annotated[
        str,
        typer.Option("--seed", help="Any text; the same text selects the same sample of layers."),
    ] = "",
    platform: PlatformFlag = None,
    jobs: Annotated[
        int,
        typer.Option(
            "-j", "--jobs", help="Number of layers to read at the same time.", min=1, max=64
        ),
    ] = 4,
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Check that a registry holds an image as it was pushed: blobs, diff IDs and recipes.

    Every blob, or a sample of them, is read and hashed, compressed and uncompressed; nothing is
    stored. A mismatch is exit code 8 and names the layer.
    """
    chosen = verifying.Sample.parse(sample, seed)
    options = replace(access(flags), jobs=jobs)
    parsed, wanted = Reference.parse(reference), platform_of(platform)
    with connected(options, flags.voice) as at:
        repository = at.repository(parsed)
        found = inspect_each(parsed, repository, wanted)
        if targets and len(found) > 1:
            raise UsageError(
                f"{reference} is an index of several platforms; choose the image to compare with "
                f"the target, such as --platform {found[0].image.platform}"
            )
        check = partial(
            verifying.verify, found, repository, sample=chosen, jobs=jobs, cancel=at.cancel
        )
        if targets:
            with _made_again(targets, flags, found[0].image, at) as sources:
                done = check(sources)
        else:
            done = check(None)
    Presenter(format).result(done.to_json(), lambda: _table(done, width()))
    done.raise_failures()


@contextmanager
def _made_again(
    targets: list[str], flags: VerifyFlags, image: Image, at: Connection
) -> Iterator[rederive.Sources]:
    """Yield the items of `targets` as a push with these flags packs them, to check `image`."""
    source = _as_pushed(flags.source(), image)
    around = Surroundings(
        settings=at.settings,
        registry=at.options,
        cache=True,
        base=Bases(at.client, source.base).facts,
    )
    with (
        Workshop(at.notify, at.cancel) as workshop,
        rederive.from_targets(
            targets,
            source,
            flags.additions(),
            at.settings.stores,
            image.platform,
            workshop,
            around,
        ) as sources,
    ):
        yield sources


def _as_pushed(source: SourceOptions, image: Image) -> SourceOptions:
    """Return `source` with the base that `image` names, or with no base if it names none.

    The layers that a push makes differ with and without a base image.
    """
    base = image.ancestor.name if image.ancestor and image.base_layers else None
    return replace(source, base=base, bare=base is None)


def _table(found: verifying.Verification, width: int) -> list[str]:
    """Return lines for each image: a table of its layers, lowest first, and its problems."""
    lines: list[str] = []
    for image in found.images:
        rows: list[tuple[str, ...]] = [("layer", "contents", "size", "checked", "result")]
        for check in image.layers:
            words = ["read" if check.read else "exists", *(["compared"] * check.compared)]
            result = "wrong" if check.problems else "; ".join(("right", *check.remarks))
            rows.append(
                (
                    str(check.number),
                    contents_of(check.layer, width),
                    size(check.layer.descriptor.size),
                    ", ".join(words),
                    result,
                )
            )
        lines += [f"{image.ref}, {image.image.platform}", *aligned(rows, "rlrll", width)]
        lines += [f"wrong: {problem}" for problem in image.failures()]
        lines.append("")
    checks = [check for image in found.images for check in image.layers]
    read, compared = sum(check.read for check in checks), sum(check.compared for check in checks)
    made_again = f", {compared} packed again from the target" if compared else ""
    wrong = sum(True for image in found.images for _ in image.failures())
    verdict = f"{wrong} wrong" if wrong else "all right"
    return [*lines, f"{plural(len(checks), 'layer')}, {size(read)} read{made_again}: {verdict}."]
