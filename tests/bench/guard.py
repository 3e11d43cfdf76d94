"""A registry as clouds run them: Bearer tokens from one server, blobs by 307 from another."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tests.registry_client.front import Answer, Asked, front, pass_on

_TOKEN = "a-token-for-everything"
_BLOB = re.compile(r"/v2/.+/blobs/sha256:[0-9a-f]{64}")


@contextmanager
def guarded(registry: str, forward: Callable[[str], str]) -> Iterator[str]:
    """`127.0.0.1:PORT` of a server in front of the registry at `registry`.

    `forward` gives the address at which clients reach a server: that of the tokens, and that
    to which requests for blobs are sent on. For pushes that send little: bodies pass through
    this process whole.
    """
    with ExitStack() as stack:
        # By name: crane sends no credentials to a realm at a loopback address.
        tokens = forward(stack.enter_context(front(_tokens)).host).replace("127.0.0.1", "localhost")
        blobs = forward(stack.enter_context(front(pass_on(registry))).host)
        serve = pass_on(registry)

        def behaviour(asked: Asked) -> Answer:
            if asked.headers.get("authorization") != f"Bearer {_TOKEN}":
                challenge = f'Bearer realm="http://{tokens}/token",service="bench"'
                return Answer(401, {"WWW-Authenticate": challenge}, b'{"errors":[]}')
            if asked.method in ("GET", "HEAD") and _BLOB.fullmatch(asked.target):
                there = serve(Asked("HEAD", asked.target, asked.headers, b""))
                if there.status == 200:
                    return Answer(307, {"Location": f"http://{blobs}{asked.target}"})
            return serve(asked)

        yield stack.enter_context(front(behaviour)).host


def _tokens(asked: Asked) -> Answer:
    body = json.dumps({"token": _TOKEN, "access_token": _TOKEN, "expires_in": 300}).encode()
    return Answer(200, {"Content-Type": "application/json"}, body)
