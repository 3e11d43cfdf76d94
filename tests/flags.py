"""The reference of flags in docs/reference, made from the flags of the command line itself.

`python -m tests.flags` writes the reference between its two marks; the tests only compare.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import typer
from typer.models import ArgumentInfo, OptionInfo

from regpush.cli.entries import ENTRIES
from regpush.cli.group import function

DOCUMENT = Path(__file__).parent.parent / "docs" / "reference" / "flags.md"
COMMAND = "python -m tests.flags"
_REFERENCE = re.compile(r"(<!-- flags -->\n)(.*)(\n<!-- /flags -->)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag of a command: its spellings, the form of its value, and its section in the help."""

    name: str
    spellings: tuple[str, ...]
    value: str
    default: str
    meaning: str
    panel: str

    @property
    def shown(self) -> str:
        return f"`{', '.join(self.spellings)}{self.value and ' '}{self.value}`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command: its arguments, the first paragraph of its help, and its flags."""

    name: str
    arguments: tuple[str, ...]
    summary: str
    flags: tuple[Flag, ...]


def commands() -> Iterator[Command]:
    """Yield the commands of regpush in the order of its help."""
    for name in ENTRIES:
        yield _command(name, function(name))


def _command(name: str, run: Callable[..., Any]) -> Command:
    flags, arguments = [], []
    for one in inspect.signature(run, eval_str=True).parameters.values():
        if one.annotation is typer.Context or one.name == "help_all":
            continue
        hint, *said = get_args(one.annotation)
        (info,) = (more for more in said if isinstance(more, OptionInfo | ArgumentInfo))
        if isinstance(info, ArgumentInfo):
            arguments.append(info.metavar or one.name.upper())
        else:
            flags.append(_flag(one.name, hint, one.default, info))
    summary = " ".join((inspect.getdoc(run) or "").partition("\n\n")[0].split())
    return Command(name=name, arguments=tuple(arguments), summary=summary, flags=tuple(flags))


def _flag(name: str, hint: Any, default: Any, info: OptionInfo) -> Flag:
    # In an annotation the first spelling takes the place of the default.
    spellings = [one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str)]
    return Flag(
        name=name,
        spellings=tuple(spellings) or (f"--{name.replace('_', '-')}",),
        value="" if info.count else info.metavar or _value([hint, *get_args(hint)]),
        default=_default(default),
        meaning=info.help or "",
        panel=str(info.rich_help_panel or ""),
    )


def _value(kinds: Sequence[Any]) -> str:
    for kind in kinds:
        if kind is bool:
            return ""
        if kind in (int, float):
            return "N"
        if inspect.isclass(kind) and issubclass(kind, Enum):
            return "|".join(one.value for one in kind)
    return "TEXT"


def _default(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    elif isinstance(value, float):
        value = f"{value:g}"
    return "" if value in (None, False, "", [], inspect.Parameter.empty) else f"`{value}`"


def reference() -> str:
    """Return Markdown: the flags of a push by their purpose, then the flags of other commands."""
    push, *others = sorted(commands(), key=lambda one: one.name != "push")
    panels: dict[str, list[Flag]] = {}
    for flag in push.flags:
        panels.setdefault(flag.panel, []).append(flag)
    parts = [
        "These are the flags of `regpush TARGET`. In its variable a list has one value a line, "
        "and a flag without a value is `true`; `REGPUSH_VERBOSE` is a number, 2 for `-vv`."
    ]
    for panel, flags in panels.items():
        parts += [
            f"## {panel}",
            "\n".join(_table(flags, ("flag", "variable", "default", "meaning"))),
        ]
    for command in others:
        parts += _section(command, panels)
    return "\n\n".join(parts)


def _section(command: Command, panels: Mapping[str, Sequence[Flag]]) -> Iterator[str]:
    yield f"## `{' '.join(['regpush', command.name, *command.arguments])}`"
    known = {flag for flags in panels.values() for flag in flags}
    own = [flag for flag in command.flags if flag not in known]
    also = []
    if known <= set(command.flags):
        also.append("all of `regpush TARGET`")
    else:
        for panel, flags in panels.items():
            shared = [flag for flag in flags if flag in command.flags]
            whole = len(shared) == len(flags)
            also += [f"*{panel}*"] if whole else [f"`{flag.spellings[-1]}`" for flag in shared]
    yield command.summary + (f" Also takes {', '.join(also)}." if also else "")
    if own:
        yield "\n".join(_table(own, ("flag", "default", "meaning")))


def _table(flags: Sequence[Flag], head: Sequence[str]) -> Iterator[str]:
    yield _row(head)
    yield "|---" * len(head) + "|"
    for flag in flags:
        variable = flag.name.rstrip("_").upper()
        cells = {"flag": flag.shown, "variable": f"`REGPUSH_{variable}`",
                 "default": flag.default, "meaning": flag.meaning}  # fmt: skip
        yield _row([cells[column] for column in head])


def _row(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def written() -> str:
    """Return the reference that DOCUMENT has now."""
    found = _REFERENCE.search(DOCUMENT.read_text("utf-8"))
    assert found, f"{DOCUMENT} has no <!-- flags -->"
    return found[2]


def write() -> None:
    """Write the reference into DOCUMENT."""
    text, new = DOCUMENT.read_text("utf-8"), reference()
    DOCUMENT.write_text(_REFERENCE.sub(lambda at: at[1] + new + at[3], text), "utf-8")


if __name__ == "__main__":
    write()
