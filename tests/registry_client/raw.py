"""A server on bare sockets, for replies that come early, late, broken or not at all."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.patience import HANG_S

LINGER_0 = struct.pack("ii", 1, 0)  # close() sends RST instead of FIN


@dataclass
class Raw:
    """A running server; `heads` are the request heads so far."""

    host: str
    heads: list[str] = field(default_factory=list)


@contextmanager
def raw(*scripts: Callable[[socket.socket, str], None]) -> Iterator[Raw]:
    """Run one of `scripts` for each request head that arrives, the last one ever after.

    Each connection is closed after one request.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    server = Raw(f"127.0.0.1:{listener.getsockname()[1]}")
    left = list(scripts)

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(HANG_S)
            head = b""
            while b"\r\n\r\n" not in head:
                came = connection.recv(1)
                if not came:
                    return
                head += came
            server.heads.append(head.decode())
            script = left.pop(0) if len(left) > 1 else left[0]
            script(connection, head.decode())

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()


def reply(status: str, *headers: str, body: str = "") -> bytes:
    """A whole reply after which the connection ends."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def says(data: bytes) -> Callable[[socket.socket, str], None]:
    """A script that sends `data` and ends."""
    return lambda connection, head: connection.sendall(data)


def reset(connection: socket.socket) -> None:
    """End a connection by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    connection.close()
