"""The list of referrers that clients keep at a tag, for a registry without the referrers API.

OCI distribution-spec 1.1, "Referrers Tag Schema". The list is an index, and nothing locks it: a
client that adds to it reads, writes, and reads again to see whether another overwrote it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from regpush.concurrency import Cancellation
from regpush.digest import OCI_INDEX, Digest
from regpush.errors import RefusedError, TagConflictError, TransientError
from regpush.registry.protocol import parse_json
from regpush.registry.repository import Repository

_ROUNDS = 16
_REST_S = 0.2
_TIMES = 4.0
"""A list counts as settled when it stays unchanged for this many times the duration of reading and
writing it, and at least `_REST_S`: a client that had read the old list before has written by
then."""


class NoListError(RefusedError):
    """The tag for a list of referrers holds something else, which is not changed."""


def tag_of(subject: Digest) -> str:
    """Return the tag that holds the list of referrers of `subject`: `sha256-…`."""
    return f"{subject.algorithm[:32]}-{subject.hex[:64]}"


def entries_in(body: bytes) -> list[Any] | None:
    """Read the entries of an index, unchanged; None where `body` is not an index."""
    value = parse_json(body)
    if not isinstance(value, dict) or value.get("mediaType", OCI_INDEX) != OCI_INDEX:
        return None
    entries = value.get("manifests")
    if entries is None and "mediaType" in value:
        return []  # an empty list as Go writes it
    return entries if isinstance(entries, list) else None


def read(repository: Repository, subject: Digest) -> list[Any]:
    """Read the entries of the list of referrers of `subject`; empty where there is no such tag.

    Raises NoListError.
    """
    tag = tag_of(subject)
    manifest = repository.get_manifest(tag)
    if manifest is None:
        return []
    if manifest.digest == subject:
        # GitLab takes such a tag for the digest.
        raise NoListError(
            f"{repository.name}: nothing can be attached: the registry has no referrers API, and "
            f"takes the tag {tag}, where the list would be kept, for the image itself"
        )
    entries = entries_in(manifest.data)
    if entries is None or not all(isinstance(entry, Mapping) for entry in entries):
        raise NoListError(
            f"{repository.name}: nothing can be attached: the registry has no referrers API, and "
            f"the tag {tag}, where the list would be kept, holds something else"
        )
    return entries


def keep(
    repository: Repository,
    subject: Digest,
    entries: Sequence[Mapping[str, Any]],
    *,
    cancel: Cancellation,
) -> None:
    """Add `entries` to the list of referrers of `subject`.

    Entries that others add meanwhile are kept. Raises NoListError, and TransientError where others
    keep overwriting the list.
    """
    tag = tag_of(subject)
    # Every entry that was seen once is kept: a client that overwrote it did not mean to remove it.
    known: dict[str, Any] = {str(entry["digest"]): dict(entry) for entry in entries}
    jitter = hashlib.sha256("".join(known).encode()).digest()
    rest_s = _REST_S
    for turn in range(_ROUNDS):
        began = time.monotonic()
        there = {str(entry.get("digest")): entry for entry in read(repository, subject)}
        lost = known.keys() - there.keys()
        if not lost:
            return
        known = there | known
        try:
            repository.put_manifest(_index(known.values()), OCI_INDEX, tag)
        except TagConflictError as error:
            raise TagConflictError(
                f"{error}: this tag holds the list of referrers, which must be allowed to change"
            ) from error
        rest_s = max(rest_s, _TIMES * (time.monotonic() - began))
        # Two pushers who wait equally long would write over each other again and again.
        cancel.wait(rest_s * (1 + jitter[turn] / 255))
    raise TransientError(
        f"{repository.name}: other pushes keep overwriting the list of referrers at {tag}; "
        "run this one again"
    )


def _index(entries: Iterable[Mapping[str, Any]]) -> bytes:
    value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
    return json.dumps(value, separators=(",", ":")).encode()
