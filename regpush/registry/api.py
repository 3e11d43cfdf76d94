"""A registry's API as one repository is asked: its paths, its credentials, its scopes."""

from __future__ import annotations

from dataclasses import replace

from regpush.errors import RegpushError
from regpush.registry.auth import Authenticator
from regpush.registry.endpoint import Endpoint
from regpush.registry.failure import failure
from regpush.registry.protocol import MAX_ERROR_BYTES, Scope, parse_problem
from regpush.registry.transport import Call, Reply


class RepositoryApi:
    """Asks one repository; thread-safe. `path` is its name without the registry's."""

    def __init__(
        self, registry: str, path: str, endpoint: Endpoint, auth: Authenticator, scope: Scope
    ) -> None:
        self.name = f"{registry}/{path}"
        self.endpoint = endpoint
        self._path = path
        self._auth = auth
        self._scope = scope

    def call(
        self,
        method: str,
        path: str,
        headers: tuple[tuple[str, str], ...] = (),
        *,
        max_reply: int = MAX_ERROR_BYTES,
    ) -> Call:
        """A request for `path` below the repository."""
        return Call(
            method=method,
            url=self.endpoint.url(f"{self._path}/{path}"),
            api=self.endpoint.api,
            headers=headers,
            max_reply=max_reply,
        )

    def send(self, call: Call, *also: Scope) -> Reply:
        """Send `call` once, whatever the reply. `also`: further scopes that it needs.

        Raises AuthError, RetryableError, RefusedError, VerificationError, CancelledError.
        """
        return self.endpoint.send(call, self._auth, (self._scope, *also))

    def request(self, call: Call, doing: str, *, accept: frozenset[int] = frozenset()) -> Reply:
        """Send `call` until a reply of success, or a status of `accept`, comes.

        Raises as `send`, and `failure` says what.
        """

        def attempt() -> Reply:
            reply = self.send(call)
            if reply.ok or reply.status in accept:
                return reply
            raise self.failure(reply, doing)

        return self.endpoint.retry.call(attempt)

    def farewell(self, call: Call) -> None:
        """Send `call` even when cancelled, wait little, and ignore what comes."""
        self.endpoint.farewell(call, self._auth, (self._scope,))

    def failure(self, reply: Reply, doing: str) -> RegpushError:
        """The error that `reply` is to the task of `doing`."""
        problem = parse_problem(reply.body)
        return failure(
            reply.status,
            replace(problem, words=self._auth.redact(problem.words)),
            doing=f"{self.name}: cannot {doing}",
            retry_after_s=reply.retry_after_s,
        )
