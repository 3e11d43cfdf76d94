"""Servers before a real registry that make requests fail on demand.

`FaultServer` speaks HTTP: its rules answer in the registry's place, change the registry's reply,
lose it, or cut the connection. `TroubledWire` passes on bytes: it cuts, stalls and slows down
connections. A request that no rule fits reaches the registry unchanged.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self, TypeAlias

from tests.patience import HANG_S

_LINGER_0 = struct.pack("ii", 1, 0)  # close() sends RST instead of FIN
_BLOCK = 64 * 1024
_SKIPPED = ("transfer-encoding", "connection", "date", "server")


@dataclass
class Asked:
    """A request with its body; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.target}"

    @property
    def kind(self) -> str:
        """The kind of request: ping, blob, open, upload, manifest, tag, referrers or other."""
        path = self.target.partition("?")[0]
        if path == "/v2/":
            return "ping"
        if path.endswith("/blobs/uploads/"):
            return "open"
        if "/blobs/uploads/" in path:
            return "upload"
        if "/blobs/" in path:
            return "blob"
        if "/manifests/" in path:
            return "manifest" if ":" in path.rpartition("/")[2] else "tag"
        if "/referrers/" in path:
            return "referrers"
        return "other"


@dataclass
class Answer:
    """A reply; a header may come several times where its value is a list."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Act: TypeAlias = "Callable[[Asked, Upstream], Answer | None]"
"""Answers a request, in the registry's place or by asking it; None resets the connection."""


@dataclass
class Rule:
    """Lets `act` answer the requests of `method` (any, if empty) and `kind` that `only` accepts.

    The first `after` of them are spared, the next `times` are answered. An `early` rule answers
    before the body has been read, and the body is never read then.
    """

    act: Act
    method: str = ""
    kind: str = ""
    times: int = 1
    after: int = 0
    early: bool = False
    only: Callable[[Asked], bool] = lambda asked: True

    def fits(self, asked: Asked) -> bool:
        return (
            self.method in ("", asked.method) and self.kind in ("", asked.kind) and self.only(asked)
        )


FOREVER = 10**9


class Upstream:
    """The registry behind the server, for rules that pass requests on."""

    def __init__(self, host: str) -> None:
        self.host = host

    def forward(self, asked: Asked) -> Answer:
        """Send the request to the registry, with the Host that the client named.

        Returns its reply.
        """
        connection = HTTPConnection(self.host, timeout=HANG_S)
        try:
            kept = {k: v for k, v in asked.headers.items() if k not in _SKIPPED}
            kept["content-length"] = str(len(asked.body))
            connection.request(asked.method, asked.target, asked.body, kept)
            reply = connection.getresponse()
            # Each server has a case of its own; rules name headers as in Content-Length.
            headers = {k.title(): v for k, v in reply.getheaders() if k.lower() not in _SKIPPED}
            return Answer(reply.status, headers, reply.read())
        except (OSError, HTTPException):
            return Answer(502, body=b"the registry is not there")
        finally:
            connection.close()

    def forward_part(self, asked: Asked, size: int) -> None:
        """Send the registry the head of a request and `size` bytes of its body, then no more."""
        host, _, port = self.host.partition(":")
        lines = [f"{asked.method} {asked.target} HTTP/1.1"]
        kept = {k: v for k, v in asked.headers.items() if k not in _SKIPPED}
        kept["content-length"] = str(len(asked.body))
        lines += [f"{name}: {value}" for name, value in kept.items()]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        with suppress(OSError), socket.create_connection((host, int(port))) as connection:
            connection.sendall(head + asked.body[:size])
            # An orderly end: a reset would take from the registry what it has not read yet.
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(HANG_S)
            while connection.recv(_BLOCK):
                pass


# The acts that rules may name.


def answers(status: int, body: bytes = b"", **headers: str) -> Act:
    """Answer with `status`, without asking the registry."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda asked, upstream: Answer(status, dict(named), body)


def loses(status: int | None = None) -> Act:
    """Let the registry carry out the request, but lose its reply.

    The client gets a reset connection, or `status` from a proxy.
    """

    def act(asked: Asked, upstream: Upstream) -> Answer | None:
        upstream.forward(asked)
        return None if status is None else Answer(status)

    return act


def resets(asked: Asked, upstream: Upstream) -> None:
    """Reset the connection; the request never reaches the registry."""


def breaks(share: float) -> Act:
    """Break the connection when the registry has got a `share` of the body."""

    def act(asked: Asked, upstream: Upstream) -> None:
        upstream.forward_part(asked, int(share * len(asked.body)))

    return act


def keeps(share: float) -> Act:
    """Let the registry store only a `share` of the body, and return its reply."""

    def act(asked: Asked, upstream: Upstream) -> Answer:
        part = asked.body[: int(share * len(asked.body))]
        headers = {k: v for k, v in asked.headers.items() if k != "content-range"}
        return upstream.forward(Asked(asked.method, asked.target, headers, part))

    return act


def changed(change: Callable[[Answer], object]) -> Act:
    """Return the registry's reply after `change` has changed it in place."""

    def act(asked: Asked, upstream: Upstream) -> Answer:
        answer = upstream.forward(asked)
        change(answer)
        return answer

    return act


def with_header(name: str, value: str | None) -> Act:
    """Return the registry's reply with a header set, or removed where `value` is None."""

    def change(answer: Answer) -> None:
        answer.headers = {k: v for k, v in answer.headers.items() if k.lower() != name.lower()}
        if value is not None:
            answer.headers[name] = value

    return changed(change)


def error(status: int, code: str, message: str = "no", **headers: str) -> Act:
    """Answer with an error body of the specification."""
    body = b'{"errors":[{"code":"%b","message":"%b"}]}' % (code.encode(), message.encode())
    return answers(status, body, **headers)


class FaultServer:
    """A running server with rules; `asked` are the requests answered so far, in order."""

    def __init__(self, upstream: str, rules: list[Rule]) -> None:
        self.upstream = Upstream(upstream)
        self.rules = rules
        self.asked: list[Asked] = []
        self.host = ""
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def rule(self, asked: Asked, *, early: bool) -> Rule | None:
        """Return the first rule that fits and is not used up, and count the use."""
        with self._lock:
            for rule in self.rules:
                if rule.times and rule.early is early and rule.fits(asked):
                    if rule.after:
                        rule.after -= 1
                        continue
                    rule.times -= 1
                    return rule
        return None

    def handle(self, asked: Asked, rule: Rule | None) -> Answer | None:
        """Answer `asked` by `rule`, or by the registry where that is None."""
        answer = rule.act(asked, self.upstream) if rule else self.upstream.forward(asked)
        with self._lock:
            self.asked.append(asked)
        return answer

    def count(self, method: str, kind: str = "") -> int:
        """Return the number of requests of a method and kind."""
        with self._lock:
            return sum(Rule(resets, method, kind).fits(asked) for asked in self.asked)


@contextmanager
def fault_server(upstream: str, *rules: Rule) -> Iterator[FaultServer]:
    """Run a server before the registry at `upstream`; of `rules`, the first that fits applies."""
    faults = FaultServer(upstream, list(rules))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def _answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers)
            rule = faults.rule(asked, early=True)
            if rule:
                self.close_connection = True
            else:
                asked.body = self._body()
                rule = faults.rule(asked, early=False)
            answer = faults.handle(asked, rule)
            if answer is None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if not any(name.lower() == "content-length" for name in answer.headers):
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            parts = []
            while size := int(self.rfile.readline() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *arguments: object) -> None:
            """A client that goes away, when it is cancelled, is no fault of ours."""

        def shutdown_request(self, request: object) -> None:
            # Without the orderly shutdown: a reset must stay one.
            self.close_request(request)  # type: ignore[arg-type]  # a socket, always

    server = Server(("127.0.0.1", 0), Handler)
    faults.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """The fault of one connection, for each direction (up: to the registry).

    `cut_…`, `stall_…`: bytes after which it is reset or stalls. `drip_…`: bytes a second at most.
    """

    cut_up: int | None = None
    cut_down: int | None = None
    stall_up: int | None = None
    stall_down: int | None = None
    drip_down: int | None = None
    drip_up: int | None = None


CALM = Trouble()


class TroubledWire:
    """A TCP proxy before `upstream`.

    Each new connection has the next of `troubles`, later ones none. `passed_up`: bytes passed on to
    the registry so far.
    """

    def __init__(self, upstream: str, troubles: list[Trouble]) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._troubles = troubles
        self._ended = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._counted = threading.Condition()
        self.passed_up = 0
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def lead_to(self, upstream: str) -> None:
        """Pass on new connections to `upstream` from now on."""
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))

    def wait_until_passed(self, size: int, timeout_s: float) -> bool:
        """Wait until `size` bytes were passed on to the registry; False after `timeout_s`."""
        with self._counted:
            return self._counted.wait_for(lambda: self.passed_up >= size, timeout_s)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            trouble = self._troubles.pop(0) if self._troubles else CALM
            try:
                server = socket.create_connection(self._upstream)
            except OSError:
                _reset(client)
                continue
            self._sockets += [client, server]
            up = (
                *(client, server, self._count),
                *(trouble.cut_up, trouble.stall_up, trouble.drip_up),
            )
            down = (
                *(server, client, lambda size: None),
                *(trouble.cut_down, trouble.stall_down, trouble.drip_down),
            )
            for arguments in (up, down):
                threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _count(self, size: int) -> None:
        with self._counted:
            self.passed_up += size
            self._counted.notify_all()

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        count: Callable[[int], object],
        cut: int | None,
        stall: int | None,
        drip: int | None,
    ) -> None:
        passed = 0
        most = min(_BLOCK, max(drip // 20, 1)) if drip else _BLOCK
        try:
            while data := source.recv(most):
                if stall is not None and passed + len(data) > stall:
                    sink.sendall(data[: stall - passed])
                    self._ended.wait()
                    return
                if cut is not None and passed + len(data) > cut:
                    sink.sendall(data[: cut - passed])
                    break
                sink.sendall(data)
                passed += len(data)
                count(len(data))
                if drip:
                    time.sleep(len(data) / drip)
            else:
                sink.shutdown(socket.SHUT_WR)
                return
        except OSError:
            pass
        _reset(source)
        _reset(sink)


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        end.shutdown(socket.SHUT_RD)  # wakes who waits in recv(), and sends nothing
        end.close()
