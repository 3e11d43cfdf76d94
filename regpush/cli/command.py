"""The typer command class whose `--help` shows common flags and examples, `--help-all` all flags.

Some versions of typer contain a copy of click, others import the installed click. This module
imports neither.
"""

from __future__ import annotations

import copy
import inspect
import re
import sys
from collections.abc import Sequence
from typing import Any, get_args

from typer.core import TyperCommand

from regpush.cli.entries import ENTRIES

MANY = 25
"""A command with more flags than this shows only common flags: more do not fit on a screen."""

_COMMON = (
    "to", "tag", "from_", "entrypoint", "env", "workdir", "platform", "layers", "format", "verbose",
)  # fmt: skip
"""Of a command with many flags, `--help` shows these and the flags of that command alone."""

_COMMON_PANEL = "Common flags"

_BRACED = re.compile(r"^\{(.+)\}$")

_VALUES = {"integer": "N", "int": "N", "float": "N", "text": "TEXT", "str": "TEXT"}
"""The placeholder of a flag's value in the help, by the name of its type in typer or click."""


class Command(TyperCommand):
    """A typer command whose help has the section and the examples given in `entries.ENTRIES`."""

    def __init__(self, name: str | None, **more: Any) -> None:
        self._entry = ENTRIES.get(name or "")
        if self._entry:
            more["rich_help_panel"] = self._entry.panel
        if more.get("help"):
            # typer would keep the line breaks of the docstring.
            paragraphs = inspect.cleandoc(more["help"]).split("\n\n")
            more["help"] = "\n\n".join(" ".join(one.split()) for one in paragraphs)
        super().__init__(name, **more)
        show_values(self.params)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the line `Usage`: REF for an argument that typer shows as {REF}."""
        return [_BRACED.sub(r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write help and examples to stdout; of more than `MANY` flags, only common ones."""
        shown = self._shortened()
        # typer writes its help to stdout and does not use `formatter`.
        TyperCommand.format_help(shown, ctx, formatter)
        if self._entry:
            show_examples(self._entry.examples)
        if more := len(self.params) - len(shown.params):
            sys.stdout.write(f" {more} more flags: {ctx.command_path} --help-all\n\n")

    def format_whole_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help with every flag, and the examples, to stdout."""
        super().format_help(ctx, formatter)
        if self._entry:
            show_examples(self._entry.examples)

    def get_help_option(self, ctx: Any) -> Any:
        """Return the flag `--help`, without a placeholder for a value."""
        option = super().get_help_option(ctx)
        show_values([option] if option else [])
        return option

    def _shortened(self) -> Command:
        """Return the command; if it has more than `MANY` flags, a copy with the flags to show.

        These are the common flags, and the flags that only this command has.
        """
        if len(self.params) <= MANY:
            return self
        shown = copy.copy(self)
        own = [one for one in self.params if not getattr(one, "rich_help_panel", None)]
        flags = {one.name: one for one in self.params}
        common = [flags[name] for name in _COMMON if name in flags and flags[name] not in own]
        shown.params = own + [_in_panel(one, _COMMON_PANEL) for one in common]
        return shown


def _in_panel(parameter: Any, panel: str) -> Any:
    moved = copy.copy(parameter)
    moved.rich_help_panel = panel
    return moved


def show_examples(examples: Sequence[str]) -> None:
    """Write example command lines to stdout, unwrapped, so that they can be copied."""
    lines = ["Examples:", *(f"  $ {example}" for example in examples)]
    sys.stdout.write("".join(f" {line}\n" for line in [*lines, ""]))


def show_values(parameters: Sequence[Any]) -> None:
    """Set the placeholder that the help shows for each flag's value: none for switches, N or TEXT.

    Arguments, and flags with a placeholder of their own, stay unchanged.
    """
    for one in parameters:
        if getattr(one, "metavar", None) is not None or one.param_type_name != "option":
            continue
        if getattr(one, "is_flag", False) or getattr(one, "count", False):
            one.metavar = ""
        else:
            one.metavar = _VALUES.get(_kind(one))


def _kind(option: Any) -> str:
    if hasattr(option, "type_descriptor"):
        annotation = option.type_descriptor.annotation
        return getattr((*get_args(annotation), annotation)[0], "__name__", "")
    return str(getattr(option.type, "name", "")).partition(" ")[0].lower()
