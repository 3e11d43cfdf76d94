"""What `nix:` targets name: attributes of flakes and of expressions, and their out paths.

An installable is `PLACE` or `PLACE#ATTRIBUTE`. A file, or a directory with a `default.nix` and
no flake, is an expression as `nix-build` takes it; anything else is for `nix build`: a flake,
a store path, a derivation with its outputs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from regpush.errors import SourceError, UsageError, printable
from regpush.sources.nix.command import command, config, has_nix
from regpush.sources.store_path import is_base
from regpush.sources.workshop import ToolError, Workshop


@dataclass(frozen=True, slots=True)
class Expression:
    """An attribute of a file of Nix, or what the file evaluates to."""

    file: str
    attribute: str

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of `nix-build` and `nix-instantiate`."""
        return (self.file, "-A", self.attribute) if self.attribute else (self.file,)


@dataclass(frozen=True, slots=True)
class Installable:
    """An installable in the terms of `nix build` (Nix manual, "nix", Installables)."""

    text: str


Wanted = Expression | Installable


def parse(text: str, workshop: Workshop) -> list[Wanted]:
    """The installables in `text`, separated by blanks. Raises UsageError, ToolError."""
    if not has_nix():
        raise UsageError(f"nix:{printable(text)} takes Nix, and there is no 'nix' on the PATH")
    words = text.split()
    for word in words:
        if word.startswith("-"):
            raise UsageError(
                f"bad target nix:{printable(text)}: an attribute is written after '#', such as "
                "nix:./default.nix#app"
            )
    return [_parse(word, workshop) for word in words or ["."]]


def _parse(word: str, workshop: Workshop) -> Wanted:
    place, _, attribute = word.partition("#")
    place = place or "."
    if os.path.isfile(place) and not is_base(os.path.basename(place)):
        return Expression(os.path.abspath(place), attribute)
    if os.path.isfile(os.path.join(place, "default.nix")):
        flake = os.path.isfile(os.path.join(place, "flake.nix"))
        if not flake or not config(workshop).flakes:
            return Expression(os.path.abspath(place), attribute)
    return Installable(word)


def evaluate(wanted: Sequence[Wanted], system: str | None, workshop: Workshop) -> list[str] | None:
    """The out paths of `wanted`, nothing built; None where building alone tells them.

    Derivations may be written to the store. Raises SourceError for what does not evaluate,
    CancelledError.
    """
    paths: list[str] = []
    for group in _groups(wanted):
        if isinstance(group, Expression):
            instantiate = ("nix-instantiate", *group.words, *_option("system", system))
            drvs = _loudly(workshop, *instantiate).split()
            paths += [path for drv in drvs for path in _output(drv, workshop)]
        else:
            # Not asked of substituters: whether a cache has it is our own question.
            dry = ("build", "--dry-run", "--no-link", "--json", *_option("substitute", "false"))
            printed = _loudly(workshop, *command(*dry, *_option("system", system), *group))
            paths += _outputs(printed)
    return None if "" in paths else list(dict.fromkeys(paths))


def build(wanted: Sequence[Wanted], system: str | None, workshop: Workshop) -> list[str]:
    """Build, or substitute, `wanted`, and return the out paths, which are valid then.

    They are roots of the store's garbage collector until the push ends. What Nix says becomes
    events. Raises SourceError for what does not build, CancelledError.
    """
    paths: list[str] = []
    for group in _groups(wanted):
        link = ("--out-link", workshop.new_path("result"))
        if isinstance(group, Expression):
            asked = ("nix-build", *group.words, *link, *_option("system", system))
            paths += workshop.run(*asked).split()
        else:
            asked = command("build", *link, "--json", *_option("system", system), *group)
            paths += _outputs(workshop.run(*asked))
    return list(dict.fromkeys(paths))


def _groups(wanted: Sequence[Wanted]) -> Iterator[Expression | list[str]]:
    """Each expression by itself, and installables that follow each other at once."""
    texts: list[str] = []
    for one in wanted:
        if isinstance(one, Installable):
            texts.append(one.text)
            continue
        if texts:
            yield texts
        texts = []
        yield one
    if texts:
        yield texts


def _option(name: str, value: str | None) -> tuple[str, ...]:
    return ("--option", name, value) if value else ()


def _loudly(workshop: Workshop, *asked: str) -> str:
    """Run what is silent unless it fails: then people see all it said."""
    try:
        return workshop.ask(*asked)
    except ToolError as error:
        workshop.show(asked[0], error.said)
        raise


def _output(drv: str, workshop: Workshop) -> list[str]:
    """The out path of what `nix-instantiate` printed: a derivation, and its output after `!`."""
    path, _, name = drv.partition("!")
    said = workshop.ask("nix-store", "--query", "--binding", name or "out", path)
    return [said.strip()]


def _outputs(printed: str) -> list[str]:
    """Out paths in what `nix build --json` prints, "" for one that is not known yet.

    A list with an object for each derivation, with its outputs by name, or for a store path:
    a string, or an object with its `path`.
    """
    try:
        built: list[Any] = json.loads(printed)
        paths: list[str] = []
        for one in built:
            if isinstance(one, dict) and "outputs" in one:
                paths += [path or "" for path in one["outputs"].values()]
            else:
                paths.append(one["path"] if isinstance(one, dict) else one)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(
            f"nix build --json printed something else: {printable(printed[:100])}"
        ) from error
    return paths
