"""Evaluate and build the installables of a `nix:` target.

An installable is `PLACE` or `PLACE#ATTRIBUTE`. Where PLACE is a file, or a directory with a
`default.nix` and no flake, it is an expression for `nix-build`. Anything else (a flake, a store
path, a derivation with its outputs) is given to `nix build`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from regpush.errors import SourceError, UsageError, printable
from regpush.options import NixOptions
from regpush.sources.nix.command import command, config, has_nix, settings_of
from regpush.sources.store_path import is_base
from regpush.sources.tools import ToolError, Workshop


class Expression(Struct, frozen=True):
    """An attribute of the Nix expression in `file`; an empty attribute means the whole value."""

    file: str
    attribute: str

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of `nix-build` and `nix-instantiate` for the expression."""
        return (self.file, "-A", self.attribute) if self.attribute else (self.file,)


class Installable(Struct, frozen=True):
    """An installable as `nix build` takes it, such as `.#app` (Nix manual, "nix", Installables)."""

    text: str


Wanted = Expression | Installable


def parse(text: str, workshop: Workshop) -> list[Wanted]:
    """Parse the installables in `text`, separated by blanks; an empty `text` means `.`.

    Raises UsageError where Nix is not installed or `text` contains an option, ToolError where Nix's
    configuration cannot be read.
    """
    if not has_nix():
        raise UsageError(
            f"nix:{printable(text)} needs Nix, but 'nix' is not on the PATH: install Nix"
        )
    words = text.split()
    for word in words:
        if word.startswith("-"):
            raise UsageError(
                f"bad target nix:{printable(text)}: '{printable(word)}' is an option of Nix; write "
                "a file and its attribute as nix:./default.nix#app, and give options as flags of "
                "regpush"
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


class Evaluated(Struct, frozen=True):
    """What an installable evaluates to: a derivation with its outputs, or a store path.

    `drv`: the store path of the derivation, empty for a store path. `outputs`: the store path of
    each output by the output's name; an empty text where the path is known only after building. A
    store path is the single output with an empty name.
    """

    drv: str
    outputs: dict[str, str]

    @property
    def paths(self) -> tuple[str, ...]:
        """The store paths of the outputs, the main output first; empty for an unknown path."""
        return tuple(self.outputs.values())

    def with_main(self, first: Sequence[str]) -> Evaluated:
        """Return a copy with the main output first.

        The main output is `out`, else the first name in `first` that is an output.
        """
        order = [name for name in ("out", *first) if name in self.outputs]
        named = dict.fromkeys([*order[:1], *self.outputs])
        return replace(self, outputs={name: self.outputs[name] for name in named})

    @property
    def to_build(self) -> str:
        """The argument by which `nix-store --realise` builds the outputs or fetches the path."""
        return f"{self.drv}!{','.join(self.outputs)}" if self.drv else self.paths[0]


class Meta(Struct, frozen=True, kw_only=True):
    """What a package's `meta` says (Nixpkgs manual, "Standard meta-attributes").

    `outputs`: names of outputs (`outputsToInstall`). `program`: the name of the main program
    (`mainProgram`), empty where it is missing. `program_output`: the output that contains the main
    program, by the rule of nixpkgs' `lib.getBin`.
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
"""A Nix function that turns a derivation into the fields of `Meta`, without building anything."""


def meta_of(wanted: Wanted, options: NixOptions, system: str | None, workshop: Workshop) -> Meta:
    """Read the `meta` of an installable, by evaluating it and building nothing.

    `system`: the system to evaluate for, such as `aarch64-linux`, None for this machine's. All
    fields are empty for a store path, and where there is no `meta`. Raises CancelledError.
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
        return Meta()  # not one derivation; if it is wrong, `evaluate` or `build` will raise


def _evaluation(options: NixOptions, *, of_flakes: bool) -> list[str]:
    """Return the user's evaluation options as arguments, without those that would not fit.

    Expressions do not accept the options `_OF_FLAKES`.
    """
    chosen = [one for one in options.evaluation if of_flakes or one[0] not in _OF_FLAKES]
    return [word for one in chosen for word in one]


_OF_FLAKES = ("--impure", "--override-input")
"""Options of Nix for flakes only: an expression is always impure and has no inputs."""


def evaluate(
    wanted: Sequence[Wanted], options: NixOptions, system: str | None, workshop: Workshop
) -> tuple[Evaluated, ...]:
    """Evaluate installables into derivations, or store paths, in the order of `wanted`.

    An installable may give several results. Nothing is built, but Nix writes the derivations to the
    store. Each result has its main output first: `out`, else the first in its `outputsToInstall`.
    `system`: the system to evaluate for, None for this machine's. Raises SourceError for an
    installable that cannot be evaluated, CancelledError.
    """
    found: list[Evaluated] = []
    # Only for evaluation: in a build, this option would claim that this machine is such a system.
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
    """Build the outputs of `evaluated`, or fetch them from a cache. Returns their store paths.

    The garbage collector keeps these paths until the push ends. Nix's messages become events.
    Raises SourceError where a build fails, CancelledError.
    """
    # The output of builders is not shown; where a builder fails, the error contains its last lines.
    root = ("--no-build-output", "--add-root", workshop.new_path("result"))
    wanted = [one.to_build for one in evaluated]
    words = ("nix-store", "--realise", *settings_of(options), *root, *wanted)
    links = workshop.run(*words).split()
    return list(dict.fromkeys(map(os.readlink, links)))


def _groups(wanted: Sequence[Wanted]) -> Iterator[Expression | list[str]]:
    """Yield each expression alone, and consecutive installables as one list of their texts.

    One call of `nix build` evaluates such a list.
    """
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
    """Run a command and return its standard output; show its messages only if it fails."""
    try:
        return workshop.ask(*asked)
    except ToolError as error:
        workshop.show(asked[0], error.said)
        raise


def _of_derivation(printed: str, options: NixOptions, workshop: Workshop) -> Evaluated:
    """Parse a line that `nix-instantiate` printed, and look up the output's store path.

    The line is a derivation's path, with `!` and an output's name where that is not `out`.
    """
    drv, _, output = printed.partition("!")
    name = output or "out"
    words = ("--query", *settings_of(options), "--binding", name, drv)
    path = workshop.ask("nix-store", *words).strip()
    return Evaluated(drv, {name: path})


def _of_json(printed: str) -> Iterator[Evaluated]:
    """Parse the output of `nix build --json`: a list.

    A derivation is an object with its outputs by name; a store path is, depending on Nix's version,
    a text or an object with a `path`. Raises SourceError for another output.
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
            "cannot read the output of nix build --json (is this version of Nix supported?): "
            f"{printable(printed[:100])}"
        ) from error
