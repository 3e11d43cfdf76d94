"""Read an app's name, version and start command from `pyproject.toml`, `package.json` and such."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from regpush.errors import UsageError, printable

_MOST = 4 << 20  # bytes that are read of such a file; only lock files are larger


class Project(Struct, frozen=True, kw_only=True, eq=False):
    """What the file `file`, such as `pyproject.toml`, says about the app in its directory.

    `start`: the words of the command that starts the app; empty if the file states none.
    """

    file: str
    language: str
    name: str | None = None
    version: str | None = None
    start: tuple[str, ...] = ()


def version(directory: str) -> str | None:
    """Return the version in the first project file of `directory` that states one; None without.

    The files are `pyproject.toml`, `package.json`, `Cargo.toml` and `go.mod`, in this order. Raises
    UsageError for a file that cannot be read.
    """
    return next((one.version for one in describe(directory) if one.version), None)


def describe(directory: str) -> Iterator[Project]:
    """Read each project file in `directory`: `pyproject.toml`, `package.json`, and the like.

    Raises UsageError for a file that cannot be read or parsed.
    """
    for file, understand in _FILES.items():
        path = os.path.join(directory, file)
        if os.path.isfile(path):
            yield understand(path)


def _python(path: str) -> Project:
    document = _toml(path)
    project = _at(document, "project")
    poetry = _at(document, "tool", "poetry")
    return Project(
        file=path,
        language="Python",
        name=_text(project.get("name")) or _text(poetry.get("name")),
        version=_text(project.get("version")) or _text(poetry.get("version")),
    )


def _node(path: str) -> Project:
    try:
        document = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{printable(path)}: {error}") from error
    package = document if isinstance(document, dict) else {}
    start = _text(_at(package, "scripts").get("start")) or ""
    main = _text(package.get("main"))
    # A script with shell syntax, or with another program than node, needs npm to run it.
    simple = start.startswith("node ") and not set(start) & set("&|;<>$`\"'\\")
    return Project(
        file=path,
        language="Node.js",
        name=_text(package.get("name")),
        version=_text(package.get("version")),
        start=tuple(start.split()) if simple else (("node", main) if main else ()),
    )


def _rust(path: str) -> Project:
    document = _toml(path)
    package = _at(document, "package")
    said = package.get("version")
    if isinstance(said, dict):  # `version.workspace = true`
        said = _at(document, "workspace", "package").get("version")
    return Project(file=path, language="Rust", name=_text(package.get("name")), version=_text(said))


def _go(path: str) -> Project:
    words = next(
        (line.split() for line in _read(path).splitlines() if line.startswith("module ")), []
    )
    module = words[1] if len(words) > 1 else ""
    return Project(file=path, language="Go", name=module.rpartition("/")[2] or None)


_FILES = {
    "pyproject.toml": _python,
    "package.json": _node,
    "Cargo.toml": _rust,
    "go.mod": _go,
}


def _toml(path: str) -> Mapping[str, Any]:
    import tomllib  # takes 3 ms, so it is imported only if there is a TOML file

    try:
        return tomllib.loads(_read(path).replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{printable(path)}: {error}") from error


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"cannot read {printable(path)}: {reason}") from error


def _at(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return the table in `document` under the nested `keys`; empty if there is none."""
    table: Any = document
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
