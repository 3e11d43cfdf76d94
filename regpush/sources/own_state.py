"""Find files in a pushed directory that regpush itself writes, which are left out of the image."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable


def below(root: bytes, written: Iterable[str]) -> frozenset[bytes]:
    """Return the paths below the directory `root` that only regpush uses, relative to `root`.

    `written`: paths to which regpush writes. The virtual environment from which regpush runs is
    included if it contains only regpush and its dependencies; otherwise the app may use it.
    """
    paths = {path for one in written if (path := _relative(root, one))}
    if sys.prefix != sys.base_prefix and (path := _relative(root, sys.prefix)):
        # Its import of importlib.metadata takes 4 ms, which most pushes save.
        from regpush.sources.own_environment import is_ours_alone

        if is_ours_alone(sys.prefix):
            paths.add(path)
    return frozenset(paths)


def _relative(root: bytes, path: str) -> bytes:
    """Return `path` relative to `root`; empty where it is not below `root`."""
    inside = root.rstrip(b"/") + b"/"
    physical = os.fsencode(os.path.realpath(path))
    return physical.removeprefix(inside) if physical.startswith(inside) else b""
