"""The base images of one push, each read once."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

from regpush.image.image import Base
from regpush.platform import Platform
from regpush.registry.client import Client
from regpush.sources.surroundings import BaseFacts
from regpush.transfer.base import Foundation


class Bases:
    """The base images of one run. Thread-safe. `asked`: the base that the user names, if any."""

    def __init__(self, client: Client, asked: str | None) -> None:
        self._client = client
        self._asked = asked
        self._lock = threading.Lock()
        self._read: dict[tuple[str, Platform], Base] = {}
        self._foundations: dict[str, Foundation] = {}

    def foundation(self, reference: str) -> Foundation:
        """Return the repository and reference of the base image `reference`. Raises UsageError."""
        with self._lock:
            if reference not in self._foundations:
                called = "--from" if self._asked == reference else "the base image"
                found = Foundation.of(reference, self._client, called=called)
                self._foundations[reference] = found
            return self._foundations[reference]

    def read(self, at: Foundation, platform: Platform) -> Base:
        """Read the base for `platform`, once. Raises like `Foundation.read`."""
        with self._lock:
            key = str(at.reference), platform
            if key not in self._read:
                self._read[key] = at.read(platform)
            return self._read[key]

    def facts(self, reference: str, platform: Platform) -> BaseFacts:
        """Return facts from the config of the image `reference`. Raises like `read`."""
        config = json.loads(self.read(self.foundation(reference), platform).image.config)
        run = config.get("config")
        listed = run.get("Env") if isinstance(run, Mapping) else None
        labels = run.get("Labels") if isinstance(run, Mapping) else None
        history = config.get("history")
        return BaseFacts(
            reference=reference,
            env={
                name: value
                for text in (listed if isinstance(listed, list) else ())
                if isinstance(text, str)
                for name, _, value in (text.partition("="),)
            },
            labels={
                key: value
                for key, value in (labels if isinstance(labels, Mapping) else {}).items()
                if isinstance(value, str)
            },
            history=tuple(
                one["created_by"]
                for one in (history if isinstance(history, list) else ())
                if isinstance(one, Mapping) and isinstance(one.get("created_by"), str)
            ),
        )
