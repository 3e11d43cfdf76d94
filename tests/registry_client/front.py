"""An HTTP server in a thread whose answers are a function: for what no real registry does."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.patience import HANG_S


@dataclass
class Asked:
    """A request with its body; header names in lower case.

    `certified`: over TLS, whether the client showed a certificate.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    certified: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Behaviour = Callable[[Asked], Answer]


@dataclass
class Front:
    """A running server; `asked` are the requests so far."""

    host: str
    asked: list[Asked]
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def methods(self) -> list[str]:
        return [asked.method for asked in self.asked]


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # with the default of 5 a push's connections wait a second for a SYN


@contextmanager
def front(
    behaviour: Behaviour, address: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None
) -> Iterator[Front]:
    """Answer every request by `behaviour`; over TLS where there is a context for it."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes; no ACK lies between them

        def _answer(self) -> None:
            request = Asked(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                self._body(),
                isinstance(self.connection, ssl.SSLSocket) and bool(self.connection.getpeercert()),
            )
            asked.append(request)
            answer = behaviour(request)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if not {"Content-Length", "Transfer-Encoding"} & answer.headers.keys():
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = _Server((address, 0), Handler)
    server.daemon_threads = True
    if tls:
        # The handshake is left to the thread that reads: one client must not hold up the next.
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # refused clients
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Front(
            f"{address}:{server.server_address[1]}", asked, scheme="https" if tls else "http"
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def pass_on(host: str) -> Behaviour:
    """Hand every request to the registry at `host`, which is told the client's Host."""

    def behaviour(asked: Asked) -> Answer:
        connection = HTTPConnection(host, timeout=HANG_S)
        try:
            kept = {k: v for k, v in asked.headers.items() if k != "transfer-encoding"}
            kept["content-length"] = str(len(asked.body))
            connection.request(asked.method, asked.target, asked.body, kept)
            reply = connection.getresponse()
            skipped = ("transfer-encoding", "connection")
            headers = {k: v for k, v in reply.getheaders() if k.lower() not in skipped}
            return Answer(reply.status, headers, reply.read())
        finally:
            connection.close()

    return behaviour
