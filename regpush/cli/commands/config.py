"""`regpush config`: show the settings of a push, and where each value comes from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Annotated, Any

import typer
from msgspec import Struct

from regpush.cli.access import ConfigFlags
from regpush.cli.configured import load
from regpush.cli.console import tell
from regpush.cli.flags import Flags, Format, default, from_environ, with_flags
from regpush.cli.keys import by_field, merge_pairs, settings, spelled
from regpush.cli.present import OnStdout, Presenter
from regpush.errors import UsageError
from regpush.project.configuration import FILE, TARGET, VERSION, Configuration

_HIDDEN = "(hidden)"
_SECRET_FLAGS = frozenset({"registry_token"})
_SECRET_NAMES = re.compile(r"passw|secret|token|api_?key|private_?key|credential", re.IGNORECASE)


class Effective(Struct, frozen=True):
    """A setting's value in a push. `source`: the file or variable that sets it, if any."""

    value: Any
    source: str | None


@with_flags
def config(
    flags: ConfigFlags,
    app: Annotated[
        str | None,
        typer.Argument(metavar="[APP]", help="App in the configuration. Default: its only app."),
    ] = None,
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Show the settings of a push of APP, and the source of each."""
    found = load(flags.config)
    if app is not None and found is None:
        raise UsageError(f"no {FILE} in this directory or above; regpush init writes one")
    if found and app is not None:
        found.app(app)
    if found and app is None and len(found.apps) == 1:
        app = next(iter(found.apps))
    values = effective(found, app, os.environ)
    report = {
        "schema": 1,
        "file": found.path if found else None,
        "apps": list(found.apps) if found else [],
        "app": app,
        "values": {
            name: {"value": one.value, "from": one.source or "default"}
            for name, one in values.items()
        },
    }
    if format is Format.TEXT and not flags.quiet:
        tell(f"note: {_title(found, app)}")
    Presenter(format).result(report, lambda: _lines(values))


def effective(
    configuration: Configuration | None, app: str | None, environ: Mapping[str, str]
) -> dict[str, Effective]:
    """Return every setting of a push of `app`, by its key in the configuration.

    Settings that a file or a variable sets come first. Raises UsageError for bad values.
    """
    said = settings(configuration, app) if configuration else {}
    variables = from_environ(environ, Flags)
    pairs = {field for field, key in by_field().items() if key.is_pairs}
    found = {name: Effective(said[name].value, said[name].place) for name in (TARGET, VERSION)
             if name in said}  # fmt: skip
    for one in fields(Flags):
        value, source = default(one), None
        if one.name in said:
            value, source = said[one.name].value, said[one.name].place
        if one.name in variables:
            below, value = value, variables[one.name]
            variable = f"REGPUSH_{one.name.rstrip('_').upper()}"
            both = one.name in pairs and source is not None
            value = merge_pairs(below, value) if both else value
            source = f"{source}, {variable}" if both else variable
        if one.name != "config":
            found[spelled(one.name)] = Effective(_shown(one.name, value), source)
    return dict(sorted(found.items(), key=lambda item: item[1].source is None))


def _shown(field: str, value: Any) -> Any:
    """Return `value` as a JSON value, with secrets hidden; None for a missing required value."""
    if field in _SECRET_FLAGS and value:
        return _HIDDEN
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list):
        return [_without_secret(one) for one in value]
    return value if isinstance(value, (str, int, float)) else None


def _without_secret(text: str) -> str:
    name, equals, value = text.partition("=")
    secret = equals and value and _SECRET_NAMES.search(name)
    return f"{name}={_HIDDEN}" if secret else text


def _title(configuration: Configuration | None, app: str | None) -> str:
    if configuration is None:
        return f"no {FILE} in this directory or above; only variables and defaults apply"
    if app is not None:
        return f"{app}: {configuration.place(app)}"
    apps = ", ".join(configuration.apps) or "none"
    return f"{configuration.path}, the settings of all apps (apps: {apps})"


def _lines(values: Mapping[str, Effective]) -> list[str]:
    rows = [
        (name, json.dumps(one.value, ensure_ascii=False), one.source or "default")
        for name, one in values.items()
        if one.value not in (None, "", []) or one.source
    ]
    names = max(len(name) for name, _, _ in rows)
    texts = min(40, max(len(text) for _, text, _ in rows))
    return [f"{name:{names}}  {text:{texts}}  {source}" for name, text, source in rows]
