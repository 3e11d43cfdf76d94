"""Files of regpush itself below a directory that is pushed; they are left out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable


def below(root: bytes, written: Iterable[str]) -> frozenset[bytes]:
    """Find the paths, relative to the physical path `root`, that only regpush uses.

    `written`: paths that regpush writes to. The virtual environment that regpush runs from is one
    too, if it contains only regpush and its dependencies; else it is the app's.
    """
    paths = {path for one in written if (path := _relative(root, one))}
    if sys.prefix != sys.base_prefix and (path := _relative(root, sys.prefix)):
        # It imports importlib.metadata, 4 ms of a push; few virtual environments are pushed.
        from regpush.sources.own_environment import is_ours_alone

        if is_ours_alone(sys.prefix):
            paths.add(path)
    return frozenset(paths)


def _relative(root: bytes, path: str) -> bytes:
    """Return `path` relative to `root`; empty where it is not below `root`."""
    inside = root.rstrip(b"/") + b"/"
    physical = os.fsencode(os.path.realpath(path))
    return physical.removeprefix(inside) if physical.startswith(inside) else b""
