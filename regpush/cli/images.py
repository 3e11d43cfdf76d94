"""The commands that look at images in a registry: what they hold, and whether it is right."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regpush.cli.access import AccessFlags
from regpush.cli.console import (
    OnStdout,
    print_json,
    print_lines,
    read_password,
    stoppable,
    width,
    write_file,
)
from regpush.cli.flags import Format, Progress, with_flags
from regpush.cli.target import TargetFlags
from regpush.errors import UsageError

if TYPE_CHECKING:
    from regpush.commands.inspect import Inspection
    from regpush.commands.weights import Weights
    from regpush.concurrency import Cancellation
    from regpush.events import Listener
    from regpush.image.image import Image
    from regpush.options import RegistryOptions, SourceOptions
    from regpush.platform import Platform
    from regpush.registry.client import Client
    from regpush.settings import Settings

Reference = Annotated[str, typer.Argument(metavar="REF", show_default=False)]
PlatformFlag = Annotated[str | None, typer.Option("--platform", help="Which image of several.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyFlags(TargetFlags, AccessFlags):
    """What was said to `verify`, as text."""


@contextmanager
def _client(
    options: RegistryOptions, settings: Settings, notify: Listener
) -> Iterator[tuple[Client, Cancellation]]:
    from regpush.registry.client import Client

    with stoppable() as cancel, Client(options, settings, notify=notify, cancel=cancel) as client:
        yield client, cancel


@with_flags
def inspect(
    flags: AccessFlags,
    references: Annotated[list[str], typer.Argument(metavar="REF...", show_default=False)],
    platform: PlatformFlag = None,
    html: Annotated[
        str | None,
        typer.Option("--html", help="Write a page with a picture here as well.", metavar="FILE"),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Read every layer, to know how much of it each item takes."),
    ] = False,
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Show what an image in a registry holds, layer by layer, or what several of them share.

    Of an index without --platform, all its images.
    """
    from regpush.cli import table
    from regpush.cli.progress import showing
    from regpush.commands import inspect as inspecting
    from regpush.commands.weights import weigh_image
    from regpush.reference import Reference
    from regpush.registry.client import Access
    from regpush.settings import Settings

    options = flags.access(read_password(flags.username, flags.password_stdin))
    wanted = _platform(platform)
    parsed = [Reference.parse(text) for text in references]
    if html:
        write_file(html, "a", "")  # better refused before than after
    weights: Weights = {}
    with (
        showing(Progress.NONE, flags.voice, sys.stderr) as notify,
        _client(options, Settings.from_environ(os.environ), notify) as (client, cancel),
    ):
        found = []
        for one in parsed:
            repository = client.repository(one, Access.PULL)
            images = inspecting.inspect_each(one, repository, wanted)
            found += inspecting.with_referrers(images, repository)
            for image in images if deep else ():
                more = weigh_image(image.image, repository, options.jobs, weights, cancel)
                weights = {**weights, **more}
    if html:
        from regpush.cli.page import page

        write_file(html, "w", page(found, weights))
    if format is Format.JSON:
        print_json(_report(found, weights))
    elif len(found) > 1:
        print_lines(*table.sharing(found, width()), *table.attached_to_several(found))
    else:
        layers = table.inspection(found[0], weights, width())
        about = [*table.about(found[0]), *table.attached(found[0])]
        print_lines(*about, "", *layers)


def _report(found: Sequence[Inspection], weights: Weights) -> Mapping[str, Any]:
    """The JSON of one image, or of several and what they share."""
    from regpush.commands.sharing import Sharing

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


@with_flags
def verify(
    flags: VerifyFlags,
    reference: Reference,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET]...",
            help="What it was pushed from: layers are made again and compared. Flags that decide "
            "what is in them (--root-dir, -S, --chown …) must be those of the push.",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        str, typer.Option("--sample", help="The share of layers to read, such as 5%.")
    ] = "100%",
    seed: Annotated[str, typer.Option("--seed", help="Any word, for another sample.")] = "",
    platform: PlatformFlag = None,
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", help="Layers read at a time.", min=1, max=64)
    ] = 4,
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Check that a registry holds an image as it was pushed: blobs, diff IDs and recipes.

    Every blob is read and hashed, packed and unpacked; nothing is stored. Exit code 8 and the
    layer, where something is wrong.
    """
    from regpush.cli import table
    from regpush.cli.progress import showing
    from regpush.commands import rederive
    from regpush.commands import verify as verifying
    from regpush.commands.inspect import inspect_each
    from regpush.flow.bases import Bases
    from regpush.reference import Reference
    from regpush.registry.client import Access
    from regpush.settings import Settings
    from regpush.sources.surroundings import Surroundings
    from regpush.sources.tools import Workshop

    chosen = verifying.Sample.parse(sample, seed)
    options = replace(flags.access(read_password(flags.username, flags.password_stdin)), jobs=jobs)
    parsed, wanted = Reference.parse(reference), _platform(platform)
    settings = Settings.from_environ(os.environ)
    with (
        showing(Progress.NONE, flags.voice, sys.stderr) as notify,
        _client(options, settings, notify) as (client, cancel),
    ):
        repository = client.repository(parsed, Access.PULL)
        found = inspect_each(parsed, repository, wanted)
        if targets and len(found) > 1:
            raise UsageError(
                f"{reference} is an image for several platforms, and a target is for one: "
                f"say which, --platform {found[0].image.platform}"
            )
        check = partial(
            verifying.verify, found, repository, sample=chosen, jobs=jobs, cancel=cancel
        )
        if targets:
            source = _as_pushed(flags.source(), found[0].image)
            with (
                Workshop(notify, cancel) as workshop,
                rederive.from_targets(
                    targets,
                    source,
                    flags.additions(),
                    settings.stores,
                    found[0].image.platform,
                    workshop,
                    Surroundings(
                        settings=settings,
                        registry=options,
                        cache=True,
                        base=Bases(client, source.base).facts,
                    ),
                ) as sources,
            ):
                done = check(sources)
        else:
            done = check(None)
    if format is Format.JSON:
        print_json(done.to_json())
    else:
        print_lines(*table.verification(done, width()))
    done.raise_failures()


def _as_pushed(source: SourceOptions, image: Image) -> SourceOptions:
    """What goes on a base is not what stands alone; the image says whether it has one."""
    base = image.ancestor.name if image.ancestor and image.base_layers else None
    return replace(source, base=base, bare=base is None)


def _platform(text: str | None) -> Platform | None:
    from regpush.platform import Platform

    return Platform.parse(text) if text else None
