"""`guix:PACKAGE…`: packages that Guix builds into one profile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from regpush.sources import guix
from regpush.sources.source import Asked, Locate, Parts


@dataclass(frozen=True, slots=True)
class Packages:
    """Packages, as specifications: `hello`, `python@3.11`, `gcc:lib`."""

    names: tuple[str, ...]

    def parts(self, asked: Asked, locate: Locate) -> Parts:
        """The profile of the packages, and of those that the options name."""
        options, system = asked.options.guix, asked.options.system
        built = guix.build(self.names, options, system, asked.workshop)
        return Parts(
            parts=(locate(built.profile),),
            provenance=built.provenance,
        )


def understand(rest: str, asked: Asked) -> Packages:
    """The packages that `rest` names, with blanks between them."""
    return Packages(tuple(rest.split()))


def relocated(rest: str, move: Callable[[str], str]) -> str:
    """The packages: their names hold no path."""
    return rest
