"""The list of referrers that a registry keeps itself (referrers API).

OCI distribution-spec 1.1, "Listing Referrers". A registry may redirect the request to another host:
GHCR has answered 303 to one that limits rates (artifacthub/hub, issue 4785).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from regpush.digest import OCI_INDEX, Digest
from regpush.errors import AuthError, RefusedError, TransientError, VerificationError
from regpush.http.address import Origin
from regpush.http.exchange import Reply
from regpush.registry.api import HOPS, Call
from regpush.registry.protocol import REDIRECTS
from regpush.registry.quirks import NO_REFERRERS_API
from regpush.registry.referrers_tag import entries_in
from regpush.registry.repository import MANIFEST_LIMIT, Repository

_PAGES = 100


class ReferrersAnswer(Struct, frozen=True, kw_only=True):
    """A registry's answer to the request for its list of referrers.

    `entries`: JSON values as the registry sent them, None where it gives no list. `said`: the
    status, and the host of a redirect, for messages.
    """

    entries: list[Any] | None
    said: str


def ask(
    repository: Repository, subject: Digest, artifact_type: str | None = None
) -> ReferrersAnswer:
    """Read every page of the registry's list of referrers of `subject`.

    With `artifact_type`, only entries of that type are returned. A redirect to another host is
    followed once, without credentials; where that host gives no list, the registry is treated as
    one without a list. Raises VerificationError for a malformed list of the registry itself, and
    any error of `Repository.ask`.
    """
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    call = Call(
        doing=f"listing what refers to {subject.short}",
        method="GET",
        path=f"/referrers/{subject}{query}",
        headers={"Accept": OCI_INDEX},
        limit=MANIFEST_LIMIT,
        hops=0,
    )
    first = repository.ask(call, *NO_REFERRERS_API, *REDIRECTS)
    said = f"answered {first.status}"
    if first.status not in REDIRECTS:
        return ReferrersAnswer(entries=_pages(repository, first, call, artifact_type), said=said)
    try:
        url = repository.redirect_of(first)
        said += f" to {Origin.of(url).host}"
        reply = _ask_at(url, repository, call)
        said += f", which answered {reply.status}"
        return ReferrersAnswer(entries=_pages(repository, reply, call, artifact_type), said=said)
    except (AuthError, RefusedError, TransientError) as error:
        return ReferrersAnswer(entries=None, said=f"{said}: {error}")


def _ask_at(url: str, repository: Repository, call: Call) -> Reply:
    call = replace(call, url=url, hops=HOPS)
    if repository.is_home(url):
        return repository.ask(call, *NO_REFERRERS_API)
    return repository.ask_once(call)


def _pages(
    repository: Repository, reply: Reply, call: Call, artifact_type: str | None
) -> list[Any] | None:
    """Read the entries of the page `reply` and of all that follow.

    None where the reply is not a list.
    """
    if reply.status != 200:
        return None
    found: list[Any] = []
    for page in range(_PAGES):
        entries = entries_in(reply.body) if reply.status == 200 and reply.whole else None
        if entries is None and (not repository.is_home(reply.url) or (reply.whole and not page)):
            return None
        if entries is None:
            raise VerificationError(
                f"{repository.name}: {call.doing} failed: a page of the reply is not an index"
            )
        applied = [one.strip() for one in reply.header("oci-filters-applied").split(",")]
        unfiltered = artifact_type if "artifactType" not in applied else None
        found += _of_type(entries, unfiltered)
        if not (url := repository.next_page(reply)):
            break
        reply = _ask_at(url, repository, call)
    else:
        repository.warn(f"{call.doing} ended after {_PAGES} pages of the list; there are more")
    return found


def _of_type(entries: Iterable[Any], artifact_type: str | None) -> list[Any]:
    if artifact_type is None:
        return list(entries)
    return [
        one
        for one in entries
        if not isinstance(one, Mapping) or one.get("artifactType") == artifact_type
    ]
