"""Everything that can go wrong between a client and a real registry, on demand.

`FaultServer` stands before a registry and speaks HTTP: its rules answer in the registry's
place, change what it says, lose it, or cut the connection. `TroubledWire` knows only bytes:
it cuts, stalls and drips. What no rule is about reaches the registry as it came.
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
        """What it is about: ping, blob, open, upload, manifest, tag, referrers or other."""
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
    """A reply. Headers may come several times where their value is a list."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Act: TypeAlias = "Callable[[Asked, Upstream], Answer | None]"
"""What happens to a request; None resets the connection."""


@dataclass
class Rule:
    """`act` befalls the requests of `method` (any, if empty) and `kind`: not the first `after`
    of them, but the next `times`. An `early` one acts before the body has been read, which
    nobody ever reads then."""

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
    """The registry behind, as the rules use it."""

    def __init__(self, host: str) -> None:
        self.host = host

    def forward(self, asked: Asked) -> Answer:
        """Have the registry answer; it sees the Host that the client named."""
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
        """Let the registry see the beginning of a request: `size` bytes of its body."""
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


# What may happen.


def answers(status: int, body: bytes = b"", **headers: str) -> Act:
    """The registry is not even asked."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda asked, upstream: Answer(status, dict(named), body)


def loses(status: int | None = None) -> Act:
    """The registry obeys, and nobody hears it: a reset, or a proxy's answer."""

    def act(asked: Asked, upstream: Upstream) -> Answer | None:
        upstream.forward(asked)
        return None if status is None else Answer(status)

    return act


def resets(asked: Asked, upstream: Upstream) -> None:
    """The request never arrives."""


def breaks(share: float) -> Act:
    """The connection breaks when a `share` of the body has arrived."""

    def act(asked: Asked, upstream: Upstream) -> None:
        upstream.forward_part(asked, int(share * len(asked.body)))

    return act


def keeps(share: float) -> Act:
    """Accepted, but only a `share` of the body is stored."""

    def act(asked: Asked, upstream: Upstream) -> Answer:
        part = asked.body[: int(share * len(asked.body))]
        headers = {k: v for k, v in asked.headers.items() if k != "content-range"}
        return upstream.forward(Asked(asked.method, asked.target, headers, part))

    return act


def changed(change: Callable[[Answer], object]) -> Act:
    """The registry's answer, after `change` had it."""

    def act(asked: Asked, upstream: Upstream) -> Answer:
        answer = upstream.forward(asked)
        change(answer)
        return answer

    return act


def with_header(name: str, value: str | None) -> Act:
    """A header of the answer set, or removed."""

    def change(answer: Answer) -> None:
        answer.headers = {k: v for k, v in answer.headers.items() if k.lower() != name.lower()}
        if value is not None:
            answer.headers[name] = value

    return changed(change)


def error(status: int, code: str, message: str = "no", **headers: str) -> Act:
    """An error body of the specification."""
    body = b'{"errors":[{"code":"%b","message":"%b"}]}' % (code.encode(), message.encode())
    return answers(status, body, **headers)


class FaultServer:
    """A running server; `asked` are the requests so far, in the order of their ends."""

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
        """The first rule that fits and is not used up, now used once more."""
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
        """What befalls `asked` by `rule`, or else in the registry."""
        answer = rule.act(asked, self.upstream) if rule else self.upstream.forward(asked)
        with self._lock:
            self.asked.append(asked)
        return answer

    def count(self, method: str, kind: str = "") -> int:
        """Requests of a method and kind."""
        with self._lock:
            return sum(Rule(resets, method, kind).fits(asked) for asked in self.asked)


@contextmanager
def fault_server(upstream: str, *rules: Rule) -> Iterator[FaultServer]:
    """Stand before the registry at `upstream` with `rules`, the first that fits first."""
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
    """What befalls one connection: after so many bytes in a direction it is cut, or stalls;
    or its bytes come no faster than so many a second."""

    cut_up: int | None = None
    cut_down: int | None = None
    stall_up: int | None = None
    stall_down: int | None = None
    drip_down: int | None = None
    drip_up: int | None = None


CALM = Trouble()


class TroubledWire:
    """A TCP proxy before `upstream`; each new connection has the next of `troubles`, then none.

    `passed_up` are the bytes that went to the registry so far.
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
        """From now on, connections go there."""
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))

    def wait_until_passed(self, size: int, timeout_s: float) -> bool:
        """Wait until so many bytes have gone up; whether they did in time."""
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
