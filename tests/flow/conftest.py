"""Fixtures of the pushes from lock files: an index of packages, and where the image goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.servers import Registry
from tests.wheels import Index, serve


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """Yield a server of an empty index; tests put packages into its folder."""
    (tmp_path / "index").mkdir()
    with serve(tmp_path / "index") as found:
        yield found


@pytest.fixture
def to(docker_registry: Registry, repository: str) -> str:
    """Return a reference in a repository of the test's own."""
    return f"{docker_registry.host}/{repository}:1"
