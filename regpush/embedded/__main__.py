"""`python -m regpush.embedded --dir DIR [--port PORT]`: the registry alone, with a request log."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

from regpush.embedded.server import serve
from regpush.errors import RegpushError
from regpush.quantities import parse_size


def main() -> int:
    """Serve until a signal arrives. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m regpush.embedded")
    parser.add_argument("--dir", type=Path, required=True, help="where blobs and tags are kept")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000, help="0 takes a free one")
    parser.add_argument("--host", action="append", default=[], help="a name to answer to")
    parser.add_argument("--max-size", type=parse_size, help="of all blobs, such as 10GB")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        serve(
            arguments.dir,
            address=arguments.address,
            port=arguments.port,
            hosts=arguments.host,
            max_size=arguments.max_size,
            ready=lambda host: logging.info("listening on http://%s", host),
        )
    except RegpushError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
