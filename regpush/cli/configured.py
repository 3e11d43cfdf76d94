"""The class of commands that take values from the configuration file.

Order of precedence: command line, `REGPUSH_*` variables, configuration file, built-in defaults.
Values of variables and file are given to typer as defaults before it parses the command line, so
that typer checks all values.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from enum import Enum
from typing import Any, get_args, get_type_hints

from msgspec import Struct

from regpush.cli.access import AccessFlags
from regpush.cli.command import Command
from regpush.cli.console import note, tell
from regpush.cli.flags import Flags, Progress, default
from regpush.cli.keys import Setting, by_field, merge_pairs, settings
from regpush.cli.placeholders import facts, fill_in
from regpush.errors import UsageError, printable
from regpush.project.configuration import (
    TARGET,
    VERSION,
    Configuration,
    TrustedOwners,
    did_you_mean,
    find,
    read,
)

_PACKAGES = {"manifest", "expression", "file"}
"""Flags that name Guix packages; a command with one of them needs no target."""

_ARGUMENTS = (TARGET, "targets", "new")
"""Names of the command-line arguments whose value may be an app of the configuration file."""


class Said(Struct, frozen=True, kw_only=True, eq=False):
    """The input of a command from command line and configuration file.

    `arguments`: all words behind the command's name. `word`: the target as the user wrote it; None
    without a target or with several. `app`: the same word, if the configuration has an app of that
    name. `settings`: values of the configuration, by field of `Flags`.
    """

    arguments: tuple[str, ...] = ()
    configuration: Configuration | None = None
    word: str | None = None
    app: str | None = None
    settings: Mapping[str, Setting]

    @property
    def targets(self) -> list[str]:
        """The targets to push: those of the app, else the word. Raises UsageError without any."""
        if self.app is None:
            return [self.word] if self.word else []
        if TARGET in self.settings:
            return list(self.settings[TARGET].value)
        if not self.settings.keys() & _PACKAGES:
            raise UsageError(f'{self.place} does not say what to push: add target = "."')
        return []

    @property
    def place(self) -> str:
        """The configuration file and the table of the app, for messages; empty without a file."""
        return self.configuration.place(self.app) if self.configuration else ""


def load(path: str | None) -> Configuration | None:
    """Read the configuration file `path`, or for None the nearest in this directory or above.

    Returns None if there is none. Raises UsageError for a missing, malformed or untrusted file.
    """
    if path is None:
        return find(".", trust(os.environ, os.geteuid()), note)
    found = read(path)
    if os.path.basename(path) == "pyproject.toml" and not found.prefix:
        raise UsageError(f"{printable(path)} has no table [tool.regpush]")
    return found


def trust(environ: Mapping[str, str], user: int) -> TrustedOwners:
    """Return the owners whose configuration files are trusted, and the trusted directories.

    `user`: the uid of this process. Owners are root and `user`; for root also the user who called
    sudo (sudo(8), SUDO_UID). `REGPUSH_SAFE_DIRECTORY` holds the directories, separated by colons;
    `*` stands for every directory.
    """
    users = {0, user}
    if user == 0 and environ.get("SUDO_UID", "").isdecimal():
        users.add(int(environ["SUDO_UID"]))
    named = filter(None, environ.get("REGPUSH_SAFE_DIRECTORY", "").split(os.pathsep))
    safe = {one if one == "*" else os.path.realpath(one) for one in named}
    return TrustedOwners(users=frozenset(users), safe=frozenset(safe))


class ConfiguredTarget(Struct, frozen=True, eq=False):
    """A target that `regpush resolve` found in a manifest, to be parsed like one that users write.

    It is the `obj` of a typer context.
    """

    word: str


class ConfiguredCommand(Command):
    """A typer command whose defaults come from the configuration file and `REGPUSH_*` variables."""

    # Contexts have the type Any: their class is in typer or in click, depending on typer's version.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line `args`, with the configuration's values as defaults."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        given = _present(self.make_parser(ctx).parse_args(args=list(args))[0])
        if given.get("help") or given.get("help_all"):
            return super().parse_args(ctx, args)
        environ = ctx.default_map or {}
        said = self._said(ctx, given, environ, tuple(args))
        own = {one.name: one for one in self.params}
        # A command that makes no layers uses only the settings about access to registries.
        heard = own if "root_dir" in own else AccessFlags.__dataclass_fields__
        file = {
            field: value
            for field, setting in said.settings.items()
            if field in own
            and field in heard
            and (value := _fitting(setting.value, own[field])) is not None
        }
        ctx.default_map = {**file, **environ}
        ctx.obj = said
        if self._pushes and "to" not in ctx.default_map and "to" not in given:
            _ask_where_to(said)
        rest: list[str] = super().parse_args(ctx, args)
        _merge(ctx.params, file, environ, given)
        if said.app and self._argument:
            ctx.params[self._argument] = self._targets_of(said)
        if "tag" in own and (self._argument or said.word):
            _fill_in(ctx.params, said)
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; if the configuration causes an error, the message names its table."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            more = _explanation(ctx) if isinstance(ctx.obj, Said) else ""
            if not more:
                raise
            raise UsageError(f"{error}{more}") from error

    @property
    def _argument(self) -> str | None:
        """The name of the command's argument whose value may be an app; None without one."""
        return next((one.name for one in self.params if one.name in _ARGUMENTS), None)

    @property
    def _pushes(self) -> bool:
        """Whether the command takes a target and a destination."""
        return {TARGET, "to"} <= {one.name for one in self.params}

    def _targets_of(self, said: Said) -> str | list[str]:
        if self._argument != "new":
            return said.targets
        if len(said.targets) != 1:
            raise UsageError(
                f"{said.place} has {len(said.targets)} targets, but the command takes one: give it "
                "as an argument"
            )
        return said.targets[0]

    def _said(
        self, ctx: Any, given: Mapping[str, Any], environ: Mapping[str, Any], args: tuple[str, ...]
    ) -> Said:
        configuration = load(given.get("config") or environ.get("config"))
        named = given.get(self._argument or "", ())
        words = [named] if isinstance(named, str) else list(named)
        if isinstance(ctx.obj, ConfiguredTarget):
            words = [ctx.obj.word]
        word = words[0] if len(words) == 1 else None
        if configuration is None:
            return Said(arguments=args, word=word, settings={})
        if not words and self._pushes and not _PACKAGES & (given.keys() | environ):
            word = _only(configuration)
        apps = [one for one in words if one in configuration.apps]
        if apps and word is None:
            raise UsageError(
                f"{apps[0]} is an app of {configuration.path} and cannot be combined with other "
                f"targets: push it alone, or write dir:{apps[0]} for the directory"
            )
        app = word if word in configuration.apps else None
        return Said(
            arguments=args,
            configuration=configuration,
            word=word,
            app=app,
            settings=settings(configuration, app),
        )


def flags_of(ctx: Any, word: str, to: str) -> tuple[list[str], Flags]:
    """Return the targets and the flags for a push of `word`, an app or a path, to `to`.

    `regpush resolve` calls this for each of its pushes; the flags on its command line, in `ctx`,
    apply to all of them. Raises UsageError for a malformed flag or configuration.
    """
    again = ctx.command.make_context(
        ctx.info_name,
        [*ctx.obj.arguments, "--to", to],
        parent=ctx.parent,
        obj=ConfiguredTarget(word),
    )
    return again.obj.targets, _flags(again.params)


def _ask_where_to(said: Said) -> None:
    """Raise UsageError if a missing `--to` can be explained by the configuration.

    The app has no `to`, or the target is neither an app nor a file. Otherwise typer reports the
    missing flag.
    """
    if said.app:
        raise UsageError(
            f"{said.place} does not say where to push: add `to`, or give --to registry/name"
        )
    known = said.configuration and said.configuration.apps
    if said.configuration and known and said.word and not os.path.lexists(said.word):
        said.configuration.app(said.word)


def _fill_in(params: dict[str, Any], said: Said) -> None:
    """Fill in placeholders in the flags `params`, in place.

    Also prints a note that names the app, if the target is an app of the configuration.
    """

    def say(line: str) -> None:
        if not params["quiet"] and params["progress"] not in (Progress.NONE, Progress.NONE.value):
            tell(f"note: {line}")

    if said.app:
        say(f"{said.app}: {said.place}")
    if not any("{" in text for text in _texts(params)):
        return
    version = said.settings.get(VERSION)
    directory = said.configuration.directory if said.configuration else "."
    targets = [one.removeprefix("dir:") for one in said.targets]
    values = facts(os.environ, [*targets, directory], version.value if version else None, say)
    fill_in(params, values)


def _flags(params: Mapping[str, Any]) -> Flags:
    """Return the flags of a push from the `params` of a typer context.

    The texts of choices, such as `json`, are converted to their enums: typer converts them only
    when it calls the command.
    """
    hints = get_type_hints(Flags)
    return Flags(**{one.name: _choice(hints[one.name], params[one.name]) for one in fields(Flags)})


def _choice(hint: Any, value: Any) -> Any:
    for kind in (hint, *get_args(hint)):
        if inspect.isclass(kind) and issubclass(kind, Enum) and isinstance(value, str):
            return kind(value)
    return value


def _present(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values in `given`, the result of click's parser, that are on the command line.

    Versions of click mark absent values differently, but never with a text, bool, number or list.
    """
    kinds = (str, bool, int, list, tuple)
    return {name: value for name, value in given.items() if isinstance(value, kinds)}


def _merge(
    params: dict[str, Any],
    file: Mapping[str, Any],
    environ: Mapping[str, Any],
    given: Mapping[str, Any],
) -> None:
    """Merge the NAME=VALUE pairs of each flag from file, variables and command line into `params`.

    For a name in several of them, the command line wins over variables, and variables over the
    file. Where file and variables give nothing, `params` stays as it is.
    """
    if not file and not environ:
        return
    for field, key in by_field().items():
        if key.is_pairs and field in params:
            below = merge_pairs(file.get(field, ()), environ.get(field, ()))
            params[field] = merge_pairs(below, given.get(field, ()))


def _fitting(value: Any, parameter: Any) -> Any:
    """Return `value`, of the configuration, in the form that the flag `parameter` takes.

    The configuration's keys are the flags of `push`. A flag that is repeatable there may take one
    value in another command: then returns the only value of a list, and None for several values.
    """
    if isinstance(value, list) and not getattr(parameter, "multiple", False):
        return value[0] if len(value) == 1 and parameter.nargs == 1 else None
    return value


def _texts(params: Mapping[str, Any]) -> Iterator[str]:
    for value in params.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (one for one in value if isinstance(one, str))


def _only(configuration: Configuration) -> str | None:
    """Return the name of the configuration's only app; None if it has no app.

    Raises UsageError if it has several.
    """
    if len(configuration.apps) > 1:
        names = ", ".join(configuration.apps)
        raise UsageError(f"{configuration.path} has several apps, name one of them: {names}")
    return next(iter(configuration.apps), None)


def _explanation(ctx: Any) -> str:
    """Return an explanation to append to the message of a UsageError; empty without one.

    It names an app similar to the target, or the configuration's table that holds the bad value.
    """
    said: Said = ctx.obj
    if said.configuration is None:
        return ""
    if said.word and not said.app and not os.path.lexists(said.word):
        close = did_you_mean(said.word, said.configuration.apps)
        return f"{close[:-1]} of {said.configuration.path}?" if close else ""
    if not Flags.__dataclass_fields__.keys() <= ctx.params.keys():
        return ""
    flags = _flags(ctx.params)
    if _is_right(flags):
        return ""
    for one in fields(Flags):
        setting = said.settings.get(one.name)
        if setting and one.name != "to" and _is_right(replace(flags, **{one.name: default(one)})):
            return f" (in {setting.place})"
    return ""


def _is_right(flags: Flags) -> bool:
    try:
        flags.options(None)
    except UsageError:
        return False
    return True
