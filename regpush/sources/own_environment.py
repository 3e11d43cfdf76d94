"""Whether a virtual environment is for regpush alone, by the distributions in it."""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata

_TOOLS = frozenset({"pip", "setuptools", "wheel", "uv"})
"""Distributions that create virtual environments; an app need not be using them."""


def is_ours_alone(prefix: str) -> bool:
    """Whether the environment at `prefix` has only regpush and what it may depend on."""
    inside = os.path.join(os.path.realpath(prefix), "")
    places = [path for path in sys.path if os.path.realpath(path).startswith(inside)]
    holds = {_normal(one.name) for one in metadata.distributions(path=places)}
    return holds <= _needed("regpush") | _TOOLS


def _needed(name: str) -> set[str]:
    """Find the distribution `name` and all it may depend on, of those installed.

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
        # PEP 508: a requirement begins with a name.
        pending += [match[0] for text in requirements if (match := re.match(r"[\w.-]+", text))]
    return found


def _normal(name: str) -> str:
    """Normalise a distribution's name for comparison (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
