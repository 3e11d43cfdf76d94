"""The commands that bring a registry of their own, on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from regpush.cli.console import note, print_lines, stoppable, width


def serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 5000,
    directory: Annotated[
        str, typer.Option("--dir", help="Where blobs and manifests are kept.")
    ] = "./registry",
) -> None:
    """Run a registry for development on this machine, until Ctrl-C."""
    from regpush import embedded

    embedded.serve(directory, port=port, ready=lambda host: note(f"serving on http://{host}"))


def demo() -> None:
    """Push a sample app twice to a registry of its own, and show what crossed the network."""
    from regpush.cli import demo as demonstration

    with stoppable() as cancel:
        demonstration.run(print_lines, width(), cancel)
