"""Find the module for a target's prefix: `prefixes/node.py` interprets `node:DIR`.

Each module of this package is the source for the prefix of its name (`source.Source`); it is
registered nowhere else. Modules import slow libraries inside of functions, because few pushes need
them.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regpush.sources.source import Source  # which imports sqlite3


def names() -> tuple[str, ...]:
    """Return all prefixes, sorted: the names of this package's modules."""
    found = {entry.partition(".")[0] for entry in os.listdir(os.path.dirname(__file__))}
    return tuple(sorted(name for name in found if not name.startswith("_")))


def find(prefix: str) -> Source | None:
    """Return the source module for `prefix`; None where no source has that prefix."""
    if not prefix.isidentifier() or prefix.startswith("_") or prefix not in names():
        return None
    source: Source = import_module(f"{__name__}.{prefix}")
    return source
