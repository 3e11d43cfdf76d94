"""The command line: the only place that reads argv, terminals, clocks and signals."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """The `regpush` program."""
    if sys.argv[1:] == ["--version"]:
        # Answered before anything is imported: scripts ask this often.
        from regpush import __version__

        sys.stdout.write(f"regpush {__version__}\n")
        return
    from regpush.cli.app import run

    sys.exit(run(sys.argv[1:], os.environ))
