"""The HTTP endpoints that read, upload, mount and delete blobs (distribution-spec, Pushing Blobs).

The embedded registry serves them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from regpush.digest import Digest
from regpush.embedded.answers import ApiError
from regpush.embedded.names import RepositoryName, parse_digest, parse_repository
from regpush.embedded.store import ContentStore
from regpush.embedded.uploads import UploadSession, UploadSessions
from regpush.errors import VerificationError

# Bytes of an upload that are collected before a thread writes them: each call of a thread costs
# about 100 µs.
_BLOCK = 1024 * 1024
_RANGE = re.compile(r"\s*([0-9]{1,18})\s*-\s*([0-9]{0,18})\s*|\s*-[0-9]{1,18}\s*", re.ASCII)
_CONTENT_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})", re.ASCII)


class _BlobResponse(FileResponse):
    chunk_size = _BLOCK


class BlobApi:
    """The endpoints of blobs and of upload sessions.

    Handlers that read a request's body are asynchronous; the others run in Starlette's threads.
    """

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._uploads = UploadSessions(store)

    def routes(self) -> list[Route]:
        """Return the Starlette routes of all blob endpoints, more specific paths first."""
        one_upload = "/v2/{name:path}/blobs/uploads/{upload}"
        blob = "/v2/{name:path}/blobs/{digest}"
        return [
            Route("/v2/{name:path}/blobs/uploads/", self.start, methods=["POST"]),
            Route(one_upload, self.status, methods=["GET"]),
            Route(one_upload, self.add, methods=["PATCH"]),
            Route(one_upload, self.finish, methods=["PUT"]),
            Route(one_upload, self.cancel, methods=["DELETE"]),
            Route(blob, self.read, methods=["GET", "HEAD"]),
            Route(blob, self.delete, methods=["DELETE"]),
        ]

    def read(self, request: Request) -> Response:
        """Answer GET or HEAD of a blob, or of a byte range of it."""
        repository, digest = _blob_of(request)
        file = self._store.blob(repository, digest)
        if file is None:
            raise ApiError("BLOB_UNKNOWN", "the repository has no such blob")
        _ignore_invalid_range(request)
        return _BlobResponse(
            file,
            media_type="application/octet-stream",
            headers={"Docker-Content-Digest": str(digest)},
        )

    def delete(self, request: Request) -> Response:
        """Answer DELETE of a blob: one repository loses it, other repositories keep it."""
        if not self._store.delete_blob(*_blob_of(request)):
            raise ApiError("BLOB_UNKNOWN", "the repository has no such blob")
        return Response(status_code=202)

    async def start(self, request: Request) -> Response:
        """Answer POST: mount a blob, take a whole blob as the body, or open an upload session."""
        repository = parse_repository(request.path_params["name"])
        parameters = request.query_params
        if "mount" in parameters and "from" in parameters:
            digest = parse_digest(parameters["mount"])
            source = parse_repository(parameters["from"])
            if await run_in_threadpool(self._store.mount, repository, digest, source):
                return _created(repository, digest)
        elif "digest" in parameters:
            digest = parse_digest(parameters["digest"])
            upload = self._uploads.start(repository)
            try:
                await _receive(request, upload)
                await self._keep(upload, digest)
            finally:
                self._uploads.end(upload)
            return _created(repository, digest)
        return _progress(self._uploads.start(repository), 202)

    async def status(self, request: Request) -> Response:
        """Answer GET of an upload session: the Range header tells which bytes have arrived."""
        return _progress(self._upload_of(request), 204)

    async def add(self, request: Request) -> Response:
        """Answer PATCH: append the body, with or without a Content-Range, to an upload."""
        async with self._turn(request) as upload:
            _check_range(request, upload)
            await _receive(request, upload)
        return _progress(upload, 202)

    async def finish(self, request: Request) -> Response:
        """Answer PUT: append the body, if any, check the digest, and end the upload."""
        async with self._turn(request) as upload:
            digest = parse_digest(request.query_params.get("digest"))
            _check_range(request, upload)
            await _receive(request, upload)
            try:
                await self._keep(upload, digest)
            finally:
                # An upload with a wrong digest ends too: further bytes cannot correct it.
                self._uploads.end(upload)
        return _created(upload.repository, digest)

    async def cancel(self, request: Request) -> Response:
        """Answer DELETE of an upload session: its bytes are removed."""
        async with self._turn(request) as upload:
            self._uploads.end(upload)
        return Response(status_code=204)

    def _upload_of(self, request: Request) -> UploadSession:
        repository = parse_repository(request.path_params["name"])
        return self._uploads.find(repository, request.path_params["upload"])

    @asynccontextmanager
    async def _turn(self, request: Request) -> AsyncIterator[UploadSession]:
        """Wait for other requests to the upload session, then yield the session, locked.

        An OSError in the `with` block ends the session and is raised again. Raises ApiError
        BLOB_UPLOAD_UNKNOWN if the session ended while this request waited.
        """
        async with self._upload_of(request).turn:
            upload = self._upload_of(request)
            try:
                yield upload
            except OSError:
                self._uploads.end(upload)  # frees the disk, which may be full
                raise

    async def _keep(self, upload: UploadSession, digest: Digest) -> None:
        try:
            await run_in_threadpool(
                self._store.add_blob,
                upload.repository,
                upload.file,
                upload.sha256.hexdigest(),
                digest,
            )
        except VerificationError as error:
            raise ApiError("DIGEST_INVALID", str(error)) from None


async def _receive(request: Request, upload: UploadSession) -> None:
    """Append the request's body to `upload`; a thread writes a block while the next arrives.

    If the client disconnects, the bytes that arrived are kept, so that the client can resume.
    """
    block = bytearray()
    writing: asyncio.Future[None] | None = None
    try:
        async for piece in request.stream():
            block += piece
            if len(block) >= _BLOCK:
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(run_in_threadpool(upload.append, block))
                block = bytearray()
    finally:
        if writing is not None:
            await writing
        if block:
            await run_in_threadpool(upload.append, block)


def _check_range(request: Request, upload: UploadSession) -> None:
    """Check the Content-Range header, if the request has one.

    Raises ApiError RANGE_INVALID if the range does not begin at the end of `upload`, SIZE_INVALID
    if its length is not the Content-Length.
    """
    stated = request.headers.get("Content-Range")
    if stated is None:
        return
    match = _CONTENT_RANGE.fullmatch(stated)
    if match is None or int(match[1]) != upload.size or int(match[2]) < int(match[1]):
        raise ApiError(
            "RANGE_INVALID",
            f"the next chunk begins at byte {upload.size}",
            headers=_position(upload),
        )
    length = int(match[2]) - int(match[1]) + 1
    if request.headers.get("Content-Length") != str(length):
        raise ApiError(
            "SIZE_INVALID", f"Content-Range spans {length} bytes, Content-Length differs"
        )


def _ignore_invalid_range(request: Request) -> None:
    """Remove an invalid Range header from `request`, so that the whole blob is sent.

    Starlette would answer 400. RFC 9110, 14.2 allows a server to ignore a Range that is invalid,
    such as one whose end is before its beginning, or whose unit is unknown.
    """
    unit, _, ranges = request.headers.get("Range", "").partition("=")
    found = [_RANGE.fullmatch(one) for one in ranges.split(",")]
    valid = all(one and (not one[1] or not one[2] or int(one[1]) <= int(one[2])) for one in found)
    if not valid or unit.strip().lower() != "bytes":
        headers = request.scope["headers"]
        request.scope["headers"] = [pair for pair in headers if pair[0] != b"range"]


def _blob_of(request: Request) -> tuple[RepositoryName, Digest]:
    return (
        parse_repository(request.path_params["name"]),
        parse_digest(request.path_params["digest"]),
    )


def _created(repository: RepositoryName, digest: Digest) -> Response:
    return Response(
        status_code=201,
        headers={
            "Location": f"/v2/{repository}/blobs/{digest}",
            "Docker-Content-Digest": str(digest),
        },
    )


def _progress(upload: UploadSession, status: int) -> Response:
    return Response(status_code=status, headers=_position(upload))


def _position(upload: UploadSession) -> dict[str, str]:
    return {
        "Location": f"/v2/{upload.repository}/blobs/uploads/{upload.identifier}",
        # An upload of no byte and one of a single byte both have `0-0`, like in CNCF distribution.
        "Range": f"0-{max(upload.size - 1, 0)}",
        "Docker-Upload-UUID": upload.identifier,
    }
