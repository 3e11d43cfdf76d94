"""A real HTTP proxy: CONNECT and forwarding, with a password if one is wanted."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.registry_client.raw import reply


@dataclass
class Proxying:
    """A running proxy; `heads` are the heads of the requests made to itself so far."""

    host: str
    connections: int = 0
    heads: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [head.partition("\r\n")[0] for head in self.heads]


@contextmanager
def proxy(
    names: Mapping[str, str], *, login: str | None = None, refuse: str | None = None
) -> Iterator[Proxying]:
    """Serve the hosts of `names`, each by the address it stands for; `login` is user:password.

    With `refuse`, a status line, nobody is let through.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    running = Proxying(f"127.0.0.1:{listener.getsockname()[1]}")

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            head, rest = _head(client)
            if not head:
                return
            running.heads.append(head)
            first, *lines = head.split("\r\n")
            method, target, _ = first.split(" ")
            fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            if login is not None:
                wanted = f"Basic {base64.b64encode(login.encode()).decode()}"
                if fields.get("proxy-authorization") != wanted:
                    client.sendall(reply("407 Proxy Authentication Required", body="who are you?"))
                    return
            if refuse is not None:
                client.sendall(reply(refuse, body=str(fields)))
                return
            name = target if method == "CONNECT" else urlsplit(target).netloc
            if name not in names:
                client.sendall(reply("502 Bad Gateway"))
                return
            host, _, port = names[name].rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    server.sendall(_forwarded(first, target, lines))
                server.sendall(rest)
                _pump(client, server)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            running.connections += 1
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield running
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()


def _head(client: socket.socket) -> tuple[str, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        came = client.recv(65536)
        if not came:
            return "", b""
        data += came
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode(), rest


def _forwarded(first: str, target: str, lines: list[str]) -> bytes:
    """The head as the server gets it: its own target, one request, nothing for the proxy."""
    parts = urlsplit(target)
    own = target[target.index(parts.netloc) + len(parts.netloc) :] or "/"
    kept = [one for one in lines if not one.lower().startswith(("proxy-", "connection:"))]
    return "\r\n".join([first.replace(target, own), *kept, "Connection: close", "", ""]).encode()


def _pump(one: socket.socket, other: socket.socket) -> None:
    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join()
