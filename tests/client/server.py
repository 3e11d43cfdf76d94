"""A small HTTP server over bare sockets that answers as a test tells it to."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self


class Request:
    """A request head; header names in lower case."""

    def __init__(self, head: bytes, connection: socket.socket | ssl.SSLSocket, rest: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self.path = self.target.partition("?")[0]
        self.connection = connection
        self._data = rest

    def read_body(self) -> bytes:
        """Take the whole body off the connection, as it crossed it. May be called again."""
        while not self._complete():
            data = self.connection.recv(1 << 16)
            if not data:
                raise ConnectionError("the client hung up")
            self._data += data
        return self._data

    def _complete(self) -> bool:
        if self.headers.get("transfer-encoding") == "chunked":
            return self._data.endswith(b"0\r\n\r\n")
        return len(self._data) >= int(self.headers.get("content-length", 0))


@dataclass(frozen=True)
class Answer:
    """A reply. With `close` the connection ends after it, whatever of the request is unread."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    close: bool = False

    def encode(self, method: str) -> bytes:
        headers = {"Content-Length": str(len(self.body)), **dict(self.headers)}
        if self.close:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status} Whatever", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else self.body)


Handler = Callable[[Request], Answer | None]


class Server:
    """Serves on a free port of 127.0.0.1; `handler` gives the answer to each request.

    An answer None means that the handler did all itself, and hangs up. Requests whose body
    the handler did not read are read to their end after the answer.
    """

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self._handler = handler
        self._tls = tls
        self.requests: list[Request] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in tuple(self._open):
            with suppress(OSError):  # ended meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def seen(self) -> list[str]:
        """`METHOD path` of every request, in order of arrival."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._open.add(connection)
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(1 << 16)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                request = Request(head, connection, data)
                self.requests.append(request)
                answer = self._handler(request)
                if answer is None:
                    return
                if not answer.close:
                    request.read_body()
                data = b""
                connection.sendall(answer.encode(request.method))
                if answer.close:
                    return
        except OSError:
            pass  # the client hung up
        finally:
            self._open.discard(connection)
            connection.close()
