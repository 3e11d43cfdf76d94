"""Read the tables of the configuration file: their keys are the long names of `push`'s flags.

Keys are derived from the flags, so a new flag is a new key. The flag's metavar tells more about its
value: for `NAME=VALUE` it may be a TOML table, for `WORDS` it is a command line, for `FILE` a path
relative to the configuration file, for `TIME` it may be a TOML date-time.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from datetime import date
from enum import Enum
from functools import cache, partial
from typing import Any, get_args, get_origin

from msgspec import Struct

from regpush.cli.flags import Flags, hints_of
from regpush.errors import UsageError, printable
from regpush.project.configuration import TARGET, VERSION, Configuration, did_you_mean
from regpush.sources import prefixes

_OF_APPS = (TARGET, VERSION)
"""Keys that are not flags: the target of an app, and the value of the placeholder `{version}`."""

_PLURALS = {
    "annotations": "annotation",
    "labels": "label",
    "platforms": "platform",
    "symlinks": "symlink",
    "tags": "tag",
    "volumes": "volume",
}
"""Plural names of keys that hold a list. Both names of a key in one table are an error."""

_CREDENTIALS = frozenset({"username", "password_stdin", "registry_token"})
_LIKE_CREDENTIALS = r"passw|token|^auth$|^credentials?$|^user-?name$"


class Setting(Struct, frozen=True, kw_only=True, eq=False):
    """A value from the configuration file, as typer accepts it: text, number, bool, list of texts.

    `place`: file and table, for messages.
    """

    value: Any
    place: str


class Key(Struct, frozen=True, kw_only=True, eq=False):
    """A key of the configuration file, and the flag that it sets.

    `field`: the flag's field in `Flags`. `kind`: the type of one value. `repeatable`: whether the
    flag takes several values. `least` and `most`: bounds of a number; None if unbounded.
    """

    name: str
    field: str
    kind: type
    repeatable: bool
    metavar: str
    least: float | None
    most: float | None

    @property
    def is_pairs(self) -> bool:
        """Whether each value of the flag is a NAME=VALUE pair."""
        return self.repeatable and "=" in self.metavar

    def value(self, said: Any, directory: str) -> Any:
        """Return the TOML value `said` in the form that typer accepts for the flag.

        `directory`: the configuration file's directory, which paths are relative to. Raises
        ValueError, whose message describes the expected value.
        """
        if not self.repeatable:
            return self._located(self._one(said), directory)
        if isinstance(said, dict) and self.is_pairs:
            return [f"{name}={self._text(value)}" for name, value in said.items()]
        if isinstance(said, dict):
            raise ValueError("a list of strings")
        if self.metavar == "WORDS" and isinstance(said, list):
            return [json.dumps([self._text(one) for one in said])]
        several = said if isinstance(said, list) else [said]
        return [self._located(self._one(one), directory) for one in several]

    def _one(self, said: Any) -> Any:
        if self.kind is bool:
            if not isinstance(said, bool):
                raise ValueError("true or false")
            return said
        if issubclass(self.kind, Enum):
            known = tuple(one.value for one in self.kind)
            if said not in known:
                hint = did_you_mean(said, known) if isinstance(said, str) else ""
                raise ValueError(f"one of {', '.join(known)}{hint}")
            return said
        if issubclass(self.kind, (int, float)):
            return self._number(said)
        return self._text(said)

    def _number(self, said: Any) -> int | float:
        wanted = "a whole number" if self.kind is int else "a number"
        accepted = int if self.kind is int else (int, float)
        if isinstance(said, bool) or not isinstance(said, accepted):
            raise ValueError(wanted)
        if self.least is not None and said < self.least:
            raise ValueError(f"{wanted} of at least {self.least}")
        if self.most is not None and said > self.most:
            raise ValueError(f"{wanted} up to {self.most}")
        return said

    def _text(self, said: Any) -> str:
        if isinstance(said, str):
            return said
        # Floats and booleans need quotes: TOML reads 1.10 as 1.1, and users write True or true.
        if isinstance(said, int) and not isinstance(said, bool):
            return str(said)
        if isinstance(said, date) and self.metavar == "TIME":
            return said.isoformat()
        if isinstance(said, (bool, float)):
            raise ValueError(f"a string: put {str(said).lower()} into quotes")
        if self.is_pairs:
            raise ValueError("a table of strings, or a list of strings NAME=VALUE")
        raise ValueError("a string or a list of strings" if self.repeatable else "a string")

    def _located(self, said: Any, directory: str) -> Any:
        if self.metavar == "FILE" and said:
            return from_here(directory, said)
        # The value of --sign-key may be a URL, that of --layers the name of a strategy.
        if self.field == "sign_key" and "://" not in said:
            return from_here(directory, said)
        if self.field == "layers" and said.startswith("file="):
            return f"file={from_here(directory, said.removeprefix('file='))}"
        return said


@cache
def keys() -> Mapping[str, Key]:
    """Return all keys that set flags, by name; plural names are included."""
    found = {}
    for field, hint in hints_of(Flags).items():
        option = hint.__metadata__[0]
        if field in _CREDENTIALS or field == "config":
            continue
        kind, repeatable = _kind(get_args(hint)[0])
        name = spelled(field)
        found[name] = Key(
            name=name,
            field=field,
            kind=kind,
            repeatable=repeatable,
            metavar=option.metavar or "",
            least=option.min,
            most=option.max,
        )
    plurals = {many: found[one] for many, one in _PLURALS.items() if one in found}
    return found | plurals


def spelled(field: str) -> str:
    """Return the flag's long name, without leading dashes, for its `field` in `Flags`.

    For example `max-layers` for `max_layers`, and `from` for `from_`.
    """
    return field.rstrip("_").replace("_", "-")


def by_field() -> Mapping[str, Key]:
    """Return all keys that set flags, by the flag's field in `Flags`."""
    return {key.field: key for key in keys().values()}


def _kind(hint: Any) -> tuple[type, bool]:
    """Return the type of one value of a flag, and whether the flag is repeatable."""
    if get_origin(hint) is list:
        return get_args(hint)[0], True
    if get_origin(hint) is not None and type(None) in get_args(hint):  # `X | None`
        return _kind(next(one for one in get_args(hint) if one is not type(None)))
    return hint, False


def settings(configuration: Configuration, app: str | None) -> dict[str, Setting]:
    """Return the settings for `app`, by field of `Flags`: its own over those of `[defaults]`.

    `app` None: those of `[defaults]` alone. Tables of other apps are checked too. Raises
    UsageError, naming file, table and key, for an unknown key or a bad value.
    """
    known = keys()
    tables = {
        name: _read(configuration, name, table, known) for name, table in configuration.apps.items()
    }
    said = _read(configuration, None, configuration.defaults, known)
    pairs = {key.field for key in known.values() if key.is_pairs}
    for field, setting in tables.get(app or "", {}).items():
        below = said.get(field)
        if below and field in pairs:
            place = f"{below.place}, {configuration.title(app)}"
            setting = Setting(value=merge_pairs(below.value, setting.value), place=place)
        said[field] = setting
    return said


def merge_pairs(below: Iterable[str], above: Iterable[str]) -> list[str]:
    """Merge two lists of NAME=VALUE texts; for a name in both, the text of `above` is kept."""
    above = list(above)
    named = {text.partition("=")[0] for text in above}
    return [text for text in below if text.partition("=")[0] not in named] + above


def _read(
    configuration: Configuration,
    app: str | None,
    table: Mapping[str, Any],
    known: Mapping[str, Key],
) -> dict[str, Setting]:
    place = configuration.place(app)
    of_apps = _OF_APPS if app is not None else (VERSION,)
    found: dict[str, Setting] = {}
    for name, said in table.items():
        if name in of_apps:
            found[name] = Setting(value=_of_app(configuration, place, name, said), place=place)
            continue
        if name not in known:
            raise UsageError(f"{place}: {_unknown(name, (*known, *of_apps), app)}")
        key = known[name]
        if key.field in found:
            raise UsageError(f"{place}: {key.name} and {name} are one key: keep one of them")
        try:
            value = key.value(said, configuration.directory)
        except ValueError as error:
            raise UsageError(f"{place}: {name} is {_shown(said)}, expected {error}") from error
        found[key.field] = Setting(value=value, place=place)
    return found


def _of_app(configuration: Configuration, place: str, name: str, said: Any) -> Any:
    """Check the value `said` of the key `target` or `version`, and return it.

    A version must be a string. A target must be a string or a list of strings; it is returned as a
    list, with paths relative to the current directory. Raises UsageError for other values.
    """
    several = said if isinstance(said, list) and said and name == TARGET else [said]
    if not all(isinstance(one, str) and one for one in several):
        wanted = "a string or a list of strings" if name == TARGET else "a string"
        raise UsageError(f"{place}: {name} is {_shown(said)}, expected {wanted}")
    if name == VERSION:
        return said
    return [from_here_target(configuration.directory, one) for one in several]


def _unknown(name: str, known: tuple[str, ...], app: str | None) -> str:
    if re.search(_LIKE_CREDENTIALS, name.replace("_", "-")):
        return (
            f"{printable(name)}: credentials do not belong into a file that others read; "
            "use regpush login, REGPUSH_AUTH, or --username with --password-stdin"
        )
    if name == TARGET and app is None:
        return "target is a key of apps: put it into [apps.NAME]"
    hint = (
        did_you_mean(name.replace("_", "-"), known) or "; regpush push --help-all lists the flags"
    )
    return f"unknown key '{printable(name)}'{hint}"


def _shown(said: Any) -> str:
    """Return `said` as JSON on one line, cut to 60 characters, for a message."""
    text = printable(json.dumps(said, default=str))
    return text if len(text) <= 60 else f"{text[:57]}…"


def from_here(directory: str, path: str) -> str:
    """Return `path`, which is relative to `directory`, relative to the current directory."""
    return os.path.normpath(os.path.join(directory, path))


def from_here_target(directory: str, target: str) -> str:
    """Return `target` with its path, now relative to `directory`, relative to the current one.

    A target without a prefix such as `python:` is a path, except `-`, which is stdin.
    """
    prefix, colon, rest = target.partition(":")
    if colon and (source := prefixes.find(prefix)):
        return f"{prefix}:{source.relocated(rest, partial(from_here, directory))}"
    return target if target == "-" else from_here(directory, target)
