"""A link between clients and servers: counts what crosses it, and is as slow as it is told.

`Link` starts this module as a process of its own, so that its work is no part of what is
measured, and tells it over its standard input what to do. A new connection costs one round
trip before its first byte moves, as TCP's handshake does. Both directions have a rate of
their own, shared by all connections, which take turns (as with Linux's fq_codel): a small
request does not wait behind another connection's large blob. Neither slow start nor loss is
modelled, so it is kinder than a network to those who open many connections.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.registry.wire import RequestReader

_ROOT = Path(__file__).parents[2]
_WINDOW = 16 << 20  # bytes on the way in one direction of one connection
_BACKLOG = 1 << 20  # bytes of a connection waiting for their turn, or for a slow receiver
_TURN_S = 0.002  # how long one connection sends before it is the next one's turn
_LEAST_TURN = 16 << 10  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`rtt_ms`: a round trip in milliseconds. Rates in 10^6 bits a second, None without limit."""

    rtt_ms: float = 0.0
    up_mbit: float | None = None
    down_mbit: float | None = None

    def __str__(self) -> str:
        rates = {self.up_mbit, self.down_mbit}
        rate = "/".join("∞" if one is None else f"{one:g}" for one in sorted(rates, key=str))
        return f"{self.rtt_ms:g} ms, {rate} Mbit/s" if rates != {None} else f"{self.rtt_ms:g} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What crossed so far: bytes as on the connections, heads of requests included, and the
    CPU seconds that the link itself took."""

    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    methods: Mapping[str, int] = field(default_factory=dict)
    cpu_s: float = 0.0

    @property
    def requests(self) -> int:
        return sum(self.methods.values())

    def since(self, earlier: Counts) -> Counts:
        """What crossed after `earlier`."""
        return Counts(
            connections=self.connections - earlier.connections,
            bytes_up=self.bytes_up - earlier.bytes_up,
            bytes_down=self.bytes_down - earlier.bytes_down,
            methods=dict(Counter(self.methods) - Counter(earlier.methods)),
            cpu_s=self.cpu_s - earlier.cpu_s,
        )


class Link:
    """A running link. It ends with the `with` block, or with the process that started it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.link"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def forward(self, upstream: str) -> str:
        """The `127.0.0.1:PORT` at which the server at `upstream` is reached over the link."""
        host: str = self._ask(forward=upstream)["host"]
        return host

    def shape(self, shape: Shape) -> None:
        """From now on the link is like this; what is on its way arrives as it would have."""
        self._ask(shape=asdict(shape))

    def counts(self) -> Counts:
        return Counts(**self._ask(counts=True))

    def _ask(self, **question: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


class _Lane:
    """One direction of the link."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self.carried = 0  # bytes
        self._loop = asyncio.get_running_loop()
        self._free_at = 0.0
        self._turns: deque[_Flow] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def shape(self, delay_s: float, mbit: float | None) -> None:
        self.delay_s = delay_s
        self.bytes_per_s = None if mbit is None else mbit * 1e6 / 8

    def send(self, flow: _Flow, data: bytes) -> None:
        """Take `data`; it departs when it is the flow's turn."""
        self.carried += len(data)
        now = self._loop.time()
        if self.bytes_per_s is None and not flow.backlog:
            flow.depart(data, now + self.delay_s)
            return
        if not self._turns:
            self._free_at = max(self._free_at, now)  # time the link was idle is lost
        if not flow.backlog:
            self._turns.append(flow)
        flow.backlog.append(memoryview(data))
        flow.backlog_size += len(data)
        self._transmit()

    def _transmit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._turns:
            now = self._loop.time()
            if self._free_at > now:
                self._timer = self._loop.call_at(self._free_at, self._transmit)
                return
            flow = self._turns.popleft()
            rate = self.bytes_per_s or float(_WINDOW) / _TURN_S
            piece = flow.take(max(_LEAST_TURN, int(rate * _TURN_S)))
            self._free_at += len(piece) / rate
            flow.depart(piece, self._free_at + self.delay_s)
            if flow.backlog:
                self._turns.append(flow)


class _Flow:
    """One direction of one connection: from `source`, over the lane, into `sink`."""

    def __init__(self, lane: _Lane, source: asyncio.Transport, sink: asyncio.Transport) -> None:
        self.backlog: deque[memoryview] = deque()
        self.backlog_size = 0
        self.sink_full = False
        self.ended = False  # the end has come out at the sink
        self.twin: _Flow | None = None  # the other direction
        self._ending = False
        self._lane = lane
        self._source = source
        self._sink = sink
        self._way: deque[tuple[float, bytes | memoryview]] = deque()
        self._way_size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def receive(self, data: bytes) -> None:
        self._lane.send(self, data)
        if self._is_full():
            self._source.pause_reading()

    def end(self) -> None:
        """The source has sent everything."""
        self._ending = True
        if not self.backlog and not self._way:
            # The news of the end is as slow as everything else.
            self._loop.call_later(self._lane.delay_s, self._deliver)

    def take(self, size: int) -> memoryview:
        """At most `size` bytes off the backlog, which is not empty."""
        first = self.backlog.popleft()
        if len(first) > size:
            self.backlog.appendleft(first[size:])
            first = first[:size]
        self.backlog_size -= len(first)
        return first

    def depart(self, data: bytes | memoryview, due: float) -> None:
        """`data` is on its way and arrives at `due`, in the order of these calls."""
        if not self._way and not self.sink_full and due <= self._loop.time():
            self._sink.write(data)
        else:
            self._way.append((due, data))
            self._way_size += len(data)
            self._deliver()
        self._resume()

    def _deliver(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._way and not self.sink_full:
            due, data = self._way[0]
            if due > self._loop.time():
                self._timer = self._loop.call_at(due, self._deliver)
                return
            self._way.popleft()
            self._way_size -= len(data)
            self._sink.write(data)
        self._resume()
        if self._ending and not self.backlog and not self._way and not self.ended:
            self.ended = True
            with suppress(OSError):  # the peer may have reset what we did not look at again
                if not self._sink.is_closing():
                    self._sink.write_eof()
            if self.twin is not None and self.twin.ended:
                self._source.close()
                self._sink.close()

    def sink_drained(self) -> None:
        self.sink_full = False
        self._deliver()

    def _is_full(self) -> bool:
        most = _BACKLOG if self.sink_full else _WINDOW
        return self.backlog_size >= _BACKLOG or self._way_size >= most

    def _resume(self) -> None:
        if not self._ending and not self._is_full() and not self._source.is_closing():
            self._source.resume_reading()


class _End(asyncio.Protocol):
    """One socket of a connection: the source of `out` and the sink of `into`."""

    def __init__(self, pair: _Pair) -> None:
        self.pair = pair
        self.out: _Flow | None = None
        self.into: _Flow | None = None
        self.reader: RequestReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()  # until both ends are there
        self.pair.made(self)

    def data_received(self, data: bytes) -> None:
        assert self.out is not None
        if self.reader is not None:
            self.pair.server.methods.update(one.method for one in self.reader.feed(data))
        self.out.receive(data)

    def eof_received(self) -> bool:
        assert self.out is not None
        self.out.end()
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        assert self.into is not None
        self.into.sink_full = True

    def resume_writing(self) -> None:
        assert self.into is not None
        self.into.sink_drained()

    def connection_lost(self, error: Exception | None) -> None:
        self.pair.lost(self)


class _Pair:
    """A connection: the client's end and the server's."""

    def __init__(self, server: _Server, upstream: tuple[str, int]) -> None:
        self.server = server
        self._upstream = upstream
        self._client: _End | None = None
        self._far: _End | None = None
        self._opening: asyncio.Task[None] | None = None

    def accept(self) -> _End:
        self._client = _End(self)
        return self._client

    def made(self, end: _End) -> None:
        if end is self._client:
            self.server.connections += 1
            self._opening = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._client is not None
        await asyncio.sleep(self.server.up.delay_s + self.server.down.delay_s)
        far = _End(self)
        try:
            await loop.create_connection(lambda: far, *self._upstream)
        except OSError:
            self._client.transport.abort()
            return
        near = self._client
        if near.transport.is_closing():
            far.transport.abort()
            return
        near.out = far.into = _Flow(self.server.up, near.transport, far.transport)
        far.out = near.into = _Flow(self.server.down, far.transport, near.transport)
        near.out.twin, far.out.twin = far.out, near.out
        near.reader = RequestReader()
        self._far = far
        for end in (near, far):
            end.transport.resume_reading()

    def lost(self, end: _End) -> None:
        """A socket is gone. Unless both directions had ended it was reset, and so is the other."""
        other = self._far if end is self._client else self._client
        if other is not None and not other.transport.is_closing():
            other.transport.abort()


class _Server:
    """The process: its lanes, its counters, its listeners."""

    def __init__(self) -> None:
        self.up, self.down = _Lane(), _Lane()
        self.connections = 0
        self.methods: Counter[str] = Counter()

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        if upstream := question.get("forward"):
            host, _, port = upstream.rpartition(":")
            loop = asyncio.get_running_loop()
            listener = await loop.create_server(
                lambda: _Pair(self, (host, int(port))).accept(), "127.0.0.1", 0
            )
            return {"host": f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"}
        if shape := question.get("shape"):
            self.up.shape(shape["rtt_ms"] / 2000, shape["up_mbit"])
            self.down.shape(shape["rtt_ms"] / 2000, shape["down_mbit"])
            return {}
        counts = Counts(
            connections=self.connections,
            bytes_up=self.up.carried,
            bytes_down=self.down.carried,
            methods=dict(self.methods),
            cpu_s=time.process_time(),
        )
        return asdict(counts)


async def _serve() -> None:
    server = _Server()
    questions = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(questions), os.fdopen(0, "rb")
    )
    while line := await questions.readline():
        answer = await server.answer(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _loop() -> asyncio.AbstractEventLoop:
    # epoll rounds its time-outs up to whole milliseconds; select takes microseconds.
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(_serve())
