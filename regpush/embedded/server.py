"""Running the registry: in a thread beside other work, or until a signal comes."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from regpush.embedded.storage import Storage
from regpush.errors import RegpushError, UsageError, printable

try:
    import uvicorn

    from regpush.embedded.app import application
except ModuleNotFoundError as error:
    raise UsageError(
        f"the registry needs the package '{error.name}': pip install 'regpush[registry]'"
    ) from error

_LAST_REQUESTS_S = 3  # what still runs at the end may take this long
_START_TIMEOUT_S = 10.0
_POLL_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a running registry listens; `str()` gives `host:port` as references want it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@contextmanager
def running(directory: str, host: str = "127.0.0.1", port: int = 0) -> Iterator[Address]:
    """A registry over `directory`, in a thread, for as long as the `with` lasts.

    Port 0 takes a free one. Raises UsageError where the directory or the port cannot be had.
    """
    with Storage(directory) as storage, _listen(host, port) as listener:
        config = uvicorn.Config(
            application(storage),
            log_config=None,
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_LAST_REQUESTS_S,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, args=([listener],), name="registry", daemon=True
        )
        thread.start()
        try:
            _wait_until_started(server, thread)
            yield Address(host=host, port=listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


def serve(directory: str, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Run a registry until SIGINT or SIGTERM; `ready` is told its `host:port`.

    Call it in the main thread. Raises UsageError as `running` does.
    """
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in signals}
    try:
        with running(directory, host, port) as address:
            ready(str(address))
            stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen on {printable(host)}:{port}: {why}; choose another --port or --host"
        ) from error
    # Inherited by each connection. asyncio sets it only on sockets made with an explicit
    # protocol, and without it every answer with a body waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RegpushError("the registry did not start")
        time.sleep(_POLL_S)
