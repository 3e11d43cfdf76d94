"""Recognise files that contain secrets, by their names and by the beginning of their contents.

This prevents accidents; it does not stop a person who hides a secret. Error messages never quote a
file's content.
"""

from __future__ import annotations

import bisect
import re
import stat
from collections.abc import Iterable, Sequence
from itertools import islice, takewhile
from typing import NamedTuple

from msgspec import Struct

from regpush.entry import Entry
from regpush.errors import UsageError, printable
from regpush.files.gitignore import Patterns
from regpush.files.listing import Names, join
from regpush.sources.tree import Tree

# A private key in PEM (RFC 7468, RFC 4880 armor), also inside JSON or source text, where line ends
# are written "\n": the marker, perhaps header fields, then base 64. Source text that only mentions
# the marker has no base 64 after it.
_PRIVATE_KEY = (
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:\s|\\[rn])*(?:[A-Za-z-]+: [^\r\n\\]*(?:\s|\\[rn])+)*[A-Za-z0-9+/=]{40}"
)
_KEY_BEGINS = b"-----BEGIN"
_PUTTY_KEY = b"PuTTY-User-Key-File-"
_AGE_KEY = rb"AGE-SECRET-KEY-1[A-Z0-9]{58}"
_AGE_KEY_BEGINS = b"AGE-SECRET-KEY-"

_ENVIRONMENT = rb"(?s)\.env(?:\..*)?"
_HARMLESS = (b".example", b".sample", b".template", b".dist")
_KEY_STORES = (b".p12", b".pfx", b".jks", b".keystore")
"""Suffixes of key store files, of Java and Windows."""

_ASSIGNED = (
    rb"(?mi)^[ \t]*(?:export[ \t]+)?[A-Z0-9_]*"
    rb"(?:SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|PRIVATE_?KEY)[A-Z0-9_]*"
    rb"[ \t]*=[ \t]*[\"']?[^\s\"'$<{]"
)
"""A line that assigns a value, not a placeholder, to a variable whose name suggests a secret."""
_SHELL_FILES = rb"(?s)\.envrc|.+\.env|env\..+"
"""Names of files with variables, such as `prod.env`, `env.prod`, `.envrc`; only their content tells
whether they contain a secret."""

# The end of a file's path, and a pattern: the file is a secret if its content matches the pattern;
# None: always.
_CREDENTIALS: tuple[tuple[bytes, bytes | None], ...] = (
    (b".aws/credentials", None),
    (b"application_default_credentials.json", None),
    (b".cargo/credentials", None),
    (b".cargo/credentials.toml", None),
    (b".dockercfg", rb'"auth"\s*:\s*"[^"]'),
    (b".htpasswd", None),
    (b".my.cnf", rb"(?m)^\s*password\s*=\s*[^\s$]"),
    (b".s3cfg", rb"(?m)^\s*secret_key\s*=\s*[^\s$]"),
    (b".vault-token", None),
    (b"terraform.tfstate", None),
    (b"terraform.tfstate.backup", None),
    (b".docker/config.json", rb'"(?:auth|identitytoken|registrytoken)"\s*:\s*"[^"]'),
    (b".config/gh/hosts.yml", None),
    (b".gem/credentials", None),
    (b".git-credentials", None),
    (b".kube/config", None),
    (b".netrc", None),
    (b"_netrc", None),
    (b".pgpass", None),
    (b".pypirc", rb"(?m)^\s*password\s*[=:]\s*[^\s$]"),
    (b".bundle/config", rb"(?m)^BUNDLE_[A-Z0-9_]*__[A-Z0-9_]*:\s*[\"']?[^\s\"'$]"),
    # A variable such as `${NPM_TOKEN}` is not a secret; npm replaces it when it reads the file.
    (b".npmrc", rb"_(?:authToken|auth|password)\s*=\s*[\"']?[^\s\"'$]"),
    (b".yarnrc.yml", rb"(?m)^\s*npmAuth(?:Token|Ident):\s*[\"']?[^\s\"'$]"),
    (b"auth.json", rb'"(?:http-basic|github-oauth|gitlab-token|bearer)"\s*:\s*\{\s*"'),
)
_CREDENTIAL_NAMES = frozenset(ending.rpartition(b"/")[2] for ending, _ in _CREDENTIALS)


def by_name(path: bytes) -> str | None:
    """Return what kind of secret a file is, judged by its path alone; None for no secret.

    A phrase for messages: `environment file`, `key store` or `credentials`.
    """
    name = path.rpartition(b"/")[2]
    if re.fullmatch(_ENVIRONMENT, name) and not name.endswith(_HARMLESS):
        return "environment file"
    if name.endswith(_KEY_STORES):
        return "key store"
    return "credentials" if _is_credentials(path, None) else None


def _telling(names: Sequence[bytes]) -> set[bytes]:
    """Return the file names, of a folder's sorted `names`, that `by_name` may take for secrets."""
    first = bisect.bisect_left(names, b".env")
    telling = set(takewhile(lambda name: name.startswith(b".env"), islice(names, first, None)))
    telling.update(name for name in names if name.endswith(_KEY_STORES))
    return telling | _CREDENTIAL_NAMES.intersection(names)


def by_content(path: bytes, head: bytes) -> str | None:
    """Return what kind of secret a file looks like, by its path and first bytes; None for none.

    A phrase for messages: `private key`, `environment file` or `credentials`.
    """
    if _KEY_BEGINS in head and re.search(_PRIVATE_KEY, head):
        return "private key"
    if head.startswith(_PUTTY_KEY) or (_AGE_KEY_BEGINS in head and re.search(_AGE_KEY, head)):
        return "private key"
    name = path.rpartition(b"/")[2]
    shell = re.fullmatch(_SHELL_FILES, name) and not name.endswith(_HARMLESS)
    if shell and re.search(_ASSIGNED, head):
        return "environment file"
    return "credentials" if _is_credentials(path, head) else None


def is_suspect(path: bytes, data: bytes | bytearray, start: int, end: int) -> bool:
    """Whether `by_content` must be called for the file at `path` with the bytes `data[start:end]`.

    False for nearly all files, of which `by_content` would return None. This check is quick and
    copies no data.
    """
    # Searching backwards takes a third of the time of searching forwards: 0.1 ms for 1 MiB of text
    # and each of the two markers (CPython 3.11). With a space after "-----BEGIN" it takes four
    # times as long.
    name = path[path.rfind(b"/") + 1 :]
    return (
        data.rfind(_KEY_BEGINS, start, end) >= 0
        or data.rfind(_AGE_KEY_BEGINS, start, end) >= 0
        or b"env" in name
        or name in _CREDENTIAL_NAMES
        or data.startswith(_PUTTY_KEY, start, end)
    )


def _is_credentials(path: bytes, head: bytes | None) -> bool:
    if path.rpartition(b"/")[2] not in _CREDENTIAL_NAMES:
        return False
    for ending, content in _CREDENTIALS:
        if (b"/" + path).endswith(b"/" + ending):
            return content is None if head is None else bool(content and re.search(content, head))
    return False


class Secret(NamedTuple):
    """A file that looks like a secret.

    `path`: relative to the pushed directory. `on_disk`: its absolute path. `why`: the kind of
    secret, as `by_name` and `by_content` return it.
    """

    path: bytes
    on_disk: bytes
    why: str


class SecretError(UsageError):
    """The app's own code contains files that look like secrets; `found`: these, at least one."""

    def __init__(self, found: Iterable[Secret]) -> None:
        self.found = tuple(sorted(found))
        first, *others = self.found
        more = f" (and {len(others)} more)" if others else ""
        pattern = printable(_as_pattern(first.path))
        super().__init__(
            f"{printable(first.on_disk)} looks like a secret: {first.why}{more}; leave it out "
            f"with .regpushignore or keep it with --allow-secret '{pattern}'"
        )


class Watch(Struct, frozen=True, eq=False):
    """Searches the app's own files for secrets, except files that match the patterns `allowed`."""

    tree: Tree
    allowed: Patterns

    def check_names(self, selected: Iterable[Names]) -> None:
        """Raise SecretError where files in `selected` have names of secrets."""
        found = []
        for folder, names, _, _ in selected:
            for name in _telling(names):
                path = join(folder, name)
                why = stat.S_ISREG(self.tree.listing.mode(path)) and by_name(path)
                if why and not self._allows(path):
                    found.append(Secret(path, self.tree.on_disk(path), why))
        if found:
            raise SecretError(found)

    def look(self, entry: Entry, data: bytes | bytearray, start: int, end: int) -> None:
        """Raise SecretError if the file `entry` looks like a secret.

        `data[start:end]`: the file's first bytes.
        """
        if not is_suspect(entry.path, data, start, end):
            return
        path = self.tree.relative(entry.path)
        why = by_content(path, bytes(data[start:end]))
        if why and not self._allows(path):
            raise SecretError([Secret(path, self.tree.on_disk(path), why)])

    def _allows(self, path: bytes) -> bool:
        return self.allowed.match(path)


def _as_pattern(path: bytes) -> str:
    """Return the gitignore pattern that matches exactly `path`, with special characters escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return re.sub(r"(^[#!]|[\\*?\[\] ])", r"\\\1", text)
