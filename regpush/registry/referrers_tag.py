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
"""The list counts as settled when it is unchanged after this many times the duration of reading and
writing it, and at least `_REST_S`: a client that had read it before has written by then."""


class NoListError(RefusedError):
    """The tag holds something other than a list of referrers, and is not changed."""


def tag_of(subject: Digest) -> str:
    """Return the tag that holds the list: `sha256-…`."""
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
    """Read the entries of the list; empty where the list does not exist.

    Raises NoListError.
    """
    tag = tag_of(subject)
    manifest = repository.get_manifest(tag)
    if manifest is None:
        return []
    if manifest.digest == subject:
        # GitLab takes such a tag for the digest.
        raise NoListError(
            f"{repository.name}: nothing can be attached: the registry has no lists of referrers, "
            f"and keeps none for others, as to it the tag {tag} is the image itself"
        )
    entries = entries_in(manifest.data)
    if entries is None or not all(isinstance(entry, Mapping) for entry in entries):
        raise NoListError(
            f"{repository.name}: nothing can be attached: the registry has no lists of referrers, "
            f"and the tag {tag}, where one would be kept, holds something else"
        )
    return entries


def keep(
    repository: Repository,
    subject: Digest,
    entries: Sequence[Mapping[str, Any]],
    *,
    cancel: Cancellation,
) -> None:
    """Add `entries` to the list, without losing entries that others add meanwhile.

    Raises NoListError, and TransientError where others keep overwriting it.
    """
    tag = tag_of(subject)
    # What was seen once belongs there: a pusher who writes over it does not mean to.
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
