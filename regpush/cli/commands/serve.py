"""`regpush serve`: run a registry for development on this machine."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from regpush import embedded
from regpush.cli.console import interruptible, note
from regpush.errors import printable
from regpush.quantities import parse_size

_COLLECTED_AFTER = (700, 10, 10)
"""Python's own limits of new objects and collections, after which garbage is collected."""


def serve(
    port: Annotated[
        int, typer.Option(help="Port to listen on at 127.0.0.1; 0 chooses a free port.")
    ] = 5000,
    directory: Annotated[
        str, typer.Option("--dir", help="Directory that stores blobs and manifests.")
    ] = "./registry",
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Also accept requests to host NAME, such as host.docker.internal. Default: only "
            "IP addresses and localhost, so that no web page can write here.",
        ),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Maximum size of all blobs together, such as 10GB."),
    ] = None,
) -> None:
    """Run a registry for development on this machine, until Ctrl-C."""
    # Each connection leaves a kilobyte of garbage. `main` sets limits for commands that end soon.
    gc.set_threshold(*_COLLECTED_AFTER)
    with interruptible(f"stopped; {printable(directory)} keeps what was pushed"):
        embedded.serve(
            directory,
            port=port,
            hosts=host or (),
            max_size=None if max_size is None else parse_size(max_size),
            ready=lambda where: note(f"serving on http://{where}"),
        )
