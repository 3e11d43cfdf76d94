"""`guix:PACKAGE…`: packages that Guix builds into one profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from regpush.sources import guix
from regpush.sources.source import Asked, Locate, Meaning, Parts


class Packages(Struct, frozen=True):
    """Guix packages by specification: `hello`, `python@3.11`, `gcc:lib`."""

    names: tuple[str, ...]

    def parts(self, asked: Asked, locate: Locate) -> Parts:
        """Build one Guix profile of these packages and of those that the options name.

        Returns the profile's store path as the only part. Raises UsageError, SourceError,
        CancelledError.
        """
        options, system = asked.options.guix, asked.options.system
        built = guix.build(self.names, options, system, asked.workshop)
        return Parts(
            parts=(locate(built.profile),),
            provenance=built.provenance,
        )


def understand(rest: str, asked: Asked) -> Packages:
    """Interpret `rest`, the text after `guix:`, as names of packages, separated by blanks."""
    return Packages(tuple(rest.split()))


def relocated(rest: str, move: Callable[[str], str]) -> str:
    """Return the target's text `rest` unchanged: it has no path that `move` would replace."""
    return rest


def with_one_profile(meant: Sequence[Meaning], asked: Asked) -> list[Meaning]:
    """Replace the Guix packages in `meant` by one target with all of them, at the first's place.

    Where `meant` has none, but the options name packages, a target for these is put first.
    """
    names = tuple(name for one in meant if isinstance(one, Packages) for name in one.names)
    profile: list[Meaning] = [Packages(names)]
    at = next((i for i, one in enumerate(meant) if isinstance(one, Packages)), None)
    if at is None:
        return [*(profile if asked.options.guix.names_packages else ()), *meant]
    others = [one for one in meant[at:] if not isinstance(one, Packages)]
    return [*meant[:at], *profile, *others]
