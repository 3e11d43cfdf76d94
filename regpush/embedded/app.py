"""The routes of the distribution-spec over a `Storage`.

Handlers that are plain functions run in worker threads; those that read a body hand it on
in blocks, so that the memory for an upload does not depend on its size.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from regpush.digest import Digest
from regpush.embedded.errors import Code, OutOfOrderError, RequestError, TooLargeError
from regpush.embedded.manifest import MAX_SIZE
from regpush.embedded.names import Name, parse_digest, parse_manifest_reference, parse_name
from regpush.embedded.storage import Storage, Upload

_BLOCK = 1024 * 1024  # bytes that go to a thread at once
_CONTENT_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)
_NOT_FOUND = {
    Code.BLOB_UNKNOWN,
    Code.BLOB_UPLOAD_UNKNOWN,
    Code.MANIFEST_UNKNOWN,
    Code.NAME_UNKNOWN,
}
_CLIENT_CLOSED = 499  # nobody reads this answer


def application(storage: Storage) -> Starlette:
    """The ASGI application that serves `storage`."""
    registry = _Registry(storage)
    blob, upload = "/v2/{name:path}/blobs/{digest}", "/v2/{name:path}/blobs/uploads/{upload}"
    manifest = "/v2/{name:path}/manifests/{reference}"
    app = Starlette(
        routes=[
            Route("/v2/", _version, methods=["GET"]),
            Route("/v2/_catalog", registry.catalog, methods=["GET"]),
            Route("/v2/{name:path}/tags/list", registry.tags, methods=["GET"]),
            Route("/v2/{name:path}/blobs/uploads/", registry.start_upload, methods=["POST"]),
            Route(upload, registry.upload_status, methods=["GET"]),
            Route(upload, registry.append, methods=["PATCH"]),
            Route(upload, registry.finish_upload, methods=["PUT"]),
            Route(upload, registry.discard_upload, methods=["DELETE"]),
            Route(blob, registry.get_blob, methods=["GET"]),
            Route(blob, registry.delete_blob, methods=["DELETE"]),
            Route(manifest, registry.get_manifest, methods=["GET"]),
            Route(manifest, registry.put_manifest, methods=["PUT"]),
            Route(manifest, registry.delete_manifest, methods=["DELETE"]),
        ],
        exception_handlers={
            RequestError: _refused,
            HTTPException: _no_route,
            ClientDisconnect: _disconnected,
            OSError: _disk_failed,
        },
    )
    app.router.redirect_slashes = False
    return app


class _Registry:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    # Blobs

    def get_blob(self, request: Request) -> Response:
        digest = parse_digest(request.path_params["digest"])
        path = self._storage.blob(_name(request), digest)
        return _BlobResponse(path, headers=_digest_header(digest))

    def delete_blob(self, request: Request) -> Response:
        digest = parse_digest(request.path_params["digest"])
        self._storage.delete_blob(_name(request), digest)
        return Response(status_code=202)

    # Uploads

    async def start_upload(self, request: Request) -> Response:
        name, query = _name(request), request.query_params
        if "mount" in query and "from" in query:
            return await run_in_threadpool(self._mount, name, query["mount"], query["from"])
        if "digest" not in query:
            return _upload_state(await run_in_threadpool(self._storage.start, name), 202)
        digest = parse_digest(query["digest"])
        upload = await run_in_threadpool(self._storage.start, name)
        try:
            return await self._receive_last(request, upload, digest)
        finally:
            self._storage.discard(upload)

    def _mount(self, name: Name, mount: str, source: str) -> Response:
        # What cannot be mounted, and be it for a bad argument, is to be uploaded.
        with contextlib.suppress(RequestError):
            digest = parse_digest(mount)
            if self._storage.mount(digest, source=parse_name(source), target=name):
                return _created(f"/v2/{name}/blobs/{digest}", digest)
        return _upload_state(self._storage.start(name), 202)

    def upload_status(self, request: Request) -> Response:
        return _upload_state(self._upload(request), 204)

    async def append(self, request: Request) -> Response:
        upload = self._upload(request)
        with upload.writing(_offset(request, upload)):
            await _receive(request, upload)
        return _upload_state(upload, 202)

    async def finish_upload(self, request: Request) -> Response:
        upload = self._upload(request)
        digest = parse_digest(request.query_params.get("digest"))
        return await self._receive_last(request, upload, digest)

    async def _receive_last(self, request: Request, upload: Upload, digest: Digest) -> Response:
        with upload.writing(_offset(request, upload)):
            await _receive(request, upload)
            await run_in_threadpool(self._storage.finish, upload, digest)
        return _created(f"/v2/{upload.name}/blobs/{digest}", digest)

    def discard_upload(self, request: Request) -> Response:
        self._storage.discard(self._upload(request))
        return Response(status_code=204)

    def _upload(self, request: Request) -> Upload:
        return self._storage.upload(_name(request), request.path_params["upload"])

    # Manifests

    def get_manifest(self, request: Request) -> Response:
        reference = parse_manifest_reference(request.path_params["reference"])
        manifest = self._storage.manifest(_name(request), reference)
        return Response(
            manifest.data,
            media_type=manifest.media_type,
            headers=_digest_header(manifest.digest),
        )

    async def put_manifest(self, request: Request) -> Response:
        name = _name(request)
        reference = parse_manifest_reference(request.path_params["reference"])
        data = await _read_manifest(request)
        content_type = request.headers.get("content-type", "")
        digest = await run_in_threadpool(
            self._storage.put_manifest, name, reference, data, content_type
        )
        return _created(f"/v2/{name}/manifests/{digest}", digest)

    def delete_manifest(self, request: Request) -> Response:
        reference = parse_manifest_reference(request.path_params["reference"])
        self._storage.delete_manifest(_name(request), reference)
        return Response(status_code=202)

    # Lists

    def tags(self, request: Request) -> Response:
        name = _name(request)
        return _page(request, {"name": name}, "tags", self._storage.tags(name))

    def catalog(self, request: Request) -> Response:
        return _page(request, {}, "repositories", self._storage.repositories())


class _BlobResponse(FileResponse):
    chunk_size = _BLOCK
    media_type = "application/octet-stream"


def _version(_request: Request) -> Response:
    return _json({}, headers={"Docker-Distribution-API-Version": "registry/2.0"})


def _name(request: Request) -> Name:
    return parse_name(request.path_params["name"])


def _offset(request: Request, upload: Upload) -> int | None:
    """Where the body's bytes belong; None without a Content-Range. Raises OutOfOrderError."""
    text = request.headers.get("content-range")
    if text is None:
        return None
    match = _CONTENT_RANGE.fullmatch(text)
    length = request.headers.get("content-length")
    if match is None or length is None or int(match[2]) - int(match[1]) + 1 != int(length):
        raise OutOfOrderError(
            "Content-Range is not 'first-last' of as many bytes as Content-Length says",
            upload.size,
        )
    return int(match[1])


async def _receive(request: Request, upload: Upload) -> None:
    pieces: list[bytes] = []
    gathered = 0
    async for piece in request.stream():
        pieces.append(piece)
        gathered += len(piece)
        if gathered >= _BLOCK:
            await run_in_threadpool(upload.append, b"".join(pieces))
            pieces, gathered = [], 0
    if gathered:
        await run_in_threadpool(upload.append, b"".join(pieces))


async def _read_manifest(request: Request) -> bytes:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_SIZE:
            break  # enough to see that it is too large
    return bytes(data)


def _upload_state(upload: Upload, status: int) -> Response:
    # The end is inclusive, so 0-0 stands for one byte and, as everywhere, for none.
    return Response(
        status_code=status,
        headers={
            "Location": f"/v2/{upload.name}/blobs/uploads/{upload.identifier}",
            "Range": f"0-{max(upload.size - 1, 0)}",
            "Docker-Upload-UUID": upload.identifier,
        },
    )


def _created(location: str, digest: Digest) -> Response:
    return Response(status_code=201, headers={"Location": location, **_digest_header(digest)})


def _digest_header(digest: Digest) -> dict[str, str]:
    return {"Docker-Content-Digest": str(digest)}


def _page(request: Request, body: dict[str, object], key: str, names: list[str]) -> Response:
    """`names` after `last`, `n` at most; a Link to the rest, if any (RFC 5988)."""
    last, count = request.query_params.get("last", ""), request.query_params.get("n")
    names = [name for name in names if name > last]
    headers = {}
    if count is not None:
        if not _COUNT.fullmatch(count):
            raise RequestError(Code.PAGINATION_NUMBER_INVALID, "n is not a number")
        page = names[: int(count)]
        if page and len(page) < len(names):
            rest = f"{request.url.path}?n={count}&last={quote(page[-1], safe='')}"
            headers["Link"] = f'<{rest}>; rel="next"'
        names = page
    return _json({**body, key: names}, headers=headers)


def _json(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    data = json.dumps(value).encode()
    return Response(data, status, headers, media_type="application/json")


def _errors(code: Code, message: str, status: int, headers: Mapping[str, str]) -> Response:
    return _json({"errors": [{"code": code, "message": message}]}, status=status, headers=headers)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101  # registered for nothing else
    status, headers = 400, {}
    if isinstance(error, OutOfOrderError):
        status, headers = (
            416,
            {
                "Range": f"0-{max(error.size - 1, 0)}",
                "Location": request.url.path,
            },
        )
    elif isinstance(error, TooLargeError):
        status = 413
    elif error.code in _NOT_FOUND:
        status = 404
    return _errors(error.code, str(error), status, headers)


def _no_route(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for nothing else
    return _errors(Code.UNSUPPORTED, error.detail, error.status_code, error.headers or {})


def _disk_failed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)  # noqa: S101  # registered for nothing else
    return _errors(Code.UNKNOWN, f"the registry's disk failed: {error.strerror}", 500, {})


def _disconnected(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED)
