"""Tell whether a Python virtual environment is for regpush alone, by the packages in it."""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata

_TOOLS = frozenset({"pip", "setuptools", "wheel", "uv"})
"""Packages that a new virtual environment may contain; they do not show that an app uses it."""


def is_ours_alone(prefix: str) -> bool:
    """Whether the virtual environment at `prefix` has only regpush and its dependencies.

    Dependencies of regpush's extras count too, and pip, setuptools, wheel and uv.
    """
    inside = os.path.join(os.path.realpath(prefix), "")
    places = [path for path in sys.path if os.path.realpath(path).startswith(inside)]
    holds = {_normal(one.name) for one in metadata.distributions(path=places)}
    return holds <= _needed("regpush") | _TOOLS


def _needed(name: str) -> set[str]:
    """Return the package `name` and all installed packages on which it depends, also indirectly.

    Dependencies of every extra are included.
    """
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
        # PEP 508: a requirement begins with the package's name.
        pending += [match[0] for text in requirements if (match := re.match(r"[\w.-]+", text))]
    return found


def _normal(name: str) -> str:
    """Normalise a package's name for comparison (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
