"""Lists the tags of a repository, page by page.

OCI distribution-spec 1.1, "Listing Tags".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

from msgspec import Struct

from regpush.errors import AuthError, RefusedError
from regpush.http.exchange import Reply
from regpush.registry.api import Call
from regpush.registry.protocol import parse_json

TAGS_LIMIT = 1000
_TAG_PAGES = 10
_ALL_TAG_PAGES = 100
"""The maximum number of pages of tags that are read; some registries give only 10 tags a page."""

_PAGE_LIMIT = 4 << 20
"""The maximum bytes of one page of tags."""

_NO_LIST = 404
"""The status of a repository that does not exist yet, as before every first push."""

_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)


class TagList(Struct, frozen=True, kw_only=True):
    """Tags in the registry's order; `complete` is False where the repository has more tags."""

    names: tuple[str, ...]
    complete: bool


class Pager(Protocol):
    """The methods of a repository that listing its tags needs."""

    def ask(self, call: Call, *statuses: int) -> Reply:
        """Send a request; returns a reply whose status is 2xx or one of `statuses`."""

    def next_page(self, reply: Reply) -> str:
        """Return the URL of the page that follows `reply`; empty for the last."""


def read_some(repository: Pager) -> tuple[str, ...]:
    """List up to 1000 tags, in the registry's order; empty if the registry lists none."""
    tags: list[str] = []
    # Some registries want more rights for listing tags than for reading images.
    with suppress(AuthError, RefusedError):
        for page, _ in _pages(repository, _TAG_PAGES, _NO_LIST):
            tags += page
    return tuple(tags[:TAGS_LIMIT])


def read_all(repository: Pager) -> TagList:
    """List up to 1000 tags; the result says whether there are more.

    Raises RefusedError where the registry knows no such repository, and the errors of
    `Repository.ask`.
    """
    pages = [*_pages(repository, _ALL_TAG_PAGES)]
    tags = [*dict.fromkeys(tag for page, _ in pages for tag in page)]
    complete = len(tags) <= TAGS_LIMIT and not pages[-1][1]
    return TagList(names=tuple(tags[:TAGS_LIMIT]), complete=complete)


def _pages(repository: Pager, most: int, *statuses: int) -> Iterator[tuple[list[str], bool]]:
    """Yield up to `most` pages of tags, at least one, each with whether another page follows.

    A reply of one of `statuses` is a page without tags.
    """
    url, count = "", 0
    for _ in range(most):
        found, url = _page(repository, url, *statuses)
        yield found, bool(url)
        count += len(found)
        if not url or count >= TAGS_LIMIT:
            return


def _page(repository: Pager, url: str, *statuses: int) -> tuple[list[str], str]:
    """Read one page of tags; returns the tags, and the URL of the next page, empty after the last.

    `url`: the URL of the page, empty for the first.
    """
    call = Call(
        doing="listing tags",
        method="GET",
        path=f"/tags/list?n={TAGS_LIMIT}",
        url=url,
        limit=_PAGE_LIMIT,
    )
    reply = repository.ask(call, *statuses)
    content = parse_json(reply.body) if reply.whole else None
    listed = content.get("tags") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        return [], ""
    tags = [tag for tag in listed if isinstance(tag, str) and _TAG.fullmatch(tag)]
    return tags, repository.next_page(reply)
