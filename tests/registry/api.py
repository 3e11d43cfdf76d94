"""A repository of a registry in single requests, and the smallest images to put there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def image(config: bytes, *layers: bytes, **more: object) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(config, CONFIG),
            "layers": [descriptor(layer, LAYER) for layer in layers],
            **more,
        }
    ).encode()


def index(*manifests: bytes) -> bytes:
    children = [descriptor(manifest, MANIFEST) for manifest in manifests]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).encode()


class Api:
    """One repository of a registry, spoken to in single requests."""

    def __init__(self, http: httpx.Client, repository: str) -> None:
        self.http = http
        self.repository = repository

    def request(
        self, method: str, path: str, body: bytes | Iterator[bytes] = b"", **headers: str
    ) -> httpx.Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        url = path if path.startswith(("/", "http")) else f"/v2/{self.repository}/{path}"
        return self.http.request(method, url, content=body, headers=fields)

    def start(self) -> str:
        answer = self.request("POST", "blobs/uploads/")
        assert answer.status_code == 202
        return answer.headers["location"]

    def put(self, location: str, body: bytes | Iterator[bytes], named: str) -> httpx.Response:
        join = "&" if "?" in location else "?"
        return self.request("PUT", f"{location}{join}digest={named}", body)

    def push(self, data: bytes) -> str:
        answer = self.put(self.start(), data, digest(data))
        assert answer.status_code == 201, answer.text
        return digest(data)

    def manifest(self, data: bytes, reference: str, content_type: str = MANIFEST) -> httpx.Response:
        return self.request("PUT", f"manifests/{reference}", data, Content_Type=content_type)

    def image(self, reference: str = "t") -> bytes:
        """A pushed image of an empty config and one layer."""
        self.push(b"{}")
        self.push(b"layer")
        data = image(b"{}", b"layer")
        assert self.manifest(data, reference).status_code == 201
        return data


def connect(url: str) -> httpx.Client:
    # Without verification no certificates are loaded, which takes longer than most tests.
    return httpx.Client(base_url=url, verify=False, trust_env=False)


def code(answer: httpx.Response) -> str | None:
    """The error code in the body, if it is an error."""
    if answer.status_code < 400 or not answer.content:
        return None
    return str(answer.json()["errors"][0]["code"])
