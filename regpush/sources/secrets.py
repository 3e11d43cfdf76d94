"""What in a directory looks like a secret: by name, and by how the content begins.

Mistakes this catches are honest ones; nothing here stands in the way of someone who hides
a secret. Reasons are for people and never quote a content.
"""

from __future__ import annotations

import re

from pathspec import GitIgnoreSpec

from regpush.entry import Entry
from regpush.errors import UsageError, printable
from regpush.sources.tree import Tree

# PEM (RFC 7468, RFC 4880 armor), also inside JSON or source text, where line ends are "\n":
# the marker, perhaps header fields, then real base 64. A program that merely names the marker
# has none.
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:\s|\\[rn])*(?:[A-Za-z-]+: [^\r\n\\]*(?:\s|\\[rn])+)*[A-Za-z0-9+/=]{40}"
)
_PUTTY_KEY = b"PuTTY-User-Key-File-"
_AGE_KEY = re.compile(rb"AGE-SECRET-KEY-1[A-Z0-9]{58}")

_ENVIRONMENT = re.compile(rb"\.env(?:\..*)?", re.DOTALL)
_HARMLESS = (b".example", b".sample", b".template", b".dist")

# By the end of the path: always a secret (None), or only with such content.
_CREDENTIALS: tuple[tuple[bytes, re.Pattern[bytes] | None], ...] = (
    (b".aws/credentials", None),
    (b"application_default_credentials.json", None),
    (b".cargo/credentials", None),
    (b".cargo/credentials.toml", None),
    (b".docker/config.json", re.compile(rb'"(?:auth|identitytoken|registrytoken)"\s*:\s*"[^"]')),
    (b".config/gh/hosts.yml", None),
    (b".gem/credentials", None),
    (b".git-credentials", None),
    (b".kube/config", None),
    (b".netrc", None),
    (b"_netrc", None),
    (b".pgpass", None),
    (b".pypirc", re.compile(rb"(?m)^\s*password\s*[=:]\s*[^\s$]")),
    (b".bundle/config", re.compile(rb"(?m)^BUNDLE_[A-Z0-9_]*__[A-Z0-9_]*:\s*[\"']?[^\s\"'$]")),
    # `${NPM_TOKEN}` stands for a secret and is none.
    (b".npmrc", re.compile(rb"_(?:authToken|auth|password)\s*=\s*[\"']?[^\s\"'$]")),
    (b".yarnrc.yml", re.compile(rb"(?m)^\s*npmAuth(?:Token|Ident):\s*[\"']?[^\s\"'$]")),
    (b"auth.json", re.compile(rb'"(?:http-basic|github-oauth|gitlab-token|bearer)"\s*:\s*\{\s*"')),
)
_CREDENTIAL_NAMES = frozenset(ending.rpartition(b"/")[2] for ending, _ in _CREDENTIALS)


def reason(path: bytes, head: bytes) -> str | None:
    """Why the file at `path`, whose content begins with `head`, looks like a secret, or None."""
    name = path.rpartition(b"/")[2]
    if _ENVIRONMENT.fullmatch(name) and not name.endswith(_HARMLESS):
        return "environment file"
    if b"PRIVATE KEY" in head and _PRIVATE_KEY.search(head):
        return "private key"
    if head.startswith(_PUTTY_KEY) or (b"AGE-SECRET-KEY-" in head and _AGE_KEY.search(head)):
        return "private key"
    if name in _CREDENTIAL_NAMES:
        for ending, content in _CREDENTIALS:
            if (b"/" + path).endswith(b"/" + ending) and (content is None or content.search(head)):
                return "credentials"
    return None


class Watch:
    """Looks at the app's own files while they are read; several threads may do so at once."""

    def __init__(self, tree: Tree, allowed: GitIgnoreSpec) -> None:
        self._tree = tree
        self._allowed = allowed
        self._found: list[tuple[bytes, str]] = []

    def look(self, entry: Entry, head: bytes) -> None:
        """Take notice of `entry`, whose content begins with `head`."""
        path = self._tree.relative(entry.path)
        why = reason(path, head)
        if why and not self._allowed.match_file(path.decode("utf-8", "surrogateescape")):
            self._found.append((path, why))

    def refuse(self) -> None:
        """Raise UsageError if anything was found that is not allowed."""
        if not self._found:
            return
        path, why = min(self._found)
        more = f" (and {len(self._found) - 1} more)" if len(self._found) > 1 else ""
        raise UsageError(
            f"{printable(self._tree.on_disk(path))} looks like a secret: {why}{more}; leave it out "
            f"with .regpushignore or keep it with --allow-secret '{printable(_as_pattern(path))}'"
        )


def _as_pattern(path: bytes) -> str:
    """The gitignore pattern that means exactly `path`."""
    text = path.decode("utf-8", "backslashreplace")
    return re.sub(r"(^[#!]|[\\*?\[\] ])", r"\\\1", text)
