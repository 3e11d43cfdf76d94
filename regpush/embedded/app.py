"""The application: every route, and every failure as an error body."""

from __future__ import annotations

from contextlib import suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regpush.embedded.answers import ApiError
from regpush.embedded.blob_api import BlobApi
from regpush.embedded.manifest_api import ManifestApi
from regpush.embedded.store import Store

# How much of a refused body is still read (bytes), so that a client that sends all of it
# before it listens finds the answer and not a reset connection.
_DRAIN_LIMIT = 64 * 1024 * 1024


def application(store: Store) -> Starlette:
    """The ASGI application that serves `store`."""
    app = Starlette(
        routes=[
            Route("/v2/", _base, methods=["GET"]),
            *ManifestApi(store).routes(),
            *BlobApi(store).routes(),
        ],
        exception_handlers={
            ApiError: _refuse,
            HTTPException: _not_offered,
            ClientDisconnect: _gone,
        },
    )
    app.router.redirect_slashes = False  # a client does not expect to be sent elsewhere
    return app


def _base(_request: Request) -> Response:
    """The check of the version of the API."""
    return JSONResponse({}, headers={"Docker-Distribution-API-Version": "registry/2.0"})


async def _refuse(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):  # Starlette's types do not say what it promises
        raise error
    if "Expect" not in request.headers:  # such a client waits for us before it sends
        with suppress(ClientDisconnect, RuntimeError):  # gone, or the body was read whole
            await _drain(request)
    return JSONResponse(error.to_json(), status_code=error.status, headers=error.headers)


async def _not_offered(request: Request, error: Exception) -> Response:
    """Unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    answer = ApiError(
        "UNSUPPORTED",
        "this registry does not offer that",
        status=error.status_code,
        headers=error.headers,
    )
    return await _refuse(request, answer)


async def _drain(request: Request) -> None:
    drained = 0
    async for piece in request.stream():
        drained += len(piece)
        if drained > _DRAIN_LIMIT:
            break


async def _gone(_request: Request, _error: Exception) -> Response:
    """For the log: nobody is there to read it."""
    return Response(status_code=400)
