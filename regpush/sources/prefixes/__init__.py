"""One module for each prefix of a target: `prefixes/node.py` interprets `node:DIR`.

A module that is added here is a source; it is registered nowhere else. Heavy imports are deferred
into functions where few pushes need them.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regpush.sources.source import Source  # which imports sqlite3


def names() -> tuple[str, ...]:
    """List all prefixes, sorted."""
    found = {entry.partition(".")[0] for entry in os.listdir(os.path.dirname(__file__))}
    return tuple(sorted(name for name in found if not name.startswith("_")))


def find(prefix: str) -> Source | None:
    """Find the source with this prefix; None where the text is part of a name."""
    if not prefix.isidentifier() or prefix.startswith("_") or prefix not in names():
        return None
    source: Source = import_module(f"{__name__}.{prefix}")
    return source
