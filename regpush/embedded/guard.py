"""Refuse requests that web pages make through a browser on this machine.

The embedded registry has no logins, so every request that reaches it may write. A page of another
site can send a POST as text/plain without a preflight (Fetch standard, "CORS protocol"). By DNS
rebinding it can send any request; the Host header then names the page's site. A request whose Host
is an IP address is not the work of DNS rebinding.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from regpush.embedded.answers import ApiError
from regpush.errors import printable

_ALWAYS = ("localhost",)
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:@\[\]/\s]+))(?::[0-9]*)?", re.ASCII)


class Guard:
    """ASGI middleware that passes requests to `app` if their Host and Origin are permitted.

    Permitted hosts are IP addresses, localhost and `hosts`.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(name.lower().rstrip(".") for name in (*_ALWAYS, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to a request with a foreign Host or Origin, without reading its body."""
        if scope["type"] == "http" and (error := self._refusal(Headers(scope=scope))):
            response = JSONResponse(error.to_json(), error.status, headers={"Connection": "close"})
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> ApiError | None:
        host = headers.get("Host", "")
        found = _HOST.fullmatch(host)
        name = (found[1] or found[2]).lower().rstrip(".") if found else ""
        if not (name in self._hosts or _is_address(name)):
            shown = printable((name or host)[:100])
            return ApiError(
                "DENIED",
                f"this registry does not answer to the host name '{shown}', only to IP addresses "
                f"and localhost; 'regpush serve --host {shown or 'NAME'}' permits the name",
            )
        origin = headers.get("Origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return ApiError(
                "DENIED", "the Origin header names another host: requests of web pages are refused"
            )
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
