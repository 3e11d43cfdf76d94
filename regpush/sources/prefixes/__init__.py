"""One module for each prefix of a target: `node:DIR` is understood by `prefixes/node.py`.

A module that is put here is a source; nothing else has to know of it. Its heavy imports are
deferred into its functions where few pushes need them.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regpush.sources.source import Source  # which imports sqlite3


def names() -> tuple[str, ...]:
    """All prefixes, sorted."""
    found = {entry.partition(".")[0] for entry in os.listdir(os.path.dirname(__file__))}
    return tuple(sorted(name for name in found if not name.startswith("_")))


def find(prefix: str) -> Source | None:
    """The source whose prefix it is; None where it is no prefix but part of a name."""
    if not prefix.isidentifier() or prefix.startswith("_") or prefix not in names():
        return None
    source: Source = import_module(f"{__name__}.{prefix}")
    return source
