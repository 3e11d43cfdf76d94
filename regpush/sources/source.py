"""The interface of a source: a module that turns a target into a closure.

Each prefix of a target (`node:DIR`) is one module of `sources/prefixes/` with the prefix's name; it
is registered nowhere else. `targets` decides what a target without a prefix is, and uses modules of
the prefixes for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from regpush.closure import Closure, no_entrypoint
from regpush.errors import UsageError, printable
from regpush.options import SourceOptions
from regpush.platform import Platform
from regpush.settings import StoreLocation
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop

if TYPE_CHECKING:
    from regpush.sources.store_part import StorePart

Found: TypeAlias = tuple[str, Closure]
"""The kind of a target, for people, and its closure."""

Locate: TypeAlias = Callable[[str], "StorePart"]
"""Finds an absolute store path in a store on this machine or in a binary cache.

Raises UsageError for a derivation, NotValidError where nothing has it, SourceError, CancelledError.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Asked:
    """What a source is given to make a closure.

    `stores`: stores and their databases, likeliest first. `platform`: what the image is for, None
    where the user named none. `workshop`: runs programs and has a scratch directory.
    `surroundings`: how other hosts are reached, None where no host may be asked.
    """

    options: SourceOptions
    stores: tuple[StoreLocation, ...]
    platform: Platform | None
    workshop: Workshop
    surroundings: Surroundings | None

    def network(self, path: str) -> Surroundings:
        """Return the surroundings, for the download of what the lock file of `path` lists.

        Raises UsageError where no host may be asked.
        """
        if self.surroundings is None:
            raise UsageError(
                f"{printable(path)}: the packages of its lock file must be downloaded, and this "
                "caller permits no network access"
            )
        return self.surroundings


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Whole:
    """A target that makes an image by itself and cannot be combined with others.

    `path`: the target's path, for messages. `closure`: makes the closure; raises UsageError,
    SourceError.
    """

    path: str
    closure: Callable[[Asked], Found]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Parts:
    """The store paths of a target, and what else the target says about the image.

    `find_entrypoint`: finds the target's main program. `provenance`: see `Closure.provenance`.
    """

    parts: tuple[StorePart, ...]
    find_entrypoint: Callable[[], tuple[str, ...]] = no_entrypoint
    provenance: tuple[tuple[str, str], ...] = ()


class InStore(Protocol):
    """A target that consists of store paths; several of them make one closure."""

    def parts(self, asked: Asked, locate: Locate) -> Parts:
        """Find the target's store paths; build them if need be.

        Raises UsageError, SourceError, CancelledError.
        """


Meaning: TypeAlias = Whole | InStore


class Source(Protocol):
    """The functions that a module of `sources/prefixes/` must have."""

    def understand(self, rest: str, asked: Asked) -> Meaning:
        """Interpret `rest`, the text after the prefix. Raises UsageError, SourceError."""

    def relocated(self, rest: str, move: Callable[[str], str]) -> str:
        """Replace each relative path in `rest` by `move(path)`.

        A target in a configuration file is relative to that file.
        """
