"""The embedded registry as an ASGI application: its routes, and its replies to failures."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Collection
from contextlib import suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regpush.embedded.answers import ApiError
from regpush.embedded.blob_api import BlobApi
from regpush.embedded.guard import Guard
from regpush.embedded.manifest_api import ManifestApi
from regpush.embedded.store import ContentStore
from regpush.errors import printable

# Maximum bytes that are read of a refused request's body. A client that sends its whole body
# before it reads the reply would otherwise see a reset connection.
_DRAIN_LIMIT = 64 * 1024 * 1024

_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger("regpush.embedded")


def application(store: ContentStore, hosts: Collection[str] = ()) -> Starlette:
    """Return the ASGI application that serves `store`.

    It answers requests whose Host header is an IP address, localhost, or one of `hosts`.
    """
    app = Starlette(
        middleware=[Middleware(Guard, hosts=hosts)],
        routes=[
            Route("/v2/", _base, methods=["GET"]),
            *ManifestApi(store).routes(),
            *BlobApi(store).routes(),
        ],
        exception_handlers={
            ApiError: _refuse,
            HTTPException: _not_offered,
            OSError: _Disk(store.directory).failed,
            ClientDisconnect: _gone,
        },
    )
    app.router.redirect_slashes = False  # clients of registries do not expect redirects
    return app


def _base(_request: Request) -> Response:
    """Answer `GET /v2/`, with which clients check that the server is a registry."""
    return JSONResponse({}, headers={"Docker-Distribution-API-Version": "registry/2.0"})


async def _refuse(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):  # Starlette's types are wider than what it passes
        raise error
    if "Expect" not in request.headers:  # a client with Expect waits for a reply before it sends
        with suppress(ClientDisconnect, RuntimeError):  # the client left, or the body was read
            await _drain(request)
    return JSONResponse(error.to_json(), status_code=error.status, headers=error.headers)


async def _not_offered(request: Request, error: Exception) -> Response:
    """Answer a request for an unknown path or method."""
    if not isinstance(error, HTTPException):
        raise error
    answer = ApiError(
        "UNSUPPORTED",
        f"this registry does not support {request.method} {printable(request.url.path[:200])}",
        status=error.status_code,
        headers=error.headers,
    )
    return await _refuse(request, answer)


class _Disk:
    """Answers requests that fail with OSError: status 507 if the disk is full, else 500.

    Logs each errno once.
    """

    def __init__(self, directory: os.PathLike[str]) -> None:
        self._directory = directory
        self._logged: set[int | None] = set()

    async def failed(self, request: Request, error: Exception) -> Response:
        """Return status 507 for an OSError of a full disk, 500 for another; raise other errors."""
        if not isinstance(error, OSError):
            raise error
        reason = error.strerror or "input or output failed"
        said = f"the registry cannot write to {self._directory}: {reason.lower()}"
        if error.errno not in self._logged:
            self._logged.add(error.errno)
            _log.error("%s", said)
        status = 507 if error.errno in _FULL else 500
        return await _refuse(request, ApiError("DENIED", said, status=status))


async def _drain(request: Request) -> None:
    drained = 0
    async for piece in request.stream():
        drained += len(piece)
        if drained > _DRAIN_LIMIT:
            break


async def _gone(_request: Request, _error: Exception) -> Response:
    """Return a reply for a client that disconnected; it appears in the request log only."""
    return Response(status_code=400)
