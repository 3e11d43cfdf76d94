"""Referrers of an image (SBOMs, provenance, signatures): attach, list and fetch them.

OCI distribution-spec 1.1, "Pushing Manifests with Subject" and "Listing Referrers";
docs/internals/registries.md section 2. For a registry without the referrers API, the list of an
image's referrers is kept at a tag (`referrers_tag`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from regpush.concurrency import Cancellation, parallel
from regpush.digest import Descriptor, Digest
from regpush.errors import AuthError, RefusedError, TransientError, VerificationError
from regpush.registry import referrers_list, referrers_tag
from regpush.registry.api import MissingBlobsError
from regpush.registry.protocol import parse_json
from regpush.registry.repository import Repository

if TYPE_CHECKING:
    from regpush.registry.artifact import Provider

EMPTY = Descriptor.of(b"{}", "application/vnd.oci.empty.v1+json")
"""The config of an artifact without one (image-spec, manifest.md)."""

_TITLE = "org.opencontainers.image.title"
_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A document to attach to an image, such as an SBOM.

    `media_type`: the media type of the document, which is the artifact's type too. `title`: a file
    name for saving it. `annotations`: annotations of the artifact's manifest.
    """

    media_type: str
    data: bytes = field(repr=False)
    title: str
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def layer(self) -> Descriptor:
        """The descriptor of the document, which is the artifact's only layer."""
        return Descriptor(
            media_type=self.media_type,
            digest=Digest.of(self.data),
            size=len(self.data),
            annotations=((_TITLE, self.title),),
        )


class Referrer(Struct, frozen=True, kw_only=True):
    """A manifest that refers to an image, as a list of referrers describes it.

    `artifact_type` is empty if the list does not state it.
    """

    descriptor: Descriptor
    artifact_type: str

    @classmethod
    def from_json(cls, value: object) -> Referrer:
        """Read one entry of a list of referrers. Raises VerificationError where it is malformed."""
        said = value.get("artifactType") if isinstance(value, Mapping) else None
        return cls(
            descriptor=Descriptor.from_json(value),
            artifact_type=said if isinstance(said, str) else "",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the entry for a list of referrers, as JSON."""
        return {**self.descriptor.to_json(), "artifactType": self.artifact_type}


def list_referrers(
    repository: Repository, subject: Digest, artifact_type: str | None = None
) -> tuple[Referrer, ...]:
    """List the referrers of `subject` in the registry's order; only of `artifact_type` if given.

    Sends one request, and a second one to a registry without the referrers API. Raises
    VerificationError for a malformed list.
    """
    entries = referrers_list.ask(repository, subject, artifact_type).entries
    if entries is not None:
        return tuple(_parsed(entries))
    try:
        kept = _parsed(referrers_tag.read(repository, subject))
    except referrers_tag.NoListError:
        return ()
    return tuple(one for one in kept if artifact_type in (None, one.artifact_type))


def fetch(repository: Repository, referrer: Referrer) -> Attachment:
    """Download the document of the artifact `referrer` and check it against its digest.

    Raises RefusedError where the registry lacks the artifact that its list names, VerificationError
    for an artifact that does not hold exactly one document.
    """
    digest = referrer.descriptor.digest
    manifest = repository.get_manifest(str(digest))
    if manifest is None:
        raise RefusedError(
            f"{repository.name}: the registry lacks {digest}, which its list of referrers names"
        )
    head = parse_json(manifest.data)
    layers = head.get("layers") if isinstance(head, dict) else None
    if not isinstance(layers, list) or len(layers) != 1:
        raise VerificationError(
            f"{repository.name}: the artifact {digest} does not hold exactly one document"
        )
    layer = Descriptor.from_json(layers[0])
    return Attachment(
        media_type=layer.media_type,
        data=repository.get_blob(layer),
        title=layer.annotation(_TITLE) or "",
        annotations=referrer.descriptor.annotations,
    )


def attach(
    repository: Repository,
    subject: Descriptor,
    artifacts: Sequence[Attachment],
    *,
    cancel: Cancellation,
) -> tuple[Referrer, ...]:
    """Attach `artifacts` to the manifest `subject`; returns those that were not attached before.

    An artifact that is listed already is not sent again. Raises RefusedError where the registry has
    no referrers API and no list can be kept at a tag, TransientError where other pushes keep
    overwriting the list at the tag.
    """
    # The import of oras takes 150 ms, which only a push with attachments should pay.
    from regpush.registry.artifact import Provider

    provider = Provider(repository)
    made = [_Made(artifact, *provider.describe(artifact, subject)) for artifact in artifacts]
    asked = _ask(repository, subject.digest)
    before = _kept(repository, subject.digest) if asked is _Lists.NONE else asked
    there = set() if isinstance(before, _Lists) else _digests(before)
    new = [one for one in made if one.referrer.descriptor.digest not in there]
    if not new:
        return ()
    referrers = [one.referrer for one in new]
    known = all(parallel(_AT_ONCE, new, lambda one: _send(one, provider, repository), cancel))
    if not known and not isinstance(asked, _Lists):
        # The registry has the API, but did not acknowledge the subject: look at its list.
        known = _lists(repository, subject.digest, referrers)
    if asked is _Lists.NONE or not known:
        entries = [referrer.to_json() for referrer in referrers]
        referrers_tag.keep(repository, subject.digest, entries, cancel=cancel)
    return tuple(referrers)


def enlist(
    repository: Repository, subject: Digest, referrers: Sequence[Referrer], *, cancel: Cancellation
) -> None:
    """Make sure that the list of referrers of `subject` has all of `referrers`.

    `repository` must hold their manifests already. Raises RefusedError where the registry has no
    referrers API and no list can be kept at a tag, TransientError where other pushes keep
    overwriting the list at the tag.
    """
    if not _lists(repository, subject, referrers):
        entries = [referrer.to_json() for referrer in referrers]
        referrers_tag.keep(repository, subject, entries, cancel=cancel)


class _Made(Struct, frozen=True):
    """An artifact with its manifest, and with its entry for the list of referrers."""

    artifact: Attachment
    referrer: Referrer
    manifest: dict[str, Any]


def _send(made: _Made, provider: Provider, repository: Repository) -> bool:
    """Send an artifact, its blobs first; returns whether the registry acknowledges the subject."""
    document, data = made.artifact.layer, made.artifact.data
    # The empty config exists after the first artifact; the document is as new as its artifact.
    if not repository.has_blob(EMPTY):
        _put(repository, EMPTY, b"{}")
    _put(repository, document, data)
    try:
        return provider.send(made.manifest, made.referrer)
    except MissingBlobsError:
        _put(repository, EMPTY, b"{}")
        _put(repository, document, data)
        return provider.send(made.manifest, made.referrer)


def _put(repository: Repository, blob: Descriptor, data: bytes) -> None:
    repository.put_blob(blob, lambda: iter((data,)))


class _Lists(Enum):
    """Why a registry gave no list of referrers."""

    NONE = "no referrers API"
    UNKNOWN = "no readable reply"


def _ask(repository: Repository, subject: Digest) -> list[Referrer] | _Lists:
    """Request the registry's own list of referrers; an unreadable list gives `_Lists.UNKNOWN`.

    An unreadable list does not end a push: the reply to each artifact that is sent says whether the
    registry lists it (`OCI-Subject`).
    """
    try:
        entries = referrers_list.ask(repository, subject).entries
        return _Lists.NONE if entries is None else _parsed(entries)
    except (AuthError, RefusedError, TransientError, VerificationError):
        return _Lists.UNKNOWN


def _lists(repository: Repository, subject: Digest, referrers: Sequence[Referrer]) -> bool:
    """Whether the registry's own list of referrers of `subject` has all of `referrers`."""
    listed = _ask(repository, subject)
    return not isinstance(listed, _Lists) and _digests(referrers) <= _digests(listed)


def _kept(repository: Repository, subject: Digest) -> list[Referrer]:
    return _parsed(referrers_tag.read(repository, subject))


def _digests(referrers: Iterable[Referrer]) -> set[Digest]:
    return {referrer.descriptor.digest for referrer in referrers}


def _parsed(entries: Iterable[object]) -> list[Referrer]:
    return [Referrer.from_json(entry) for entry in entries]
