"""The commands that look at images in a registry: what they hold, and whether it is right."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from regpush.cli.access import AccessFlags
from regpush.cli.console import OnStdout, print_line, read_password, stoppable, width
from regpush.cli.flags import Format, Progress, with_flags
from regpush.cli.target import TargetFlags
from regpush.errors import UsageError, printable

if TYPE_CHECKING:
    from regpush.cancel import Cancellation
    from regpush.events import Listener
    from regpush.options import RegistryOptions
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
    reference: Reference,
    platform: PlatformFlag = None,
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Show what an image in a registry holds, layer by layer."""
    from regpush import inspect as inspecting
    from regpush.cli import table
    from regpush.cli.progress import showing
    from regpush.reference import Reference
    from regpush.registry.client import Access
    from regpush.settings import Settings

    options = flags.access(read_password(flags.username, flags.password_stdin))
    parsed, wanted = Reference.parse(reference), _platform(platform)
    with (
        showing(Progress.NONE, flags.voice, sys.stderr) as notify,
        _client(options, Settings.from_environ(os.environ), notify) as (client, _),
    ):
        repository = client.repository(parsed, Access.PULL)
        found = inspecting.with_referrers(
            inspecting.inspect(parsed, repository, wanted), repository
        )
    report = found.to_json()
    if format is Format.JSON:
        print_line(json.dumps(report))
        return
    head = [report["ref"], f"{report['platform']}, created {report['created']}"]
    head += [f"{key}: {json.dumps(value)}" for key, value in sorted(report["config"].items())]
    layers = table.inspection(found, width())
    print_line("\n".join([*map(printable, head), *table.attached(found), "", *layers]))


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
    from regpush import rederive
    from regpush import verify as verifying
    from regpush.cli import table
    from regpush.cli.progress import showing
    from regpush.inspect import inspect_each
    from regpush.reference import Reference
    from regpush.registry.client import Access
    from regpush.settings import Settings
    from regpush.sources import Workshop

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
            with (
                Workshop(notify, cancel) as workshop,
                rederive.from_targets(
                    targets,
                    flags.source(),
                    flags.additions(),
                    settings.stores,
                    found[0].image.platform,
                    workshop,
                ) as sources,
            ):
                done = check(sources)
        else:
            done = check(None)
    if format is Format.JSON:
        print_line(json.dumps(done.to_json()))
    else:
        print_line("\n".join(table.verification(done, width())))
    done.raise_failures()


def _platform(text: str | None) -> Platform | None:
    from regpush.platform import Platform

    return Platform.parse(text) if text else None
