"""One repository of a registry: its blobs, manifests and tags (OCI distribution-spec)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlencode

from regpush.digest import INDEXES, MANIFESTS, Descriptor, Digest
from regpush.errors import (
    AuthError,
    RefusedError,
    TransientError,
    VerificationError,
    printable,
)
from regpush.registry import uploads
from regpush.registry.api import RepositoryApi
from regpush.registry.protocol import next_page, parse_tags, repository_scope
from regpush.registry.transport import COMMIT_TIMEOUT_S, Body, Call, Reply
from regpush.registry.uploads import BlobStream

MAX_BLOB_BYTES = 16 << 20
"""What `get_blob` reads into memory at most; configs are far smaller."""
MAX_MANIFEST_BYTES = 4 << 20
"""What registries take at most (distribution-spec, Pushing Manifests)."""
MAX_TAGS = 1000
MAX_TAG_PAGE_BYTES = 4 << 20

_ABSENT = frozenset({404})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest or index as the registry serves it; `data` hashes to `digest`."""

    media_type: str
    data: bytes = field(repr=False)
    digest: Digest


class Repository:
    """Blobs, manifests and tags of one repository; thread-safe.

    Every method raises AuthError, RefusedError, TransientError after all retries, and
    CancelledError. What a body raises while it is sent comes out as it is.
    """

    def __init__(self, api: RepositoryApi) -> None:
        self._api = api

    @property
    def name(self) -> str:
        """`registry/repository`."""
        return self._api.name

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there, with the size the descriptor says."""
        return self._api.endpoint.retry.call(lambda: uploads.has_blob(self._api, descriptor))

    def get_blob(self, descriptor: Descriptor) -> bytes:
        """The blob. Raises VerificationError unless its size and digest are the descriptor's."""
        doing = f"read {descriptor.digest}"
        if descriptor.size > MAX_BLOB_BYTES:
            raise VerificationError(
                f"{self.name}: cannot {doing}: its {descriptor.size} bytes are more than "
                f"the {MAX_BLOB_BYTES} that are read"
            )
        call = self._api.call("GET", f"blobs/{descriptor.digest}", max_reply=descriptor.size)
        data = self._api.request(call, doing).body
        if len(data) != descriptor.size or _hash(data, descriptor.digest) != descriptor.digest:
            raise VerificationError(f"{self.name}: cannot {doing}: other bytes came")
        return data

    def mount_blob(self, descriptor: Descriptor, source: str) -> bool:
        """Take the blob over from the repository `source` of this registry, if it lets us.

        Tried once: whatever goes wrong, the blob can still be uploaded.
        """
        query = urlencode({"mount": str(descriptor.digest), "from": source}, safe=":/")
        call = replace(self._api.call("POST", f"blobs/uploads/?{query}"), body=Body.of(b""))
        try:
            reply = self._api.send(call, repository_scope(source, "pull"))
            if reply.status == 202:
                uploads.abandon(self._api, reply)
            return reply.status == 201 and uploads.has_blob(self._api, descriptor)
        except (AuthError, RefusedError, TransientError):
            return False

    def put_blob(self, descriptor: Descriptor, open_body: Callable[[], Iterator[bytes]]) -> None:
        """Upload a blob whose digest is known.

        `open_body` is called for each attempt and must give the same bytes each time.
        Raises VerificationError where the registry received something else, twice, and
        SourceError where there are more or fewer bytes than the descriptor says.
        """
        uploads.put(self._api, descriptor, open_body)

    def stream_blob(self, media_type: str, open_stream: Callable[[], BlobStream]) -> Descriptor:
        """Upload a blob whose digest its own end tells.

        `open_stream` is called for each attempt. Raises VerificationError where the registry
        received something else, twice.
        """
        return uploads.stream(self._api, media_type, open_stream)

    def get_manifest(self, reference: str) -> Manifest | None:
        """The manifest or index under a tag or digest; None where there is none.

        Raises VerificationError where it is not what the digest, or the registry, says.
        """
        doing = f"read manifest {printable(reference)}"
        call = self._manifest_call("GET", reference)
        reply = self._api.request(call, doing, accept=_ABSENT)
        if not reply.ok:
            return None
        digest = self._digest_of(reply, doing) or Digest.of(reply.body)
        wanted = Digest.parse(reference) if ":" in reference else digest
        for promised in (digest, wanted):
            if _hash(reply.body, promised) != promised:
                raise VerificationError(f"{self.name}: cannot {doing}: it is not {promised}")
        return Manifest(media_type=self._media_type(reply, doing), data=reply.body, digest=wanted)

    def put_manifest(self, data: bytes, media_type: str, reference: str) -> None:
        """Store a manifest under a tag or digest. Raises VerificationError."""
        doing = f"write manifest {printable(reference)}"
        call = replace(
            self._manifest_call("PUT", reference),
            headers=(("Content-Type", media_type),),
            body=Body.of(data),
            read_timeout_s=COMMIT_TIMEOUT_S,
        )
        stored = self._digest_of(self._api.request(call, doing), doing)
        if stored and stored != _hash(data, stored):
            raise VerificationError(f"{self.name}: cannot {doing}: it was stored as {stored}")

    def head_manifest(self, reference: str) -> Digest | None:
        """The digest of the manifest under a tag or digest; None where there is none."""
        doing = f"look for manifest {printable(reference)}"
        reply = self._api.request(
            self._manifest_call("HEAD", reference), doing, accept=_ABSENT | {405}
        )
        if reply.status in _ABSENT:
            return None
        if reply.ok and (digest := self._digest_of(reply, doing)):
            return digest
        manifest = self.get_manifest(reference)
        return manifest.digest if manifest else None

    def list_tags(self) -> tuple[str, ...]:
        """The repository's tags, in the registry's order; the first 1000."""
        tags: dict[str, None] = {}
        call = self._api.call("GET", f"tags/list?n={MAX_TAGS}", max_reply=MAX_TAG_PAGE_BYTES)
        while len(tags) < MAX_TAGS:
            reply = self._api.request(call, "list its tags", accept=_ABSENT)
            before = len(tags)
            tags |= dict.fromkeys(parse_tags(reply.body) if reply.ok else ())
            following = next_page(reply.url, reply.headers.get_list("link"))
            if following is None or len(tags) == before:
                break
            call = replace(call, url=following)
        return tuple(tags)[:MAX_TAGS]

    def _manifest_call(self, method: str, reference: str) -> Call:
        return self._api.call(
            method,
            f"manifests/{quote(reference, safe=':')}",
            tuple(("Accept", media_type) for media_type in (*MANIFESTS, *INDEXES)),
            max_reply=MAX_MANIFEST_BYTES,
        )

    def _digest_of(self, reply: Reply, doing: str) -> Digest | None:
        """What the registry says a manifest's digest is; absence is fine, nonsense is not."""
        text = reply.headers.get("docker-content-digest")
        try:
            return Digest.parse(text) if text else None
        except VerificationError as error:
            raise VerificationError(f"{self.name}: cannot {doing}: {error}") from None

    def _media_type(self, reply: Reply, doing: str) -> str:
        """The media type by the header, else by the manifest itself, which must be JSON."""
        try:
            value = json.loads(reply.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise VerificationError(f"{self.name}: cannot {doing}: it is not a JSON object")
        declared = str(reply.headers.get("content-type", "")).partition(";")[0].strip().lower()
        inner = value.get("mediaType")
        if declared in (*MANIFESTS, *INDEXES) or not isinstance(inner, str):
            return declared
        return inner


def _hash(data: bytes, like: Digest) -> Digest:
    """The digest of `data` by the algorithm of `like`."""
    return Digest(like.algorithm, hashlib.new(like.algorithm, data).hexdigest())
