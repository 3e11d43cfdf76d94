"""One repository of one registry: its blobs, manifests and tags.

OCI distribution-spec 1.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from enum import Enum

from msgspec import Struct

from regpush.digest import INDEXES, MANIFESTS, Descriptor, Digest
from regpush.errors import (
    AuthError,
    RefusedError,
    RegpushError,
    TagConflictError,
    TransientError,
    VerificationError,
)
from regpush.events import Listener, Warned
from regpush.http.address import Origin, redirect_location
from regpush.http.exchange import Reply
from regpush.http.headers import content_length, next_link
from regpush.http.retry import Policy, RetryableError
from regpush.reference import RepositoryName
from regpush.registry import tag_list
from regpush.registry.api import Api, Call, MissingBlobsError
from regpush.registry.auth.challenges import Scope
from regpush.registry.hints import HELD_OR_DENIED, MAY_NOT_MOVE
from regpush.registry.protocol import parse_json, parse_problem
from regpush.registry.quirks import is_tag_conflict, may_lack_blobs
from regpush.registry.tag_list import TagList
from regpush.registry.uploads.ladder import BlobStream, Told, Upload, Uploads, untold
from regpush.registry.uploads.lessons import HostMemory

MANIFEST_LIMIT = 4 << 20
"""The maximum bytes of a manifest. Registries must accept that many, and some accept no more."""

CONFIG_LIMIT = 16 << 20
_LOOKERS = 8
_ACCEPT = {"Accept": ", ".join(MANIFESTS + INDEXES)}


class Access(Enum):
    """The purpose for which a repository is opened: pulling, or pushing as well.

    The value is the list of actions in the token's scope.
    """

    PULL = ("pull",)
    PUSH = ("pull", "push")


class Manifest(Struct, frozen=True, kw_only=True):
    """The bytes of a manifest or index as the registry holds them, with media type and digest."""

    media_type: str
    data: bytes
    digest: Digest


class Repository:
    """One repository of one registry; implements `pack.recipe.BlobStore`. Thread-safe.

    Every method raises AuthError, RefusedError, TransientError (after retries) and CancelledError;
    docstrings name only errors beyond these.
    """

    def __init__(
        self,
        api: Api,
        retry: Policy,
        *,
        memory: HostMemory,
        count: Callable[[int], None],
        notify: Listener,
        ahead: Executor,
    ) -> None:
        self._api = api
        self._retry = retry
        self._memory = memory
        self._count = count
        self._notify = notify
        self._ahead = ahead
        self._took_manifests = False  # whether one was stored by its digest in this run
        self._uploads = Uploads(
            api, retry, exists=self._head_blob, count=count, memory=memory, notify=notify
        )

    @property
    def name(self) -> RepositoryName:
        """The repository and its registry."""
        return self._api.name

    def warn(self, message: str) -> None:
        """Warn the user of `message`, with this repository's name before it."""
        self._notify(Warned(message=f"{self.name}: {message}"))

    def close(self) -> None:
        """Delete upload sessions that were opened and not used."""
        self._uploads.close()

    def ask(self, call: Call, *statuses: int) -> Reply:
        """Send a request that the caller composed; returns the reply.

        The reply's status is 2xx or one of `statuses`; for another one the error is raised. The
        body of the request must be bytes, because it may be sent again.
        """
        return self._retry.run(lambda: self._api.expect(call, *statuses))

    def ask_once(self, call: Call) -> Reply:
        """Send a request without retries; returns any reply.

        Raises TransientError where no reply arrived.
        """
        try:
            return self._api.send(call)
        except RetryableError as failure:
            raise failure.error from failure.__cause__

    def is_home(self, url: str) -> bool:
        """Whether `url` belongs to the registry itself, which alone gets our credentials."""
        return Origin.of(url) == self._api.origin

    def redirect_of(self, reply: Reply) -> str:
        """Return the URL that the redirect `reply` leads to.

        Raises RefusedError where that URL must not be followed (`http.address`).
        """
        return redirect_location(reply.url, reply.header("location"), self._api.origin)

    def next_page(self, reply: Reply) -> str:
        """Return the URL of the page of a list that follows `reply`; empty for the last.

        A URL of a host that is neither the registry nor the sender of `reply` is ignored.
        """
        link = next_link(reply.values("link"))
        following = redirect_location(reply.url, link, self._api.origin) if link else ""
        allowed = (self._api.origin, Origin.of(reply.url))
        return following if following and Origin.of(following) in allowed else ""

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the repository holds the blob, in the size that the descriptor states.

        A reply without a size counts as yes. False where the registry cannot tell, or does not
        permit the question.
        """
        return self._retry.run(lambda: self._head_blob(descriptor))

    def get_blob(self, descriptor: Descriptor) -> bytes:
        """Read a small blob, such as a config, into memory.

        Raises VerificationError where the blob is not what `descriptor` says, or is over 16 MiB.
        """
        name = f"{self.name}: blob {descriptor.digest}"
        if descriptor.size > CONFIG_LIMIT:
            raise VerificationError(
                f"{name} has {descriptor.size} bytes; at most {CONFIG_LIMIT} are read"
            )
        call = Call(
            doing=f"reading blob {descriptor.digest.short}",
            method="GET",
            path=f"/blobs/{descriptor.digest}",
            limit=descriptor.size,
            expected=descriptor.size,
        )
        reply = self._retry.run(lambda: self._api.expect(call, 404))
        if reply.status == 404:
            raise VerificationError(
                f"{name} is missing in the registry, though a manifest names it"
            )
        if not reply.whole or len(reply.body) != descriptor.size:
            raise VerificationError(f"{name} does not have the {descriptor.size} bytes it should")
        if not _matches(descriptor.digest, reply.body):
            raise VerificationError(
                f"{name} is damaged: the bytes that the registry sent have another digest"
            )
        return reply.body

    def read_blob(self, descriptor: Descriptor) -> Generator[bytes, None, None]:
        """Yield the bytes of a blob of any size, in blocks of 1 MiB, in bounded memory.

        A broken connection is resumed. Raises VerificationError, before the last block, where the
        bytes are not those of `descriptor`. A generator: close it to stop early.
        """
        from regpush.registry.download import blocks  # most pushes read no layer

        return blocks(self._api, self._retry, descriptor)

    def mount_blob(self, descriptor: Descriptor, source: str) -> bool:
        """Mount the blob from the repository at the path `source` of this registry.

        False where the registry refuses, for whatever reason; the blob must then be uploaded.
        """
        call = Call(
            doing=f"mounting blob {descriptor.digest.short}",
            method="POST",
            path=f"/blobs/uploads/?mount={descriptor.digest}&from={source}",
            more=(Scope(source, Access.PULL.value),),
        )
        if not self._memory.lessons.mounts:
            return False
        try:
            reply = self._api.send(call)
            if reply.status in (405, 501):
                self._memory.give_up_mounts()
            if reply.status == 201:
                return self._head_blob(descriptor)
            if reply.status == 202 and reply.header("location"):
                self._uploads.keep(reply)
        except (AuthError, RefusedError, RetryableError):
            pass  # a mount only saves an upload
        return False

    def upload(self, told: Told = untold) -> Upload:
        """Start the upload of a blob before its bytes exist. `told` is called with its progress."""
        return Upload(self._uploads, told, self._ahead)

    def put_blob(
        self,
        descriptor: Descriptor,
        open_body: Callable[[], Iterator[bytes]],
        told: Told = untold,
    ) -> None:
        """Send a blob whose digest is known.

        `open_body` is called for each attempt and gives equal bytes each time. `told` is called
        with the progress. Raises VerificationError where the registry computes another digest,
        SourceError where the bytes are not those of `descriptor`, and any error that reading the
        body raises.
        """
        with Upload(self._uploads, told) as upload:
            upload.put(descriptor, open_body)

    def stream_blob(self, media_type: str, open_stream: Callable[[], BlobStream]) -> Descriptor:
        """Send a blob whose digest is known only after its last byte; returns its descriptor.

        `open_stream` is called for each attempt. Raises VerificationError where the registry
        computes another digest, and any error that reading the stream raises.
        """
        with Upload(self._uploads, untold) as upload:
            return upload.stream(media_type, open_stream)

    def get_manifest(self, reference: str) -> Manifest | None:
        """Fetch the manifest or index at a tag or digest; None where it does not exist.

        Raises VerificationError where it is over 4 MiB or does not match its digest.
        """
        reply = self._retry.run(lambda: self._api.expect(self._manifest("GET", reference), 404))
        return None if reply.status == 404 else self._verified(reply, reference)

    def head_manifest(self, reference: str) -> Digest | None:
        """Return the digest of the manifest at a tag or digest; None where it does not exist.

        Sends HEAD, and GET where the reply states no digest. Raises VerificationError where the
        manifest that GET returns is over 4 MiB or does not match its digest.
        """
        with suppress(AuthError, RefusedError, TransientError):
            reply = self.ask_once(self._manifest("HEAD", reference))
            if reply.status == 200 and (digest := reply.header("docker-content-digest")):
                return Digest.parse(digest)
        manifest = self.get_manifest(reference)
        return manifest.digest if manifest else None

    def put_manifest(self, data: bytes, media_type: str, reference: str) -> Digest | None:
        """Store a manifest or index under `reference`: a tag, or its digest.

        Returns the digest that the registry states, None if it states none. A tag that must not
        move, but names this manifest already, counts as a success. Raises VerificationError where
        the registry reports the digest of other bytes, MissingBlobsError where it lacks blobs,
        TagConflictError where it does not move the tag.
        """
        doing = f"pushing the manifest {reference}"
        if len(data) > MANIFEST_LIMIT:
            raise RefusedError(
                f"{self.name}: {doing} failed: it has {len(data)} bytes, and registries take "
                f"{MANIFEST_LIMIT} at most"
            )
        call = Call(
            doing=doing,
            method="PUT",
            path=f"/manifests/{reference}",
            headers={"Content-Type": media_type},
            body=data,
        )

        def put() -> Reply:
            reply = self._api.send(call)
            if not 200 <= reply.status < 300:
                return self._kept_tag(reply, call, reference, data)
            self._count(len(data))
            self._took_manifests = self._took_manifests or ":" in reference
            return reply

        try:
            said = self._retry.run(put).header("docker-content-digest")
        except MissingBlobsError as error:
            error.repository, error.document = self.name, data
            raise
        digest = Digest.parse(said) if said else None
        if digest and not _matches(digest, data):
            raise VerificationError(
                f"{self.name}: the registry stored the manifest {reference} as {digest}, "
                "which is not what was sent"
            )
        return digest

    def _kept_tag(self, refusal: Reply, call: Call, reference: str, data: bytes) -> Reply:
        """Return `refusal` as a success, if the tag that was not moved names `data` already.

        Otherwise raises the error that the refusal means.
        """
        failure = self._api.failure(refusal, call.doing)
        if not isinstance(failure, RefusedError):
            raise failure
        problem = parse_problem(refusal.body)
        told = is_tag_conflict(refusal.status, problem)
        unsaid = may_lack_blobs(refusal.status) and not told
        if unsaid and (missing := self._missing(data)):
            raise MissingBlobsError(str(failure), missing)
        if ":" in reference:
            raise failure
        there = self._api.send(self._manifest("GET", reference))
        if there.status == 200 and there.body == data:
            return there
        denied = refusal.status == 403
        if there.status == 200 and (told or (denied and self._took_manifests)):
            raise TagConflictError(f"{failure}; {MAY_NOT_MOVE}") from failure
        if denied and (told or there.status == 200 or self._took_manifests):
            raise RefusedError(f"{failure}; {HELD_OR_DENIED}") from failure
        raise failure

    def _missing(self, data: bytes) -> tuple[Digest, ...]:
        """Return the digests that the manifest `data` names and the repository seems to lack.

        Empty if `data` is not a manifest.
        """
        content = parse_json(data)
        if not isinstance(content, dict):
            return ()

        def lacks(named: Descriptor) -> bool:
            if named.media_type in MANIFESTS + INDEXES:
                return self.head_manifest(str(named.digest)) is None
            return not self.has_blob(named)

        listed = [content.get("config"), *_list(content, "layers"), *_list(content, "manifests")]
        with (
            suppress(RegpushError),
            ThreadPoolExecutor(_LOOKERS, thread_name_prefix="regpush") as pool,
        ):
            named = [Descriptor.from_json(value) for value in listed if value is not None]
            lacking = pool.map(lacks, named)
            return tuple(one.digest for one, gone in zip(named, lacking, strict=True) if gone)
        return ()

    def list_tags(self) -> tuple[str, ...]:
        """List up to 1000 tags, in the registry's order; empty if the registry lists none."""
        return tag_list.read_some(self)

    def all_tags(self) -> TagList:
        """List up to 1000 tags, and warn where there are more.

        Raises RefusedError where the registry knows no such repository.
        """
        found = tag_list.read_all(self)
        if not found.complete:
            self.warn(
                f"the repository has more tags; only the first {len(found.names):,} were read"
            )
        return found

    def _head_blob(self, descriptor: Descriptor) -> bool:
        path = f"/blobs/{descriptor.digest}"
        doing = f"asking for blob {descriptor.digest.short}"
        try:
            reply = self._api.expect(Call(doing=doing, method="HEAD", path=path), 403, 404, 405)
            if reply.status == 403:
                # A reply to HEAD gives no reason, and signed URLs of storage often allow only GET.
                first = {"Range": "bytes=0-0"}
                call = Call(doing=doing, method="GET", path=path, headers=first)
                reply = self._api.expect(call, 404)
        except AuthError:
            return False  # the upload that follows reports the reason
        if reply.status not in (200, 206):
            return False
        # Some registries and proxies omit the length; the digest in the path identifies the blob.
        return content_length(reply.status, reply.headers) in (None, descriptor.size)

    def _manifest(self, method: str, reference: str) -> Call:
        return Call(
            doing=f"reading the manifest {reference}",
            method=method,
            path=f"/manifests/{reference}",
            headers=_ACCEPT,
            limit=MANIFEST_LIMIT,
        )

    def _verified(self, reply: Reply, reference: str) -> Manifest:
        name = f"{self.name}: the manifest {reference}"
        if not reply.whole:
            raise VerificationError(f"{name} is larger than {MANIFEST_LIMIT} bytes")
        digest = Digest.of(reply.body)
        told = [reply.header("docker-content-digest"), reference if ":" in reference else ""]
        for text in filter(None, told):
            wanted = Digest.parse(text)
            if not _matches(wanted, reply.body):
                raise VerificationError(f"{name} does not have the digest {wanted}")
            digest = wanted
        media_type = reply.header("content-type").partition(";")[0].strip().lower()
        if media_type not in MANIFESTS + INDEXES:
            content = parse_json(reply.body)
            own = content.get("mediaType") if isinstance(content, dict) else None
            media_type = own if isinstance(own, str) else media_type
        return Manifest(media_type=media_type, data=reply.body, digest=digest)


def _list(content: Mapping[str, object], key: str) -> list[object]:
    value = content.get(key)
    return value if isinstance(value, list) else []


def _matches(digest: Digest, data: bytes) -> bool:
    return hashlib.new(digest.algorithm, data).hexdigest() == digest.hex
