"""A registry that serves what a test gives it, also documents that no real registry keeps.

It runs in threads of this process, keeps everything that is pushed, and checks nothing.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.registry.api import INDEX_TYPE, MANIFEST_TYPE


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class StaticRegistry:
    """The content of the registry: manifests by tag and digest, blobs by digest.

    Every repository has the same content. `tags`: the body of every list of tags. `referrers`: the
    body of every list of referrers. `failure`: the body of a 403 to every push. None gives the
    usual reply: 404 for a list.
    """

    host: str = ""
    manifests: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    tags: bytes | None = None
    referrers: bytes | None = None
    failure: bytes | None = None

    def put(self, tag: str, manifest: bytes) -> str:
        """Serve `manifest` at `tag` and by its digest; returns the digest."""
        self.manifests[tag] = self.manifests[digest_of(manifest)] = manifest
        return digest_of(manifest)

    def add_blob(self, data: bytes) -> str:
        self.blobs[digest_of(data)] = data
        return digest_of(data)


def _media_type(manifest: bytes) -> str:
    try:
        value: Any = json.loads(manifest)
    except (ValueError, RecursionError):
        return MANIFEST_TYPE
    told = value.get("mediaType") if isinstance(value, dict) else None
    if isinstance(told, str) and told.isascii() and told.isprintable():
        return told
    return INDEX_TYPE if isinstance(value, dict) and "manifests" in value else MANIFEST_TYPE


@contextmanager
def run_static_registry() -> Iterator[StaticRegistry]:
    """Run the registry on a free port of the loopback interface."""
    registry = StaticRegistry()
    uploads: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding"):
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def handle_one(self) -> None:
            body = self.body()
            where = urlsplit(self.path)
            parts = where.path.split("/")
            if where.path == "/v2/":
                self.answer(200)
            elif self.command in ("GET", "HEAD"):
                self.give(parts)
            elif registry.failure is not None:
                self.answer(403, registry.failure)
            elif parts[-2] == "manifests" and self.command == "PUT":
                registry.put(parts[-1], body)
                self.answer(201, Docker_Content_Digest=digest_of(body))
            elif self.command == "POST":
                name = uuid.uuid4().hex
                uploads[name] = b""
                self.answer(202, Location=f"{where.path.rstrip('/')}/{name}", Range="0-0")
            elif self.command == "PATCH":
                uploads[parts[-1]] += body
                end = max(len(uploads[parts[-1]]) - 1, 0)
                self.answer(202, Location=where.path, Range=f"0-{end}")
            elif self.command == "PUT":
                data = uploads.pop(parts[-1], b"") + body
                registry.blobs[parse_qs(where.query)["digest"][0]] = data
                self.answer(201, Docker_Content_Digest=digest_of(data))
            else:
                uploads.pop(parts[-1], None)
                self.answer(204)

        def give(self, parts: list[str]) -> None:
            kind, name = parts[-2:]
            if kind == "manifests" and name in registry.manifests:
                found = registry.manifests[name]
                self.answer(
                    200,
                    found,
                    Content_Type=_media_type(found),
                    Docker_Content_Digest=digest_of(found),
                )
            elif kind == "blobs" and name in registry.blobs:
                self.answer(200, registry.blobs[name])
            elif kind == "referrers" and registry.referrers is not None:
                self.answer(200, registry.referrers, Content_Type=INDEX_TYPE)
            elif kind == "tags" and registry.tags is not None:
                self.answer(200, registry.tags, Content_Type="application/json")
            else:
                self.answer(HTTPStatus.NOT_FOUND)

        do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = handle_one

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that goes away is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        registry.host = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
