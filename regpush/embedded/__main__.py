"""`python -m regpush.embedded`: the registry in a process of its own."""

from __future__ import annotations

import argparse
import sys

from regpush.errors import RegpushError


def main() -> int:
    """Serve until a signal comes; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m regpush.embedded")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    options = parser.parse_args()
    try:
        from regpush.embedded.server import serve

        serve(options.dir, options.host, options.port, _announce)
    except RegpushError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _announce(address: str) -> None:
    sys.stdout.write(f"listening on http://{address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
