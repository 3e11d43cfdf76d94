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

    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  stays open to the end
        else:
            # Names on disk, and the table's own signs, may be more than the terminal can say.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:], os.environ))
