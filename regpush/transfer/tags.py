"""Which tags a push may move: a pure decision from what they name.

A registry has no transaction over several tags, and no compare-and-swap. So all are judged before
the first is moved, and each is read back (docs/internals/registries.md, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from regpush.digest import Digest
from regpush.errors import TagConflictError, UsageError, VerificationError
from regpush.options import IfExists, RegistryOptions
from regpush.reference import RepositoryName


class TagVerdict(Enum):
    """The decision about a tag."""

    MOVE = auto()
    THERE = auto()
    """The tag names the image already."""
    LEAVE = auto()
    """The tag names another image, and does not move."""


@dataclass(frozen=True, slots=True)
class TagRule:
    """The options about existing tags; `current`: the only digest that may be replaced."""

    if_exists: IfExists = IfExists.REPLACE
    current: Digest | None = None

    @classmethod
    def of(cls, options: RegistryOptions) -> TagRule:
        """Read the rule from `options`. Raises UsageError."""
        if options.if_current is None:
            return cls(options.if_exists)
        try:
            return cls(options.if_exists, Digest.parse(options.if_current))
        except VerificationError as error:
            raise UsageError(f"bad --if-current: {error}") from error

    @property
    def conditional(self) -> bool:
        """Whether the decision depends on what a tag names."""
        return self.if_exists is not IfExists.REPLACE or self.current is not None

    def admit(self, image: RepositoryName, held: Mapping[str, Digest | None]) -> None:
        """Decide before an image is made. Raises TagConflictError where no image is permitted."""
        taken = [tag for tag, digest in held.items() if digest]
        if self.if_exists is IfExists.FAIL and taken:
            raise TagConflictError(
                f"{image}:{taken[0]} exists ({held[taken[0]]}), (--if-exists fail)"
            )

    def skips(self, held: Mapping[str, Digest | None]) -> bool:
        """Whether nothing is left to do, whatever the image."""
        return self.if_exists is IfExists.SKIP and bool(held) and all(held.values())

    def judge(
        self, image: RepositoryName, wanted: Digest, held: Mapping[str, Digest | None]
    ) -> dict[str, TagVerdict]:
        """Decide about every tag of `image`. Raises TagConflictError, naming the tag."""
        self.admit(image, held)
        return {tag: self._judge(f"{image}:{tag}", wanted, there) for tag, there in held.items()}

    def _judge(self, name: str, wanted: Digest, held: Digest | None) -> TagVerdict:
        if held == wanted:
            return TagVerdict.THERE
        if held is None:
            return TagVerdict.MOVE
        if self.if_exists is IfExists.SKIP:
            return TagVerdict.LEAVE
        if self.if_exists is IfExists.SAME:
            raise TagConflictError(f"{name} names {held}, not {wanted} (--if-exists same)")
        if self.current and held != self.current:
            raise TagConflictError(
                f"{name} names {held}, not {self.current} as --if-current says: somebody moved it"
            )
        return TagVerdict.MOVE
