"""Run the embedded registry with uvicorn, in a background thread or until a signal arrives."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from regpush.embedded.store import ContentStore
from regpush.errors import UsageError, printable

if TYPE_CHECKING:
    import uvicorn

# Clients should close an idle connection before the server does, because a request that is sent
# while the server closes the connection is lost. So this is longer than clients usually wait.
_KEEP_ALIVE_S = 75
_SHUTDOWN_S = 1  # time for unfinished requests when the registry shuts down


class Running(Struct, frozen=True, kw_only=True):
    """A registry that accepts connections. `host`: `address:port`, as in image references."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The registry's base URL, such as `http://127.0.0.1:5000`."""
        return f"http://{self.host}"


@contextmanager
def running(
    directory: str | Path,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    hosts: Collection[str] = (),
    max_size: int | None = None,
) -> Iterator[Running]:
    """Serve a registry kept in `directory` from a background thread until the `with` block ends.

    `port` 0 chooses a free port. The registry answers requests for IP addresses, localhost and
    `hosts`, and stores at most `max_size` bytes. Raises UsageError if the extra `registry` is not
    installed, the directory is not writable or in use, or the address is not available.
    """
    offer = _Offer(hosts=tuple(hosts), max_size=max_size)
    with _listening(Path(directory), address, port, offer) as (server, listener, registry):
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="embedded registry"
        )
        thread.start()
        try:
            yield registry
        finally:
            server.should_exit = True
            thread.join()


def serve(
    directory: str | Path,
    *,
    port: int,
    ready: Callable[[str], None],
    address: str = "127.0.0.1",
    hosts: Collection[str] = (),
    max_size: int | None = None,
) -> None:
    """Serve a registry kept in `directory` until SIGINT or SIGTERM, then raise that signal again.

    `ready` is called with `address:port` once connections are accepted. Requests are logged to the
    logger `uvicorn.access`. Other arguments and errors are those of `running`.
    """
    offer = _Offer(hosts=tuple(hosts), max_size=max_size)
    with _listening(Path(directory), address, port, offer) as (server, listener, registry):
        ready(registry.host)
        server.run(sockets=[listener])


class _Offer(Struct, frozen=True, kw_only=True):
    """Settings of a registry: the host names it answers to, and the maximum bytes it stores."""

    hosts: tuple[str, ...]
    max_size: int | None


@contextmanager
def _listening(
    directory: Path, address: str, port: int, offer: _Offer
) -> Iterator[tuple[uvicorn.Server, socket.socket, Running]]:
    """Yield a server that is ready to run, its listening socket, and the registry's address.

    Closes the socket and the store at `directory` at the end. Raises UsageError if the extra
    `registry` is not installed or the port cannot be used.
    """
    try:
        import uvicorn  # of the extra `registry`

        from regpush.embedded.app import application  # imports starlette, of the extra
    except ImportError as error:
        raise UsageError(
            f"the embedded registry needs {error.name}: pip install 'regpush[registry]'"
        ) from error
    with (
        closing(ContentStore(directory, offer.max_size)) as store,
        _listener(address, port) as listener,
    ):
        config = uvicorn.Config(
            application(store, offer.hosts),
            log_config=None,
            log_level=None,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        taken: int = listener.getsockname()[1]
        shown = f"[{address}]" if _is_ipv6(address) else address
        yield uvicorn.Server(config), listener, Running(host=f"{shown}:{taken}", port=taken)


def _listener(address: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise UsageError(f"bad --port {port}: give a number from 0 to 65535")
    family = socket.AF_INET6 if _is_ipv6(address) else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=128)
    except OSError as error:
        # Python puts the address behind the system's message in `strerror`.
        reason = os.strerror(error.errno) if error.errno else error
        raise UsageError(
            f"cannot listen on {printable(address)} port {port}: {reason}; choose another --port"
        ) from error


def _is_ipv6(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).version == 6
    except ValueError:
        return False
