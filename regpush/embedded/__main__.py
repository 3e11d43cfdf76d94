"""`python -m regpush.embedded --dir DIR [--port PORT]`: run the embedded registry, log requests."""

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
    """Serve the directory `--dir` until a signal arrives. Returns the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m regpush.embedded")
    parser.add_argument(
        "--dir", type=Path, required=True, help="directory in which blobs and tags are kept"
    )
    parser.add_argument("--address", default="127.0.0.1", help="IP address to listen on")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on; 0: any free one")
    parser.add_argument(
        "--host", action="append", default=[], help="another host name to answer to; repeatable"
    )
    parser.add_argument(
        "--max-size", type=parse_size, help="maximum size of all blobs together, such as 10GB"
    )
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
