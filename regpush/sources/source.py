"""What a source of closures is: a module that understands what follows its prefix.

A source says what a target means, and gives its closure when it is asked for. It is one module of
`sources/prefixes/`, named like its prefix; nothing else lists it. `targets` understands names
without a prefix by the sources of the prefixes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from regpush.closure import Closure, no_entrypoint
from regpush.options import SourceOptions
from regpush.platform import Platform
from regpush.settings import StoreLocation
from regpush.sources.store_part import StorePart
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop

Found: TypeAlias = tuple[str, Closure]
"""What kind of thing a target is, for people, and its closure."""

Locate: TypeAlias = Callable[[str], StorePart]
"""Gives the store path that it is called with, of a store here or of a binary cache.

Raises NotValidError where neither has it, SourceError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What closures are wanted for, and what they may be made with.

    `stores`: where stores may be described, likeliest first. `platform`: None if nobody said.
    `surroundings`: how other hosts are reached, None where a target may ask none.
    """

    options: SourceOptions
    stores: tuple[StoreLocation, ...]
    platform: Platform | None
    workshop: Workshop
    surroundings: Surroundings | None


@dataclass(frozen=True, slots=True)
class Whole:
    """A target that makes an image by itself. `closure` raises UsageError, SourceError."""

    path: str
    closure: Callable[[Asked], Found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a target is in a store, or was built into.

    `find_entrypoint`: finds the program that the target says is its main one.
    `provenance`: as `Closure` has it.
    """

    parts: tuple[StorePart, ...]
    find_entrypoint: Callable[[], tuple[str, ...]] = no_entrypoint
    provenance: tuple[tuple[str, str], ...] = ()


class InStore(Protocol):
    """A target of which store paths come; several such targets make one closure."""

    def parts(self, asked: Asked, locate: Locate) -> Parts:
        """Its store paths, built if need be. Raises UsageError, SourceError, CancelledError."""


Meaning: TypeAlias = Whole | InStore


class Source(Protocol):
    """A module of `sources/prefixes/`."""

    def understand(self, rest: str, asked: Asked) -> Meaning:
        """What `rest`, the text after the prefix, means. Raises UsageError, SourceError."""

    def relocated(self, rest: str, move: Callable[[str], str]) -> str:
        """`rest` with every relative path in it replaced by what `move` makes of it.

        A target in a configuration file is relative to that file.
        """
