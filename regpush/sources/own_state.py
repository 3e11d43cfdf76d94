"""What regpush itself keeps below a directory that is pushed: never a part of the app."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from importlib import metadata

_TOOLS = frozenset({"pip", "setuptools", "wheel", "uv"})
"""Distributions that make a virtual environment, and are no sign that an app uses it."""


def below(root: bytes, written: Iterable[str]) -> frozenset[bytes]:
    """The paths, relative to the physical path `root`, that regpush and nobody else uses.

    `written`: paths that it writes to. The virtual environment that it runs from is one too, if
    it holds nothing but regpush and what that depends on; else it is the app's.
    """
    paths = {path for one in written if (path := _relative(root, one))}
    if sys.prefix != sys.base_prefix and (path := _relative(root, sys.prefix)):
        holds = metadata.distributions(path=[p for p in sys.path if _relative(os.fsencode(
            os.path.realpath(sys.prefix)), p)])  # fmt: skip
        if {_normal(one.name) for one in holds} <= _needed("regpush") | _TOOLS:
            paths.add(path)
    return frozenset(paths)


def _relative(root: bytes, path: str) -> bytes:
    """`path` relative to `root`, or nothing where it is not below."""
    inside = root.rstrip(b"/") + b"/"
    physical = os.fsencode(os.path.realpath(path))
    return physical.removeprefix(inside) if physical.startswith(inside) else b""


def _needed(name: str) -> set[str]:
    """The distribution called `name` and all that it can require here, with every extra."""
    found, pending = set[str](), [name]
    while pending:
        one = _normal(pending.pop())
        if one in found:
            continue
        found.add(one)
        try:
            requirements = metadata.requires(one) or ()
        except metadata.PackageNotFoundError:
            continue
        # PEP 508: a requirement begins with a name.
        pending += [match[0] for text in requirements if (match := re.match(r"[\w.-]+", text))]
    return found


def _normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
