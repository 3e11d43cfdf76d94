"""What in a directory looks like a secret: by name, and by how the content begins.

Mistakes this catches are honest ones; nothing here stands in the way of someone who hides
a secret. Reasons are for people and never quote a content.
"""

from __future__ import annotations

import re

HEAD = 1 << 16
"""Bytes of a file's beginning that are looked at: room for certificates before a key."""

# PEM (RFC 7468, RFC 4880 armor), also inside JSON or source text, where line ends are "\n":
# the marker, perhaps header fields, then real base 64. A program that merely names the marker
# has none.
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:\s|\\[rn])*(?:[A-Za-z-]+: [^\r\n\\]*(?:\s|\\[rn])+)*[A-Za-z0-9+/=]{40}"
)
_PUTTY_KEY = b"PuTTY-User-Key-File-"
_AGE_KEY = re.compile(rb"AGE-SECRET-KEY-1[A-Z0-9]{58}")

_ENVIRONMENT = re.compile(rb"\.env(?:\.(?!(?:.*\.)?(?:example|sample|template|dist)$).*)?", re.DOTALL)

# By the end of the path: always a secret (None), or only with such content.
_CREDENTIALS: tuple[tuple[bytes, re.Pattern[bytes] | None], ...] = (
    (b".aws/credentials", None),
    (b".config/gcloud/application_default_credentials.json", None),
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
    (b".bundle/config", re.compile(rb"(?m)^BUNDLE_[A-Z0-9_]*(?:__|_TOKEN|_KEY)[A-Z0-9_]*:\s*\S+:\S")),
    # `${NPM_TOKEN}` stands for a secret and is none.
    (b".npmrc", re.compile(rb"(?m)_(?:authToken|auth|password)\s*=\s*[\"']?[^\s\"'$]")),
    (b".yarnrc.yml", re.compile(rb"(?m)^\s*npmAuth(?:Token|Ident):\s*[\"']?[^\s\"'$]")),
    (b"auth.json", re.compile(rb'"(?:http-basic|github-oauth|gitlab-token|bearer)"\s*:\s*\{\s*"')),
)


def reason(path: bytes, head: bytes) -> str | None:
    """Why the file at `path`, whose content begins with `head`, looks like a secret, or None."""
    name = path.rpartition(b"/")[2]
    if name.startswith(b".env") and _ENVIRONMENT.fullmatch(name):
        return "environment file"
    if b"PRIVATE KEY" in head and _PRIVATE_KEY.search(head):
        return "private key"
    if head.startswith(_PUTTY_KEY) or (b"AGE-SECRET-KEY-" in head and _AGE_KEY.search(head)):
        return "private key"
    for ending, content in _CREDENTIALS:
        if path.endswith(ending) and (path == ending or path[-len(ending) - 1 :][:1] == b"/"):
            if content is None or content.search(head):
                return "credentials"
    return None
