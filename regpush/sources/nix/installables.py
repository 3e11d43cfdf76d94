"""Evaluate and build `nix:` targets: attributes of flakes and of expressions.

An installable is `PLACE` or `PLACE#ATTRIBUTE`. A file, or a directory with a `default.nix` and no
flake, is an expression for `nix-build`; anything else is for `nix build`: a flake, a store path, a
derivation with its outputs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from regpush.errors import SourceError, UsageError, printable
from regpush.options import NixOptions
from regpush.sources.nix.command import command, config, has_nix, settings_of
from regpush.sources.store_path import is_base
from regpush.sources.tools import ToolError, Workshop


@dataclass(frozen=True, slots=True)
class Expression:
    """An attribute of a Nix file; with an empty attribute, the value of the whole file."""

    file: str
    attribute: str

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of `nix-build` and `nix-instantiate` for the expression."""
        return (self.file, "-A", self.attribute) if self.attribute else (self.file,)


@dataclass(frozen=True, slots=True)
class Installable:
    """An installable in the terms of `nix build` (Nix manual, "nix", Installables)."""

    text: str


Wanted = Expression | Installable


def parse(text: str, workshop: Workshop) -> list[Wanted]:
    """Parse the installables in `text`, separated by blanks; an empty `text` means `.`.

    Raises UsageError where Nix is not installed or `text` contains an option, and ToolError.
    """
    if not has_nix():
        raise UsageError(f"nix:{printable(text)} needs Nix, and 'nix' is not on the PATH")
    words = text.split()
    for word in words:
        if word.startswith("-"):
            raise UsageError(
                f"bad target nix:{printable(text)}: '{printable(word)}' is an option; name a file "
                "and its attribute as in nix:./default.nix#app, and give options to regpush"
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


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The outputs of the derivation `drv`; where `drv` is empty, a store path.

    `outputs`: store paths by name, empty where only building tells them.
    """

    drv: str
    outputs: dict[str, str]

    @property
    def paths(self) -> tuple[str, ...]:
        """The output paths, the main output first; an empty text for each unknown path."""
        return tuple(self.outputs.values())

    def with_main(self, first: Sequence[str]) -> Evaluated:
        """Put the main output first: `out`, else the first of the names `first` that exists."""
        order = [name for name in ("out", *first) if name in self.outputs]
        named = dict.fromkeys([*order[:1], *self.outputs])
        return replace(self, outputs={name: self.outputs[name] for name in named})

    @property
    def to_build(self) -> str:
        """The argument for `nix-store --realise`."""
        return f"{self.drv}!{','.join(self.outputs)}" if self.drv else self.paths[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """A package's `meta` (Nixpkgs manual, "Standard meta-attributes").

    `outputs`: the names of `outputsToInstall`. `program`: `mainProgram`, empty where that is
    missing. `program_output`: the output that contains it, by the rule of `lib.getBin`.
    """

    outputs: tuple[str, ...] = ()
    program: str = ""
    program_output: str = ""


_META = """d: {
  outputs = d.meta.outputsToInstall or [ ];
  program = d.meta.mainProgram or "";
  output = if d.outputSpecified or false then d.outputName or "" else
    if d ? bin then "bin" else if d ? out then "out" else d.outputName or "";
}"""
"""A Nix function from a derivation to the fields of `Meta`; it builds nothing."""


def meta_of(wanted: Wanted, options: NixOptions, system: str | None, workshop: Workshop) -> Meta:
    """Read the `meta` of an installable; empty for a store path, or without `meta`.

    Raises CancelledError.
    """
    words = list(settings_of(options))
    if isinstance(wanted, Expression):
        where: tuple[str, ...] = ("--file", wanted.file, wanted.attribute)
        evaluation = _evaluation(options, of_flakes=False)
    else:
        if wanted.text.startswith("/") and "#" not in wanted.text:
            return Meta()
        where = (wanted.text.partition("^")[0],)
        evaluation = _evaluation(options, of_flakes=True)
    words += ["--option", "system", system] if system else []
    try:
        said = workshop.ask(
            *command("eval", "--json", *where, "--apply", _META, *words, *evaluation)
        )
        found = json.loads(said)
        outputs = tuple(name for name in found["outputs"] if isinstance(name, str))
        return Meta(
            outputs=outputs, program=str(found["program"]), program_output=str(found["output"])
        )
    except (ToolError, ValueError, TypeError, KeyError):
        return Meta()  # a list of derivations, or no derivation: building will tell


def _evaluation(options: NixOptions, *, of_flakes: bool) -> list[str]:
    """Select those of the user's evaluation options that fit the kind of installable.

    All of them for flakes; for expressions all but `_OF_FLAKES`.
    """
    chosen = [one for one in options.evaluation if of_flakes or one[0] not in _OF_FLAKES]
    return [word for one in chosen for word in one]


_OF_FLAKES = ("--impure", "--override-input")
"""Options for flakes only: expressions are always impure and have no inputs."""


def evaluate(
    wanted: Sequence[Wanted], options: NixOptions, system: str | None, workshop: Workshop
) -> tuple[Evaluated, ...]:
    """Evaluate `wanted`. Nothing is built, but derivations are written to the store.

    Each result has its main output first: `out`, else the first that its `outputsToInstall` names.
    Raises SourceError for what does not evaluate, CancelledError.
    """
    found: list[Evaluated] = []
    # For evaluating only: in a build this option would claim that this machine is of that system.
    chosen = [*settings_of(options), *(("--option", "system", system) if system else ())]
    for group in _groups(wanted):
        if isinstance(group, Expression):
            words = (*group.words, *chosen, *_evaluation(options, of_flakes=False))
            drvs = _loudly(workshop, "nix-instantiate", *words).split()
            found += [_of_derivation(drv, options, workshop) for drv in drvs]
        else:
            dry = ("build", "--dry-run", "--no-link", "--json")
            words = (*chosen, *_evaluation(options, of_flakes=True), *group)
            built = list(_of_json(_loudly(workshop, *command(*dry, *words))))
            for at, one in enumerate(built):
                if len(one.outputs) > 1 and "out" not in one.outputs and len(built) == len(group):
                    names = meta_of(Installable(group[at]), options, system, workshop).outputs
                    built[at] = one.with_main(names)
                else:
                    built[at] = one.with_main(())
            found += built
    return tuple(found)


def build(evaluated: Sequence[Evaluated], options: NixOptions, workshop: Workshop) -> list[str]:
    """Build or substitute what was evaluated. Returns the output paths, which are then valid.

    The garbage collector keeps the paths until the push ends. Nix's messages become events. Raises
    SourceError where a build fails, CancelledError.
    """
    # The builders' output is not shown; the error has the end of it where a builder fails.
    root = ("--no-build-output", "--add-root", workshop.new_path("result"))
    wanted = [one.to_build for one in evaluated]
    words = ("nix-store", "--realise", *settings_of(options), *root, *wanted)
    links = workshop.run(*words).split()
    return list(dict.fromkeys(map(os.readlink, links)))


def _groups(wanted: Sequence[Wanted]) -> Iterator[Expression | list[str]]:
    """Group `wanted`: each expression alone, installables in a row as one list of texts."""
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


def _loudly(workshop: Workshop, *asked: str) -> str:
    """Run a command without showing its messages, unless it fails."""
    try:
        return workshop.ask(*asked)
    except ToolError as error:
        workshop.show(asked[0], error.said)
        raise


def _of_derivation(printed: str, options: NixOptions, workshop: Workshop) -> Evaluated:
    """Parse a line of `nix-instantiate`: a derivation, and after `!` an output other than `out`."""
    drv, _, output = printed.partition("!")
    name = output or "out"
    words = ("--query", *settings_of(options), "--binding", name, drv)
    path = workshop.ask("nix-store", *words).strip()
    return Evaluated(drv, {name: path})


def _of_json(printed: str) -> Iterator[Evaluated]:
    """Parse what `nix build --json` prints, in all its forms.

    A list with an object for each derivation, with its outputs by name, or for a store path: a
    string, or an object with its `path`.
    """
    try:
        built: list[Any] = json.loads(printed)
        for one in built:
            if isinstance(one, dict) and "outputs" in one:
                outputs = {name: path or "" for name, path in one["outputs"].items()}
                yield Evaluated(one["drvPath"], outputs)
            else:
                yield Evaluated("", {"": one["path"] if isinstance(one, dict) else one})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(
            f"nix build --json printed something else: {printable(printed[:100])}"
        ) from error
