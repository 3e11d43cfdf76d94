"""Send authorised requests to one repository's API, follow redirects, turn failures into errors.

OCI distribution-spec; docs/internals/registries.md sections 2 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from msgspec import Struct, field

from regpush.digest import Digest
from regpush.errors import (
    AuthError,
    RefusedError,
    RegpushError,
    TransientError,
    VerificationError,
)
from regpush.http.address import Origin, redirect_location
from regpush.http.exchange import ERROR_LIMIT, Exchange, Reply, Request
from regpush.http.headers import retry_after_s
from regpush.http.pace import Pace
from regpush.http.redaction import Redactor
from regpush.http.retry import RetryableError
from regpush.http.wire import NoConnectionError, UnansweredError
from regpush.reference import RepositoryName
from regpush.registry.auth.authorizer import Authorizer
from regpush.registry.auth.challenges import Scope
from regpush.registry.auth.record import Credentials
from regpush.registry.hints import Trouble, hint, led_astray, unreachable
from regpush.registry.host import Host
from regpush.registry.protocol import (
    REDIRECTS,
    Outcome,
    classify,
    digests_in,
    parse_problem,
)

HOPS = 10
"""The maximum number of redirects that are followed in a row."""


class MissingBlobsError(TransientError):
    """A manifest was refused because the registry lacks blobs that it names.

    `digests`: the digests in the registry's error body; it may name none, or wrong ones.
    `put_manifest` sets `repository`, which refused the manifest, and `document`, the bytes of the
    manifest.
    """

    def __init__(self, message: str, digests: tuple[Digest, ...]) -> None:
        super().__init__(message)
        self.digests = digests
        self.repository = RepositoryName("", "")
        self.document = b""


class Call(Struct, frozen=True, kw_only=True, eq=False):
    """One request to a repository; `doing` says in messages what failed ("listing tags failed: …").

    `path` is below `/v2/NAME`; `url` replaces it where the registry gave an address. `more`: token
    scopes beside the repository's own, such as `pull` on the source of a mount. A redirect of a GET
    or HEAD is followed at most `hops` times; with 0 the redirect is the reply. The other fields are
    those of `exchange.Request`.
    """

    doing: str
    method: str
    path: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""
    body_size: int | None = None
    limit: int | None = ERROR_LIMIT
    expected: int | None = None
    patience: float = 1.0
    more: Sequence[Scope] = ()
    hops: int = HOPS


class Api:
    """Requests to one repository, or without a `scope` to a registry's root. Thread-safe.

    `farewell` sends requests that must be sent even after a cancellation. `pace` limits the rate of
    requests to the registry; requests to other hosts are not limited.
    """

    def __init__(
        self,
        *,
        name: RepositoryName,
        scope: Scope | None,
        host: Host,
        exchange: Exchange,
        farewell: Exchange,
        pace: Pace,
        credentials: Callable[[], Credentials | None],
        redactor: Redactor,
    ) -> None:
        self.name = name
        self._repository = scope.repository if scope else ""
        self._host = host
        self._exchange = exchange
        self._farewell = farewell
        self._pace = pace
        self._authorizer = Authorizer(
            name=name,
            scope=scope,
            origin=lambda: host.origin,
            credentials=credentials,
            fetch=self._fetch,
            redactor=redactor,
        )

    @property
    def origin(self) -> Origin:
        """The origin of the registry."""
        return self._host.origin

    @property
    def challenged(self) -> bool:
        """Whether the registry has asked for credentials in this run."""
        return self._authorizer.challenged

    @property
    def account(self) -> str:
        """The user and the source of the credentials in use, for messages.

        Empty before any are needed.
        """
        return self._authorizer.account

    @property
    def granted(self) -> frozenset[str] | None:
        """The actions that the Bearer token allows, read from its claims.

        None if they cannot be read.
        """
        return self._authorizer.granted

    def send(self, call: Call) -> Reply:
        """Send one authorised request; returns any reply but a 401.

        Raises AuthError; RetryableError where no reply arrived, or a 401 answered a body that
        cannot be sent twice; CancelledError; and any error that the iterator `call.body` raises.
        """
        refreshed = False
        pinged = False
        while True:
            # The URL is made anew each time: the first reply may turn http into https.
            url = call.url or f"{self._host.base}/v2/{self._repository}{call.path}"
            used = self._authorizer.header(call.more)
            request = Request(
                method=call.method,
                url=url,
                headers={**call.headers, **({"Authorization": used} if used else {})},
                body=call.body,
                body_size=call.body_size,
                limit=call.limit,
                expected=call.expected,
                patience=call.patience,
            )
            reply = self._follow(request, call.doing, hops=call.hops)
            if reply.status != 401 or Origin.of(reply.url) != self.origin:
                return reply
            if refreshed:
                raise self._denied(reply)
            understood = self._authorizer.learn(reply, used, call.more)
            if not understood and not pinged:
                pinged = True
                understood = self._ping()
            if not understood:
                raise self._denied(reply)
            refreshed = used is not None
            if not isinstance(call.body, bytes):
                raise RetryableError(self._denied(reply), once=True)

    def expect(self, call: Call, *statuses: int) -> Reply:
        """Send one authorised request; returns a reply with a status of 2xx or one of `statuses`.

        Raises the error that `failure` returns for any other reply, and the errors of `send`.
        """
        reply = self.send(call)
        if 200 <= reply.status < 300 or reply.status in statuses:
            return reply
        raise self.failure(reply, call.doing)

    def outcome(self, reply: Reply) -> Outcome:
        """Return the meaning of a reply's status and error code."""
        return classify(reply.status, parse_problem(reply.body).code)

    def failure(self, reply: Reply, doing: str) -> RegpushError | RetryableError:
        """Return the error for a reply that is not a success.

        `doing` names the request in the message. The error is a RetryableError where another
        attempt may succeed.
        """
        problem = parse_problem(reply.body)
        words = self._authorizer.words(reply.body)
        trouble = Trouble(
            name=self.name,
            method=reply.method,
            status=reply.status,
            code=problem.code,
            words=words,
            anonymous=self._authorizer.anonymous,
        )
        next_step = hint(trouble)
        at = Origin.of(reply.url)
        says = f"{at.host} answered {reply.status}{': ' if words else ''}{words}"
        if at != self.origin:
            says += f" ({led_astray(self.origin.with_port, at.with_port)})"
        if reply.status == 403 and self.account:
            says += f" (credentials: {self.account})"
        what = f"{self.name}: {doing} failed: {says}{'; ' if next_step else ''}{next_step}"
        match classify(reply.status, problem.code):
            case Outcome.BUSY:
                after = retry_after_s(reply.header("retry-after"), reply.header("date"))
                return RetryableError(TransientError(what), after_s=after)
            case Outcome.UPLOAD_LOST:
                return RetryableError(TransientError(what))
            case Outcome.BAD_DIGEST:
                return RetryableError(VerificationError(what), once=True)
            case Outcome.FAILED:
                return TransientError(what)
            case Outcome.BLOB_UNKNOWN:
                return MissingBlobsError(what, digests_in(reply.body))
            case Outcome.UNAUTHORIZED:
                return self._denied(reply)
            case Outcome.MOVED:
                return RefusedError(f"{what}, a redirect that this request may not follow")
            case _:
                return RefusedError(what)

    def abandon(self, url: str) -> None:
        """Send DELETE for an upload session, even after a cancellation; the reply is ignored."""
        header = self._authorizer.held() if Origin.of(url) == self.origin else None
        request = Request(
            method="DELETE",
            url=url,
            headers={"Authorization": header} if header else {},
        )
        # A session that could not be deleted expires at the registry by itself.
        with suppress(UnansweredError, RegpushError):
            self._farewell.send(self._host.trusting(request))

    def _denied(self, reply: Reply) -> AuthError:
        words = self._authorizer.words(reply.body)
        return self._authorizer.denied(f"{reply.status}{': ' if words else ''}{words}")

    def _ping(self) -> bool:
        """Read the challenge at the API's root, for a registry whose 401 elsewhere has none.

        Returns whether there is a challenge.
        """
        request = Request(method="GET", url=f"{self._host.base}/v2/")
        reply = self._follow(request, "authentication")
        return reply.status == 401 and self._authorizer.learn(reply, None)

    def _fetch(self, request: Request) -> Reply:
        return self._follow(request, "asking for a token", home=Origin.of(request.url))

    def _follow(
        self, request: Request, doing: str, *, home: Origin | None = None, hops: int = HOPS
    ) -> Reply:
        """Send a request and follow at most `hops` redirects; returns the last reply.

        A GET or HEAD follows every redirect, another method only 307 and 308. A body that can be
        read only once is not sent again here, and neither is a body for a token server, which holds
        secrets. `home` is the token server's origin, None for the registry's; the Authorization
        header is sent to that origin alone.
        """
        for _ in range(hops + 1):
            away = Origin.of(request.url) != (home or self.origin)
            allowed = _unauthorised(request) if away else request
            try:
                reply = self._host.send(allowed) if away or home else self._paced(allowed)
            except UnansweredError as error:
                raise RetryableError(self._unreachable(error, request.url, doing, home)) from error
            except RefusedError as error:
                if not away:
                    raise
                raise RefusedError(f"{error}; {self._led_to(request.url)}") from error
            location = reply.header("location")
            reading = request.method in ("GET", "HEAD")
            again = reply.status in (307, 308) and isinstance(request.body, bytes) and not home
            moved = reply.status in REDIRECTS and (reading or again)
            if not (hops and moved and location):
                return reply
            target = redirect_location(reply.url, location, home or self.origin)
            if reading and not home and Origin.of(target) != self.origin:
                self._host.storage = Origin.of(target)
            request = replace(request, url=target)
        raise RefusedError(f"{self.name}: {doing} failed: more than {hops} redirects")

    def _paced(self, request: Request) -> Reply:
        with self._pace.turn():
            reply = self._host.send(request)
        after = reply.header("retry-after")
        if reply.status == 429 or (reply.status == 503 and after):
            self._pace.slower(retry_after_s(after, reply.header("date")))
        elif reply.status < 500:
            self._pace.well()
        return reply

    def _unreachable(
        self, error: UnansweredError, url: str, doing: str, home: Origin | None
    ) -> TransientError:
        where = Origin.of(url)
        led = where not in (self.origin, home)
        if isinstance(error, NoConnectionError):
            step = self._led_to(url) if led else unreachable(str(error))
            return TransientError(f"{self.name}: cannot reach {where.with_port}: {error}; {step}")
        step = f"; {self._led_to(url)}" if led else ""
        return TransientError(f"{self.name}: {doing} failed at {where.with_port}: {error}{step}")

    def _led_to(self, url: str) -> str:
        return led_astray(self.origin.with_port, Origin.of(url).with_port)


def _unauthorised(request: Request) -> Request:
    headers = {k: v for k, v in request.headers.items() if k.lower() != "authorization"}
    return replace(request, headers=headers)
