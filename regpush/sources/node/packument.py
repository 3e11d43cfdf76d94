"""Packuments: the documents in which an npm registry lists a package's versions and tarball URLs.

npm, "Package Metadata" (registry/docs/responses/package-metadata.md), in the abbreviated form. A
packument is requested only where the lock file states no URL of a tarball (npm documentation,
"omit-lockfile-registry-resolved") and the registry has no file at the usual URL.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from regpush.errors import SourceError
from regpush.sources.lock.artifact import VersionList
from regpush.sources.node.lock import Locked
from regpush.sources.node.npmrc import Npmrc

_ABBREVIATED = "application/vnd.npm.install-v1+json, application/json;q=0.8"


def listing(one: Locked, npmrc: Npmrc) -> VersionList:
    """Return where the registry of the package `one` lists its versions and tarball URLs."""
    # In the URL, the slash after a scope is encoded (`npm-package-arg`, escapedName).
    return VersionList(
        url=npmrc.registry(one.name) + quote(one.name, safe="@/").replace("/", "%2f"),
        media_type=_ABBREVIATED,
        find=partial(_tarball, one, npmrc.with_registry_host),
    )


def _tarball(one: Locked, placed: Callable[[str], str], text: bytes) -> str:
    """Return the URL of the tarball of `one`, from the bytes of a packument.

    `placed`: replaces the host of npm's own registry in the URL by that of the configured registry.
    Raises SourceError where the packument does not list the version.
    """
    try:
        found = json.loads(text)
        for key in ("versions", one.version, "dist", "tarball"):
            found = found[key]
    except (ValueError, RecursionError, LookupError, TypeError):
        found = None
    if not isinstance(found, str) or not found.startswith(("https://", "http://")):
        raise SourceError(
            f"the lock file has no URL of {one.named}, and the package registry lists no tarball "
            "of that version: set 'registry' in .npmrc to the registry that it was locked from"
        )
    return placed(found)
