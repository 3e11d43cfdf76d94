"""The interface of a source: a module that turns a target into a closure.

For each prefix of targets (`node:DIR`), `sources/prefixes/` has a module with the prefix's name; it
is registered nowhere else. A target without a prefix is interpreted in `targets`, which then uses
one of these modules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from msgspec import Struct

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
"""A phrase that describes a target in messages, and the target's closure."""

Locate: TypeAlias = Callable[[str], "StorePart"]
"""Takes an absolute store path; finds it, with everything that it refers to, in a store on this
machine or in binary caches.

Raises UsageError for a derivation, NotValidError where no store and no cache has the path,
SourceError, CancelledError.
"""


class Asked(Struct, frozen=True, kw_only=True, eq=False):
    """What a source gets besides the target, to make a closure.

    `stores`: Nix and Guix stores with their databases, likeliest first. `platform`: the image's
    platform, None where the user named none. `workshop`: runs programs and has a scratch directory.
    `surroundings`: how other hosts are reached, None where network access is not permitted.
    """

    options: SourceOptions
    stores: tuple[StoreLocation, ...]
    platform: Platform | None
    workshop: Workshop
    surroundings: Surroundings | None

    def network(self, path: str) -> Surroundings:
        """Return the surroundings, for the project at `path` whose packages must be downloaded.

        Raises UsageError where network access is not permitted.
        """
        if self.surroundings is None:
            raise UsageError(
                f"{printable(path)} is a project whose packages must be downloaded, but this "
                "command or call permits no network access"
            )
        return self.surroundings


class Whole(Struct, frozen=True, eq=False):
    """A target that makes a whole image and cannot be combined with other targets.

    `path`: the target's path, for messages. `closure`: makes the closure; raises UsageError,
    SourceError, CancelledError.
    """

    path: str
    closure: Callable[[Asked], Found]


class Parts(Struct, frozen=True, kw_only=True, eq=False):
    """The store paths of a target.

    `find_entrypoint`: returns the command of the target's main program, empty for none.
    `provenance`: (name, text) pairs about the origin of the source, for labels and annotations.
    """

    parts: tuple[StorePart, ...]
    find_entrypoint: Callable[[], tuple[str, ...]] = no_entrypoint
    provenance: tuple[tuple[str, str], ...] = ()


class InStore(Protocol):
    """A target that consists of store paths; several of them make one closure."""

    def parts(self, asked: Asked, locate: Locate) -> Parts:
        """Return the target's store paths, after building those that exist nowhere.

        `locate`: finds a store path. Raises UsageError for a target that names no store path,
        SourceError if it cannot be built or read, CancelledError.
        """


Meaning: TypeAlias = Whole | InStore


class Source(Protocol):
    """The functions that a module of `sources/prefixes/` must have, for targets with its prefix."""

    def understand(self, rest: str, asked: Asked) -> Meaning:
        """Interpret `rest`, the text of a target after its prefix.

        Raises UsageError for a text that names no such target, SourceError if it cannot be read.
        """

    def relocated(self, rest: str, move: Callable[[str], str]) -> str:
        """Return `rest` with each path in it replaced by `move(path)`.

        Used for a target in a configuration file, whose relative paths are relative to that file.
        """
