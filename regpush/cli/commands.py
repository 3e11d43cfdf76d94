"""The commands as the command line lists them: by purpose, with examples; and what was meant.

`push` is the command where none is named: `regpush TARGET --to REF`. Typer brings its own copy
of click, or uses the one that is installed, by its version: nothing here names either.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from typer.core import TyperCommand, TyperGroup

DEFAULT = "push"

_PUSH, _LOOK = "Push", "Look"
_REGISTRY, _PIPELINE = "Registry", "Pipeline"


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a command stands in the list, and how it is used."""

    panel: str
    examples: tuple[str, ...]


ENTRIES = {
    "push": _Entry(_PUSH, (
        "regpush ./myapp --to registry.example.com/app",
        "regpush ./result --to ghcr.io/me/app:v2 -t latest --entrypoint bin/app",
        "regpush ./myapp --to localhost:5000/app --layers auto --max-upload 50MB",
    )),
    "plan": _Entry(_PUSH, (
        "regpush plan ./myapp --to registry.example.com/app",
        "regpush plan ./myapp --to registry.example.com/app --exact --link 100mbit",
    )),
    "copy": _Entry(_PUSH, (
        "regpush copy registry.example.com/app:v2 ghcr.io/me/app",
        "regpush copy docker.io/library/debian:12 localhost:5000/debian --platform linux/arm64",
    )),
    "rebase": _Entry(_PUSH, (
        "regpush rebase registry.example.com/app",
        "regpush rebase registry.example.com/app --from debian:12",
    )),
    "index": _Entry(_PUSH, (
        "regpush index registry.example.com/app:v2 sha256:$AMD64 sha256:$ARM64",
    )),
    "tag": _Entry(_PUSH, (
        "regpush tag registry.example.com/app:v2 latest stable",
        "regpush tag registry.example.com/app@sha256:$DIGEST v2 --if-exists fail",
    )),
    "demo": _Entry(_PUSH, ("regpush demo",)),
    "inspect": _Entry(_LOOK, (
        "regpush inspect registry.example.com/app:v2",
        "regpush inspect registry.example.com/app --platform linux/arm64 --format json",
        "regpush inspect registry.example.com/app:v1 registry.example.com/app:v2 --html map.html",
    )),
    "tags": _Entry(_LOOK, ("regpush tags registry.example.com/app",)),
    "why": _Entry(_LOOK, (
        "regpush why registry.example.com/app:v1 registry.example.com/app:v2",
    )),
    "history": _Entry(_LOOK, ("regpush history registry.example.com/app -o history.json",)),
    "simulate": _Entry(_LOOK, (
        "regpush simulate history.json",
        "regpush simulate history.json --layers auto --layers stable --max-layers 20",
    )),
    "sbom": _Entry(_LOOK, ("regpush sbom registry.example.com/app:v2",)),
    "verify": _Entry(_LOOK, (
        "regpush verify registry.example.com/app:v2",
        "regpush verify registry.example.com/app:v2 ./myapp --sample 5%",
    )),
    "doctor": _Entry(_REGISTRY, (
        "regpush doctor registry.example.com/app",
        "regpush doctor ghcr.io/me/app --format json",
    )),
    "login": _Entry(_REGISTRY, (
        "regpush login registry.example.com -u me",
        "pass show registry | regpush login registry.example.com -u me --password-stdin",
    )),
    "logout": _Entry(_REGISTRY, ("regpush logout registry.example.com",)),
    "serve": _Entry(_REGISTRY, ("regpush serve --port 5000 --dir ./registry",)),
    "init": _Entry(_PIPELINE, ("regpush init",)),
    "config": _Entry(_PIPELINE, ("regpush config",)),
    "resolve": _Entry(_PIPELINE, ("regpush resolve -f k8s.yaml | kubectl apply -f -",)),
    "help": _Entry(_PIPELINE, ("regpush help push",)),
    "schema": _Entry(_PIPELINE, ("regpush schema push > push.schema.json",)),
}  # fmt: skip
"""In the order in which they are listed; a name without a command is not."""

_ELSEWHERE = {
    "ls": "tags",
    "list": "tags",
    "list-tags": "tags",
    "retag": "tag",
    "cp": "copy",
    "mirror": "copy",
    "show": "inspect",
    "manifest": "index",
    "validate": "verify",
}
"""What other tools (crane, skopeo, regctl, docker) call what our commands do."""

_OF_ALL = (
    "regpush ./myapp --to registry.example.com/app",
    "regpush plan ./myapp --to registry.example.com/app",
    "regpush doctor registry.example.com/app",
    "regpush COMMAND --help",
)

_VALUES = {"integer": "N", "int": "N", "float": "N", "text": "TEXT", "str": "TEXT"}
"""What stands for a value in the help, by the name of its type in typer, or in click."""


def _show(examples: Sequence[str]) -> None:
    """Print them below the help, which typer prints itself: as they are, to be copied."""
    lines = ["Examples:", *(f"  $ {example}" for example in examples)]
    sys.stdout.write("".join(f" {line}\n" for line in [*lines, ""]))


def _show_values(parameters: Sequence[Any]) -> None:
    """Name what follows a flag as people do: nothing after a switch, N, TEXT."""
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


class Command(TyperCommand):
    """A command whose place in the list, and whose examples, are those of its name."""

    def __init__(self, name: str | None, **more: Any) -> None:
        self._entry = ENTRIES.get(name or "")
        if self._entry:
            more["rich_help_panel"] = self._entry.panel
        super().__init__(name, **more)
        _show_values(self.params)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, and the examples."""
        super().format_help(ctx, formatter)
        if self._entry:
            _show(self._entry.examples)

    def get_help_option(self, ctx: Any) -> Any:
        """The flag `--help`, which takes no value and shows none."""
        option = super().get_help_option(ctx)
        _show_values([option] if option else [])
        return option


class Group(TyperGroup):
    """`regpush` itself: the first word is a command, or else what `push` is to push."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As of a command."""
        super().format_help(ctx, formatter)
        _show(_OF_ALL)

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, by purpose."""
        order = list(ENTRIES)
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: order.index(name) if name in order else len(order))

    def get_help_option(self, ctx: Any) -> Any:
        """As of a command."""
        option = super().get_help_option(ctx)
        _show_values([option, *self.params] if option else self.params)
        return option

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words, `push` before those that name no command."""
        own = {name for one in self.get_params(ctx) for name in one.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            args = [DEFAULT, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What the first word may become: a command, or a flag of `push` as well."""
        found = super().shell_complete(ctx, incomplete)
        if not incomplete.startswith("-"):
            return found
        push: Any = self.commands[DEFAULT]
        with push.make_context(DEFAULT, [], parent=ctx, resilient_parsing=True) as inner:
            known = {item.value for item in found}
            more = push.shell_complete(inner, incomplete)
        return [*found, *(item for item in more if item.value not in known)]


def explained(error: Exception, words: Sequence[str]) -> str:
    """What was meant, where words that were not understood are near others; or nothing."""
    import difflib

    name, ctx = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if isinstance(name, str) and ctx is not None:
        flags = [flag for one in ctx.command.get_params(ctx) for flag in one.opts]
        near = difflib.get_close_matches(name, flags, n=1)
        return f"; did you mean {near[0]}?" if near else ""
    first = words[0] if words else ""
    if first in ENTRIES or first.startswith("-") or os.path.lexists(first):
        return ""
    near_command = meant(first)
    return f"; did you mean 'regpush {near_command}'?" if near_command else ""


def meant(word: str) -> str:
    """The command that `word` means in other tools, or that is spelt almost so; or nothing."""
    import difflib

    if word in _ELSEWHERE:
        return _ELSEWHERE[word]
    near = difflib.get_close_matches(word, ENTRIES, n=1, cutoff=0.7)
    return near[0] if near else ""
