"""A TCP proxy before a registry that counts bytes and requests, and cuts connections on demand."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Protocol, Self

from tests.registry.servers import Registry

_BUFFER = 256 * 1024
_LINGER_0 = struct.pack("ii", 1, 0)  # close() sends RST instead of FIN


class AfterCut(Enum):
    """Whether a proxy accepts new connections after it has cut the open ones."""

    SERVE = "serve"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; `headers` has lower-case names, and of equal names the last."""

    method: str
    target: str
    headers: dict[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True, slots=True)
class Stats:
    """The counts of a proxy so far; bytes as on the connection, heads included.

    "Up" is from the client to the registry.
    """

    connections: int
    requests: tuple[Request, ...]
    bytes_up: int
    bytes_down: int


class StartProxy(Protocol):
    """The type of the fixture `wire`: starts a proxy before `registry`."""

    def __call__(
        self,
        registry: Registry,
        *,
        cut_after_up: int | None = None,
        after_cut: AfterCut = AfterCut.SERVE,
    ) -> CountingProxy: ...


class RequestReader:
    """Finds request heads in the bytes that one HTTP/1.1 connection sends up (RFC 9112).

    Bodies are skipped by their framing, so that nothing inside one looks like a request. Requests
    over TLS are not found.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0
        self._chunked = False
        self._opaque = False

    def feed(self, data: bytes) -> list[Request]:
        """Return the requests whose heads `data` completes."""
        found: list[Request] = []
        if self._opaque:
            return found
        view = memoryview(data)
        while True:
            if self._skip:
                step = min(self._skip, len(view))
                self._skip -= step
                view = view[step:]
                if self._skip:
                    return found
            end = b"\r\n" if self._chunked else b"\r\n\r\n"
            # A head or chunk line may lie across reads; bodies are never gathered here.
            self._buffer += view[: 64 * 1024]
            taken_before = len(self._buffer) - len(view[: 64 * 1024])
            if self._buffer[:1] == b"\x16":
                self._opaque = True
                return found
            at = self._buffer.find(end)
            if at < 0:
                return found
            line = bytes(self._buffer[:at])
            view = view[at + len(end) - taken_before :]
            self._buffer.clear()
            if self._chunked:
                self._chunk_line(line)
            elif line:
                found.append(self._head(line))

    def _chunk_line(self, line: bytes) -> None:
        size = int(line.split(b";")[0], 16)
        self._skip = size + 2  # the CRLF behind the data; behind the last chunk, the end
        if size == 0:
            self._chunked = False

    def _head(self, head: bytes) -> Request:
        first, *lines = head.decode("latin-1").lstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._skip = 0 if self._chunked else int(headers.get("content-length", "0"))
        return Request(method, target, headers)


class CountingProxy:
    """Listens on a free port of 127.0.0.1 and passes connections on to `upstream`.

    When `cut_after_up` bytes were sent up over all connections, every connection is reset on both
    sides, once; further bytes are not passed on.
    """

    def __init__(
        self,
        upstream: str,
        *,
        cut_after_up: int | None = None,
        after_cut: AfterCut = AfterCut.SERVE,
    ) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._cut_after_up = cut_after_up
        self._after_cut = after_cut
        self._lock = threading.Lock()
        self._open: set[_Connection] = set()
        self._stopped = False
        self._clear()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._acceptor.join()

    def stats(self) -> Stats:
        """Return the counts since the start or the last `reset`."""
        with self._lock:
            return Stats(self._connections, tuple(self._requests), self._up, self._down)

    def reset(self) -> None:
        """Set all counts to zero, also the one for `cut_after_up`. Connections stay open."""
        with self._lock:
            self._clear()

    def stop(self) -> None:
        """Reset every connection and refuse further ones. May be called again."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(); close alone would not
        self._listener.close()
        self._abort_all()

    def _clear(self) -> None:
        self._connections = 0
        self._requests: list[Request] = []
        self._up = 0
        self._down = 0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._upstream)
            except OSError:
                # A reset, because an accepted connection cannot be refused any more.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
                client.close()
                continue
            connection = _Connection(self, client, server)
            with self._lock:
                self._connections += 1
                self._open.add(connection)
                stopped = self._stopped
            connection.start()
            if stopped:
                connection.abort()

    def _abort_all(self) -> None:
        with self._lock:
            connections = tuple(self._open)
        for connection in connections:
            connection.abort()

    def _passing_up(self, size: int, requests: list[Request]) -> int:
        """Count `size` bytes that are about to be sent up; returns how many may be sent."""
        with self._lock:
            self._requests += requests
            allowed = size
            if self._cut_after_up is not None and self._up + size >= self._cut_after_up:
                allowed = self._cut_after_up - self._up
            self._up += allowed
            return allowed

    def _passing_down(self, size: int) -> None:
        with self._lock:
            self._down += size

    def _cut_due(self) -> bool:
        with self._lock:
            due = self._cut_after_up is not None and self._up >= self._cut_after_up
            if due:
                self._cut_after_up = None
            return due

    def _cut(self) -> None:
        if self._after_cut is AfterCut.STOP:
            self.stop()
        else:
            self._abort_all()

    def _ended(self, connection: _Connection) -> None:
        with self._lock:
            self._open.discard(connection)


class _Connection:
    """A client's connection with one to the server for it, and a thread for each direction."""

    def __init__(self, proxy: CountingProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lock = threading.Lock()
        self._running = 2
        self._aborted = False

    def start(self) -> None:
        for pump in (self._pump_up, self._pump_down):
            threading.Thread(target=pump, daemon=True).start()

    def abort(self) -> None:
        """Reset both connections.

        The reset is sent when the threads, woken here, have closed them.
        """
        self._aborted = True
        for end in (self._client, self._server):
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
                end.shutdown(socket.SHUT_RD)  # wakes recv() and sends nothing
            except OSError:
                pass  # closed meanwhile

    def _pump_up(self) -> None:
        reader = RequestReader()
        try:
            while data := self._client.recv(_BUFFER):
                allowed = self._proxy._passing_up(len(data), reader.feed(data))
                self._server.sendall(data[:allowed])
                if self._proxy._cut_due():
                    self._proxy._cut()
                    return
            if not self._aborted:
                self._server.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()
        finally:
            self._finish()

    def _pump_down(self) -> None:
        try:
            while data := self._server.recv(_BUFFER):
                self._proxy._passing_down(len(data))
                self._client.sendall(data)
            if not self._aborted:
                self._client.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()
        finally:
            self._finish()

    def _finish(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running:
                return
        self._client.close()
        self._server.close()
        self._proxy._ended(self)
