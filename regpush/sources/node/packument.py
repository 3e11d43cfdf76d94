"""The list of a package's versions in a registry of npm, with the URL of each tarball.

npm, "Package Metadata" (registry/docs/responses/package-metadata.md): the abbreviated form, which
an install requests. It is requested only where a lock has no URL (npm documentation,
"omit-lockfile-registry-resolved") and the usual URL does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from regpush.errors import SourceError, printable
from regpush.sources.lock.artifact import VersionList
from regpush.sources.node.lock import Locked
from regpush.sources.node.npmrc import Npmrc

_ABBREVIATED = "application/vnd.npm.install-v1+json, application/json;q=0.8"


def listing(one: Locked, npmrc: Npmrc) -> VersionList:
    """Describe where a registry lists the versions of the package `one`."""
    # The slash of a scope is encoded (`npm-package-arg`, escapedName).
    return VersionList(
        url=npmrc.registry(one.name) + quote(one.name, safe="@/").replace("/", "%2f"),
        media_type=_ABBREVIATED,
        find=partial(_tarball, one, npmrc.placed),
    )


def _tarball(one: Locked, placed: Callable[[str], str], text: bytes) -> str:
    """Find the URL of the tarball of `one` in a packument. Raises SourceError."""
    try:
        found = json.loads(text)
        for key in ("versions", one.version, "dist", "tarball"):
            found = found[key]
    except (ValueError, RecursionError, LookupError, TypeError):
        found = None
    if not isinstance(found, str) or not found.startswith(("https://", "http://")):
        raise SourceError(
            f"the lock has no URL of {one.named}, and {printable(one.name)} of the registry lists "
            "no tarball of that version: is 'registry' of .npmrc the one that it was locked with?"
        )
    return placed(found)
