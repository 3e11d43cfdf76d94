"""The configuration file: how it is found, and its tables.

`regpush.toml`, or `[tool.regpush]` of `pyproject.toml`: `[defaults]` for all apps, and an
`[apps.NAME]` for each. `cli/keys.py` defines the keys of a table.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from regpush.errors import UsageError, printable

FILE = "regpush.toml"
PROJECT_FILE = "pyproject.toml"
DEFAULTS = "defaults"
APPS = "apps"
TARGET = "target"
VERSION = "version"

# Never a path, never a prefix of targets, and no quoting in TOML or on a command line.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A configuration file, read.

    `path` is the file as the user would name it from the current directory. The values in the
    tables are unchecked.
    """

    path: str
    prefix: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    apps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        """The directory that relative paths in the file are relative to."""
        return os.path.dirname(self.path) or "."

    def title(self, app: str | None) -> str:
        """Return the heading of the table of `app`, or of the defaults: `[apps.web]`."""
        return f"[{self.prefix}{DEFAULTS if app is None else f'{APPS}.{app}'}]"

    def place(self, app: str | None) -> str:
        """Return `title`, with the file, for messages."""
        return f"{self.path} {self.title(app)}"

    def app(self, name: str) -> Mapping[str, Any]:
        """Return the table of the app `name`. Raises UsageError that lists the apps."""
        if name in self.apps:
            return self.apps[name]
        known = ", ".join(self.apps) or "none"
        raise UsageError(
            f"no app '{printable(name)}' in {self.path} (apps: {known})"
            f"{did_you_mean(name, self.apps)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedOwners:
    """Which configuration files are trusted: those of `users` (uids), and all below `safe`.

    `safe` are physical paths; `*` is every directory, as in git's `safe.directory`.
    """

    users: frozenset[int]
    safe: frozenset[str] = frozenset()

    def doubt(self, path: str) -> str:
        """Say why the file at `path` is untrusted; empty if it is trusted. Raises OSError."""
        folder = os.path.realpath(os.path.dirname(path) or ".")
        if any(one == "*" or f"{folder}/".startswith(one.rstrip("/") + "/") for one in self.safe):
            return ""
        named = os.path.join(folder, os.path.basename(path))
        # A link decides what is read as much as the file that it leads to.
        doubts = map(self._doubt_of, dict.fromkeys((named, os.path.realpath(named))))
        return next(filter(None, doubts), "")

    def _doubt_of(self, path: str) -> str:
        """Say who else may have put the file or the link at `path` there; empty for nobody.

        No link is above `path`. In the file's own directory this is everybody who may write to that
        directory. In a directory further above, its content could be replaced; in a sticky one only
        by its owner (POSIX.1-2017, unlink and rename, EPERM).
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
    """Read the configuration of `directory`, or of the nearest directory above that has one.

    The search ends at the repository's root (a directory with `.git`) or at a mount point; outside
    a repository it also ends below a directory that everybody may write to. Raises UsageError for a
    malformed file, and for an untrusted one inside the repository; outside, `tell` is called with a
    note that it was ignored.
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
                    f"{printable(path)} is not trusted: {doubt}. Name it with --config "
                    f"{printable(path)}, or trust its directory with "
                    f"REGPUSH_SAFE_DIRECTORY={printable(os.path.realpath(folder))}"
                )
            if doubt:
                tell(f"{printable(path)} is passed over: {doubt}; --config FILE names one")
                continue
            found = read(path)
            if name == FILE or found.prefix:
                return found
    return None


def read(path: str) -> Configuration:
    """Read the configuration in `path`. Raises UsageError, with line and column if known."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"cannot read the configuration {printable(path)}: {reason}") from error
    return loads(printable(path), text)


def loads(path: str, text: str) -> Configuration:
    """Read the configuration in `text`; `path` names it in messages.

    Raises UsageError like `read`.
    """
    import tomllib  # 3 ms, where there is a configuration

    try:
        document = tomllib.loads(text.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(_malformed(path, text, str(error))) from error
    return parse(path, document)


def parse(path: str, document: Mapping[str, Any]) -> Configuration:
    """Read the configuration in the TOML `document` of the file `path`.

    A `pyproject.toml` holds it in `[tool.regpush]`; without that table it is empty. Raises
    UsageError for unknown tables.
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
                f"{path}: bad name of an app, '{printable(name)}': letters, digits, '.', '_', '-'"
            )
        _table(table, path, f"[{prefix}{APPS}.{name}]")
    defaults = _table(document.get(DEFAULTS, {}), path, f"[{prefix}{DEFAULTS}]")
    return Configuration(path=path, prefix=prefix, defaults=defaults, apps=apps)


def did_you_mean(word: str, words: Mapping[str, Any] | tuple[str, ...]) -> str:
    """Return `; did you mean '…'?` where a known word is similar, else an empty text."""
    close = get_close_matches(word, words, 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _table(value: Any, path: str, title: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    raise UsageError(f"{path}: {title} must be a table")


def _upwards(directory: str) -> Iterator[tuple[str, str]]:
    """Yield `directory` and those above it within the search, each with its path for messages."""
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
    """Whether the file is worth parsing: most projects do not use regpush."""
    try:
        with open(path, "rb") as file:
            return b"regpush" in file.read()
    except OSError:
        return False


def _malformed(path: str, text: str, reason: str) -> str:
    """Return the message of tomllib as `file:line:column: what`; a repeated key in our words."""
    where = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", reason)
    what = reason[: where.start()] if where else reason
    if twice := re.fullmatch(r"Cannot declare \((.*)\) twice", what):
        title = ".".join(re.findall(r"'([^']*)'", twice[1]))
        what = f"[{title}] stands there twice"
    if what == "Cannot overwrite a value":
        what = "a key stands there twice"
    lines = text.splitlines() or [""]
    line, column = (where[1], where[2]) if where and where[1] else (len(lines), len(lines[-1]) + 1)
    return f"{path}:{line}:{column}: {printable(what)}"
