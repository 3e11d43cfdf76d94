"""Refuse requests that web pages on this machine make through a browser.

The registry has no logins, so every request that reaches it may write. A page of another site can
send a POST as text/plain without a preflight (Fetch standard, "CORS protocol"), and by DNS
rebinding any request: then Host names the page's site. An IP address in Host cannot be rebound.
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
    """ASGI middleware before `app`; `hosts`: names that it answers to, besides addresses."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(name.lower().rstrip(".") for name in (*_ALWAYS, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to a request with another Host or Origin, before its body is read."""
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
                f"this registry does not answer to the host '{shown}': addresses and localhost "
                f"alone; 'regpush serve --host {shown or 'NAME'}' adds a name",
            )
        origin = headers.get("Origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return ApiError("DENIED", "requests of web pages of other origins are refused")
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
