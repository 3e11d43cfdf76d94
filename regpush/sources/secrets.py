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
from regpush.files.suspects import (
    AGE_KEY_BEGINS,
    CREDENTIAL_NAMES,
    CREDENTIALS,
    KEY_BEGINS,
    PUTTY_KEY,
    is_suspect,
)
from regpush.sources.tree import Tree

# A private key in PEM (RFC 7468, RFC 4880 armor), also inside JSON or source text, where line ends
# are written "\n": the marker, perhaps header fields, then base 64. Source text that only mentions
# the marker has no base 64 after it.
_PRIVATE_KEY = (
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:\s|\\[rn])*(?:[A-Za-z-]+: [^\r\n\\]*(?:\s|\\[rn])+)*[A-Za-z0-9+/=]{40}"
)
_AGE_KEY = rb"AGE-SECRET-KEY-1[A-Z0-9]{58}"

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
    return telling | CREDENTIAL_NAMES.intersection(names)


def by_content(path: bytes, head: bytes) -> str | None:
    """Return what kind of secret a file looks like, by its path and first bytes; None for none.

    A phrase for messages: `private key`, `environment file` or `credentials`.
    """
    if KEY_BEGINS in head and re.search(_PRIVATE_KEY, head):
        return "private key"
    if head.startswith(PUTTY_KEY) or (AGE_KEY_BEGINS in head and re.search(_AGE_KEY, head)):
        return "private key"
    name = path.rpartition(b"/")[2]
    shell = re.fullmatch(_SHELL_FILES, name) and not name.endswith(_HARMLESS)
    if shell and re.search(_ASSIGNED, head):
        return "environment file"
    return "credentials" if _is_credentials(path, head) else None


def _is_credentials(path: bytes, head: bytes | None) -> bool:
    if path.rpartition(b"/")[2] not in CREDENTIAL_NAMES:
        return False
    for ending, content in CREDENTIALS:
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
