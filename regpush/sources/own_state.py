"""What regpush itself keeps below a directory that is pushed: never a part of the app."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable


def below(root: bytes, written: Iterable[str]) -> frozenset[bytes]:
    """The paths, relative to the physical path `root`, that regpush and nobody else uses.

    `written`: paths that it writes to. The virtual environment that it runs from is one too, if
    it holds nothing but regpush and what that depends on; else it is the app's.
    """
    paths = {path for one in written if (path := _relative(root, one))}
    if sys.prefix != sys.base_prefix and (path := _relative(root, sys.prefix)):
        # It imports importlib.metadata, 4 ms of a push; few virtual environments are pushed.
        from regpush.sources.own_environment import is_ours_alone

        if is_ours_alone(sys.prefix):
            paths.add(path)
    return frozenset(paths)


def _relative(root: bytes, path: str) -> bytes:
    """`path` relative to `root`, or nothing where it is not below."""
    inside = root.rstrip(b"/") + b"/"
    physical = os.fsencode(os.path.realpath(path))
    return physical.removeprefix(inside) if physical.startswith(inside) else b""
