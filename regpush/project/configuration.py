"""Find and read the configuration file: `regpush.toml`, or `[tool.regpush]` in `pyproject.toml`.

The table `[defaults]` holds settings of all apps, a table `[apps.NAME]` those of one app.
`cli/keys.py` defines the keys of these tables.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct, field

from regpush.errors import UsageError, printable, similar

FILE = "regpush.toml"
PROJECT_FILE = "pyproject.toml"
DEFAULTS = "defaults"
APPS = "apps"
TARGET = "target"
VERSION = "version"

# The name of an app. It cannot be taken for a path or for a target with a prefix, and needs no
# quotes in TOML or on a command line.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)


class Configuration(Struct, frozen=True, kw_only=True):
    """The content of a configuration file.

    `path`: the file's path, relative to the current directory if it was found from there. `prefix`:
    `tool.regpush.` in a `pyproject.toml`, else empty. `defaults` and `apps` are tables whose values
    are not checked yet.
    """

    path: str
    prefix: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    apps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        """The directory of the file. Relative paths in the file are relative to this directory."""
        return os.path.dirname(self.path) or "."

    def title(self, app: str | None) -> str:
        """Return the heading of an app's table, such as `[apps.web]`; of `[defaults]` for None."""
        return f"[{self.prefix}{DEFAULTS if app is None else f'{APPS}.{app}'}]"

    def place(self, app: str | None) -> str:
        """Return the file and the table's heading, for messages: `regpush.toml [apps.web]`."""
        return f"{self.path} {self.title(app)}"

    def app(self, name: str) -> Mapping[str, Any]:
        """Return the table of the app `name`. Raises UsageError if the file has no such app."""
        if name in self.apps:
            return self.apps[name]
        known = ", ".join(self.apps) or "none"
        raise UsageError(
            f"no app '{printable(name)}' in {self.path} (apps: {known})"
            f"{did_you_mean(name, self.apps)}"
        )


class TrustedOwners(Struct, frozen=True, kw_only=True):
    """Decides which configuration files are trusted.

    A file is trusted if it lies below a directory in `safe`, or if its owner is one of `users`
    (uids) and no other user could have put it there. `safe`: paths without symbolic links; `*`
    stands for every directory, as in git's `safe.directory`.
    """

    users: frozenset[int]
    safe: frozenset[str] = frozenset()

    def doubt(self, path: str) -> str:
        """Return why the file at `path` is not trusted; empty if it is trusted. Raises OSError."""
        folder = os.path.realpath(os.path.dirname(path) or ".")
        if any(one == "*" or f"{folder}/".startswith(one.rstrip("/") + "/") for one in self.safe):
            return ""
        named = os.path.join(folder, os.path.basename(path))
        # A symbolic link is checked like the file that it leads to: its owner could change it.
        doubts = map(self._doubt_of, dict.fromkeys((named, os.path.realpath(named))))
        return next(filter(None, doubts), "")

    def _doubt_of(self, path: str) -> str:
        """Return how another user could have put the file or link at `path` there; empty if none.

        `path` has no symbolic links in its directories. Another user may own the file, or be
        allowed to write to its directory or to one above it. Where a directory is sticky, only the
        owner of an entry can replace the entry (POSIX.1-2017, unlink and rename, EPERM).
        """
        below, folder = os.lstat(path), os.path.dirname(path)
        if below.st_uid not in self.users:
            return f"user {below.st_uid} owns it"
        if os.stat(folder).st_mode & stat.S_IWOTH:
            return "everybody may write to its directory"
        while (above := os.path.dirname(folder)) != folder:
            below, kept = os.stat(folder), os.stat(above).st_mode
            ours = kept & stat.S_ISVTX and below.st_uid in self.users
            if kept & stat.S_IWOTH and not ours:
                return f"everybody may write to {printable(above)} above it"
            folder = above
        return ""


def find(directory: str, trust: TrustedOwners, tell: Callable[[str], None]) -> Configuration | None:
    """Read the configuration file in `directory` or the nearest directory above, if there is one.

    The search ends at the root of a git repository (a directory with `.git`) or at a mount point;
    outside of repositories also below a directory that every user may write to. Raises UsageError
    for a malformed file. An untrusted file inside a repository raises UsageError; outside, it is
    ignored, and `tell` is called with a note about it.
    """
    folders = list(_upwards(directory))
    inside = bool(folders) and os.path.lexists(os.path.join(folders[-1][0], ".git"))
    for number, (folder, above) in enumerate(folders):
        if number and not inside and os.stat(folder).st_mode & stat.S_IWOTH:
            return None
        for name in (FILE, PROJECT_FILE):
            path = os.path.join(above, name) if above else name
            if not os.path.isfile(os.path.join(folder, name)):
                continue
            if name == PROJECT_FILE and not _mentions_us(path):
                continue
            doubt = trust.doubt(os.path.join(folder, name))
            if doubt and inside:
                raise UsageError(
                    f"{printable(path)} is not trusted: {doubt}; to read it anyway, give --config "
                    f"{printable(path)}, or trust its directory with "
                    f"REGPUSH_SAFE_DIRECTORY={printable(os.path.realpath(folder))}"
                )
            if doubt:
                tell(f"{printable(path)} is ignored: {doubt}; --config {printable(path)} reads it")
                continue
            found = read(path)
            if name == FILE or found.prefix:
                return found
    return None


def read(path: str) -> Configuration:
    """Read the configuration file `path`.

    Raises UsageError, for malformed TOML with line and column.
    """
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(
            f"cannot read the configuration file {printable(path)}: {reason}"
        ) from error
    return loads(printable(path), text)


def loads(path: str, text: str) -> Configuration:
    """Read a configuration file's content `text`; messages name the file `path`.

    Raises UsageError, for malformed TOML with line and column.
    """
    import tomllib  # takes 3 ms, so it is imported only if there is a configuration file

    try:
        document = tomllib.loads(text.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(_malformed(path, text, str(error))) from error
    return parse(path, document)


def parse(path: str, document: Mapping[str, Any]) -> Configuration:
    """Read the configuration in `document`, the parsed TOML of the file `path`.

    In a `pyproject.toml` the configuration is the table `[tool.regpush]`, or empty without that
    table. Raises UsageError for unknown tables and for bad names of apps.
    """
    prefix = ""
    if os.path.basename(path) == PROJECT_FILE:
        own = _table(document.get("tool", {}), path, "[tool]").get("regpush")
        if own is None:
            return Configuration(path=path)
        document, prefix = _table(own, path, "[tool.regpush]"), "tool.regpush."
    for key in document:
        if key not in (DEFAULTS, APPS):
            raise UsageError(
                f"{path}: unknown {'table' if isinstance(document[key], dict) else 'key'} "
                f"'{printable(key)}': settings belong in [{prefix}{DEFAULTS}] or "
                f"[{prefix}{APPS}.NAME]{did_you_mean(key, (DEFAULTS, APPS))}"
            )
    apps = _table(document.get(APPS, {}), path, f"[{prefix}{APPS}]")
    for name, table in apps.items():
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{path}: bad app name '{printable(name)}': use letters, digits, '.', '_' and '-'"
            )
        _table(table, path, f"[{prefix}{APPS}.{name}]")
    defaults = _table(document.get(DEFAULTS, {}), path, f"[{prefix}{DEFAULTS}]")
    return Configuration(path=path, prefix=prefix, defaults=defaults, apps=apps)


def did_you_mean(word: str, words: Mapping[str, Any] | tuple[str, ...]) -> str:
    """Return `; did you mean 'X'?` with the most similar of `words`; empty if none is similar."""
    close = similar(word, words)
    return f"; did you mean '{close}'?" if close else ""


def _table(value: Any, path: str, title: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    raise UsageError(f"{path}: {title} must be a table")


def _upwards(directory: str) -> Iterator[tuple[str, str]]:
    """Yield `directory` and the directories above it that `find` searches, from the lowest up.

    Each is a pair: the absolute path, and the path relative to `directory` for messages. The search
    ends at a directory with `.git`, at the end of a file system, and at one that cannot be read.
    """
    try:
        folder, above = os.path.abspath(directory), "" if directory == "." else directory
    except FileNotFoundError:  # the current directory was deleted
        return
    device = None
    while True:
        try:
            seen = os.stat(folder)
        except OSError:
            return
        if device is not None and seen.st_dev != device:
            return
        device = seen.st_dev
        yield folder, above
        parent = os.path.dirname(folder)
        if parent == folder or os.path.lexists(os.path.join(folder, ".git")):
            return
        folder, above = parent, os.path.join(above, "..") if above else ".."


def _mentions_us(path: str) -> bool:
    """Return whether the file contains the word `regpush`; other files need not be parsed."""
    try:
        with open(path, "rb") as file:
            return b"regpush" in file.read()
    except OSError:
        return False


def _malformed(path: str, text: str, reason: str) -> str:
    """Rewrite tomllib's message `reason` as `FILE:LINE:COLUMN: message`.

    tomllib's messages about a repeated table or key are replaced by clearer ones.
    """
    where = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", reason)
    what = reason[: where.start()] if where else reason
    if twice := re.fullmatch(r"Cannot declare \((.*)\) twice", what):
        title = ".".join(re.findall(r"'([^']*)'", twice[1]))
        what = f"the table [{title}] is defined twice"
    if what == "Cannot overwrite a value":
        what = "a key is defined twice"
    lines = text.splitlines() or [""]
    line, column = (where[1], where[2]) if where and where[1] else (len(lines), len(lines[-1]) + 1)
    return f"{path}:{line}:{column}: {printable(what)}"
