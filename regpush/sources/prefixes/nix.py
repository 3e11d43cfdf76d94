"""`nix:INSTALLABLE…`: outputs of flakes and expressions, which Nix builds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from msgspec import Struct

from regpush.sources.nix import installables
from regpush.sources.source import Asked, Locate, Parts
from regpush.sources.store import NotValidError
from regpush.sources.store_part import StorePart


class Installables(Struct, frozen=True):
    """Installables of `nix build`, separated by blanks."""

    text: str

    def parts(self, asked: Asked, locate: Locate) -> Parts:
        """Find the outputs of the installables; the first installable's main program is proposed.

        Nothing is built where the local store or binary caches have every output. Raises
        UsageError, SourceError, CancelledError.
        """
        options, system, workshop = asked.options.nix, asked.options.system, asked.workshop
        wanted = installables.parse(self.text, workshop)
        evaluated = installables.evaluate(wanted, options, system, workshop)
        paths = list(dict.fromkeys(path for one in evaluated for path in one.paths))
        found: list[StorePart] = []
        if all(paths):
            with contextlib.suppress(NotValidError):
                found = [locate(path) for path in paths]
        if not found:
            built = installables.build(evaluated, options, workshop)
            order = {path: at for at, path in enumerate(paths)}
            found = [
                locate(path) for path in sorted(built, key=lambda one: order.get(one, len(order)))
            ]

        def program() -> tuple[str, ...]:
            meta = installables.meta_of(wanted[0], options, system, workshop)
            outputs = dict(zip(evaluated[0].outputs, (part.root for part in found), strict=False))
            place = outputs.get(meta.program_output) or found[0].root
            return (f"{place}/bin/{meta.program}",) if meta.program else ()

        return Parts(parts=tuple(found), find_entrypoint=program)


def understand(rest: str, asked: Asked) -> Installables:
    """Interpret `rest`, the text after `nix:`, as installables, separated by blanks."""
    return Installables(rest)


def relocated(rest: str, move: Callable[[str], str]) -> str:
    """Return the target's text with each relative path in its installables replaced.

    A relative path begins with a dot; it is replaced by `move(path)`. An empty `rest` means `.`.
    """
    return " ".join(_moved(word, move) for word in rest.split() or ["."])


def _moved(word: str, move: Callable[[str], str]) -> str:
    path, mark, attribute = word.partition("#")
    if not path.startswith("."):
        return word
    moved = move(path)
    return f"{moved if moved.startswith(('.', '/')) else f'./{moved}'}{mark}{attribute}"
