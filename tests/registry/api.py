"""A plain client of the distribution API for tests: it sends every request as it is given."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.patience import HANG_S

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply with its body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self) -> str:
        """The first error's code in an error body."""
        code: str = json.loads(self.body)["errors"][0]["code"]
        return code


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Api:
    """Requests to one repository of the registry at `host`."""

    def __init__(self, host: str, repository: str) -> None:
        self.host = host
        self.base = f"/v2/{repository}"

    def send(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request on a connection of its own; the body of an iterable is sent chunked."""
        connection = http.client.HTTPConnection(self.host, timeout=HANG_S)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def start(self) -> str:
        """Open an upload; returns its path, with its query."""
        return self.location(self.send("POST", f"{self.base}/blobs/uploads/"))

    def location(self, answer: Answer) -> str:
        """Return the Location of `answer` as a path; some registries give whole URLs."""
        return answer.headers["Location"].removeprefix(f"http://{self.host}")

    def finish(self, location: str, digest: str, body: bytes | Iterable[bytes] = b"") -> Answer:
        separator = "&" if "?" in location else "?"
        return self.send("PUT", f"{location}{separator}digest={digest}", body)

    def put_blob(self, data: bytes) -> str:
        digest = sha256(data)
        assert self.finish(self.start(), digest, data).status == 201
        return digest

    def blob(self, digest: str, method: str = "GET", **headers: str) -> Answer:
        return self.send(method, f"{self.base}/blobs/{digest}", headers=headers)

    def put_manifest(self, target: str, content: bytes, media_type: str = MANIFEST_TYPE) -> Answer:
        headers = {"Content-Type": media_type}
        return self.send("PUT", f"{self.base}/manifests/{target}", content, headers)

    def manifest(self, target: str, method: str = "GET") -> Answer:
        accept = {"Accept": f"{MANIFEST_TYPE}, {INDEX_TYPE}"}
        return self.send(method, f"{self.base}/manifests/{target}", headers=accept)

    def put_image(self, tag: str, salt: bytes = b"") -> bytes:
        """Push a small image; returns the bytes of its manifest."""
        content = image_manifest(b'{"architecture":"amd64","os":"linux"}', b"l" + salt)
        self.put_blob(b'{"architecture":"amd64","os":"linux"}')
        self.put_blob(b"l" + salt)
        assert self.put_manifest(tag, content).status == 201
        return content


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


def image_manifest(config: bytes, layer: bytes, /, **changes: Any) -> bytes:
    """Return the manifest of an image of one layer, with fields replaced by `changes`."""
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(config, CONFIG_TYPE),
        "layers": [descriptor(layer, LAYER_TYPE)],
    }
    return json.dumps(value | changes).encode()
