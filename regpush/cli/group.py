"""The typer group `regpush`: it finds the command in the words, and imports only its module."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from regpush.cli.command import Command, show_examples, show_values
from regpush.cli.configured import ConfiguredCommand
from regpush.cli.entries import DEFAULT, ENTRIES, EXAMPLES
from regpush.cli.flags import from_environ

_UNCONFIGURED = {"help", "init", "config", "simulate", "schema", "serve", "demo"}
"""Commands that ignore the configuration file."""


def function(name: str) -> Callable[..., None]:
    """Import the module of the command `name`, and return the command's function."""
    found: Callable[..., None] = getattr(import_module(f"regpush.cli.commands.{name}"), name)
    return found


@cache
def load(name: str) -> Command:
    """Import the module of the command `name`, and return it as a typer command."""
    one = typer.Typer(add_completion=False)
    kind = Command if name in _UNCONFIGURED else ConfiguredCommand
    one.command(name, cls=kind)(function(name))
    command: Any = get_command(one)
    return command  # type: ignore[no-any-return]  # get_command returns the class `kind`


class Group(TyperGroup):
    """The program `regpush`. If the first word names no command, the command is `push`.

    The context's `obj` holds the environment; its `REGPUSH_*` variables are defaults of flags.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  click's signature
        """Return the names of all commands, in the order of the help."""
        return list(ENTRIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  click's signature
        """Return the command `cmd_name` for the list in the help; None if there is no such command.

        It has a section and a summary, but no flags: its module is not imported.
        """
        entry = ENTRIES.get(cmd_name)
        return Command(cmd_name, help=entry.summary) if entry else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return name, command and remaining words of the command to run. Imports its module."""
        name, _, rest = super().resolve_command(ctx, args)
        record = getattr(function(str(name)), "flags", None)
        if record and (said := from_environ(ctx.obj, record)):
            ctx.default_map = {name: said}
        return name, load(str(name)), rest

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words `args`; if the first is no command, `push` is put before them."""
        own = {name for one in self.get_params(ctx) for name in one.opts}
        if args and args[0] not in ENTRIES and args[0] not in own:
            args = [DEFAULT, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of `regpush` and the examples to stdout."""
        super().format_help(ctx, formatter)
        show_examples(EXAMPLES)

    def get_help_option(self, ctx: Any) -> Any:
        """Return the flag `--help`, without a placeholder for a value."""
        option = super().get_help_option(ctx)
        show_values([option, *self.params] if option else self.params)
        return option

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the shell completions of the first word: commands, and flags of `push`."""
        found = super().shell_complete(ctx, incomplete)
        if not incomplete.startswith("-"):
            return found
        push: Any = load(DEFAULT)
        with push.make_context(DEFAULT, [], parent=ctx, resilient_parsing=True) as inner:
            known = {item.value for item in found}
            more = push.shell_complete(inner, incomplete)
        return [*found, *(item for item in more if item.value not in known)]
