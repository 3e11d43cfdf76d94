"""Clients of the registry package, closed at the end of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from regpush.cancel import Cancellation
from regpush.events import Event
from regpush.options import RegistryOptions
from regpush.reference import Reference
from regpush.registry.client import Access, Client, Repository
from regpush.settings import Settings


class Connection:
    """A client, and what it was made with."""

    def __init__(self, options: RegistryOptions, settings: Settings) -> None:
        self.cancel = Cancellation()
        self.events: list[Event] = []
        self.client = Client(options, settings, notify=self.events.append, cancel=self.cancel)

    def repository(self, name: str, access: Access = Access.PUSH) -> Repository:
        """The repository `HOST/PATH`."""
        return self.client.repository(Reference.parse(name), access)


Connect = Callable[..., Connection]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients: `connect(settings, username=…, …)`, options by name."""
    with ExitStack() as stack:

        def make(settings: Settings | None = None, **options: Any) -> Connection:
            connection = Connection(RegistryOptions(**options), settings or Settings())
            stack.callback(connection.client.close)
            return connection

        yield make
