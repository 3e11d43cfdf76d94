"""Runs a push under some fault, and judges whether its outcome is allowed.

The one invariant of every fault: either the image in the registry pulls and verifies digest by
digest, or an error says why and no tag moved.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

import regpush
from regpush.concurrency import Cancellation
from regpush.errors import BudgetExceededError, RegpushError, UsageError
from regpush.events import Event, Warned
from regpush.options import LayerOptions, PushOptions, RegistryOptions, Reuse
from regpush.pack.stream import Spool
from regpush.report import PushResult
from regpush.settings import Settings
from tests.registry.api import Api

SPOOL = 100_000
"""Bytes of memory for blobs in these tests: the larger layer of `make_app` is streamed."""


def make_app(root: Path, seed: int = 0) -> Path:
    """Write an app whose image has one layer that is streamed and two that fit into memory."""
    chance = random.Random(seed)
    for name, size in (("node_modules/big/x", 400_000), ("node_modules/tiny/x", 60_000)):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(chance.randbytes(size))
    (root / "main.py").write_text(f"print({seed})\n")
    return root


@dataclass
class Outcome:
    """The end of a push, by its result or its error, and the events that it sent."""

    result: PushResult | None = None
    error: RegpushError | None = None
    events: list[Event] = field(default_factory=list)

    @property
    def warnings(self) -> str:
        return "\n".join(event.message for event in self.events if isinstance(event, Warned))

    @property
    def messages(self) -> str:
        return "\n".join(getattr(event, "message", "") for event in self.events)


def small_spool(rush: int | None = None) -> Spool:
    """Return a spool of `SPOOL` bytes, for use in place of the pipeline's own."""
    return Spool(SPOOL, rush)


def push(
    app: Path,
    host: str,
    repository: str,
    *,
    reuse: Reuse = Reuse.RECIPE,
    reuse_from: tuple[str, ...] = (),
    cancel: Cancellation | None = None,
    **registry: object,
) -> Outcome:
    """Push `app` in this process, as the command line would, with `latest` as its tag."""
    outcome = Outcome()
    registry.setdefault("retry_times", 4)
    options = PushOptions(
        layers=LayerOptions(reuse=reuse, reuse_from=reuse_from),
        registry=RegistryOptions(**registry),  # type: ignore[arg-type]  # keywords of the record
        cache=False,
    )
    lock = threading.Lock()

    def listen(event: Event) -> None:
        with lock:
            outcome.events.append(event)

    try:
        outcome.result = regpush.push(
            str(app),
            to=f"{host}/{repository}",
            options=options,
            settings=Settings(),
            notify=listen,
            cancel=cancel,
        )
    except RegpushError as error:
        outcome.error = error
    return outcome


def tagged(host: str, repository: str, tag: str = "latest") -> str | None:
    """Return the digest of the manifest that a tag names in the registry; None without the tag."""
    answer = Api(host, repository).manifest(tag)
    return None if answer.status == 404 else f"sha256:{hashlib.sha256(answer.body).hexdigest()}"


def verify_image(host: str, repository: str, reference: str = "latest") -> str:
    """Pull an image straight from the registry and check every byte; returns its digest."""
    api = Api(host, repository)
    answer = api.manifest(reference)
    assert answer.status == 200, f"{reference} is not there: {answer.status}"
    manifest = json.loads(answer.body)
    for blob in (manifest["config"], *manifest["layers"]):
        got = api.blob(blob["digest"])
        assert got.status == 200, blob
        assert len(got.body) == blob["size"], blob
        assert f"sha256:{hashlib.sha256(got.body).hexdigest()}" == blob["digest"]
    return f"sha256:{hashlib.sha256(answer.body).hexdigest()}"


def judge(outcome: Outcome, host: str, repository: str, *, before: str | None = None) -> None:
    """Assert the invariant of this module; `before`: what `latest` named before the push."""
    now = tagged(host, repository)
    if outcome.result:
        assert str(outcome.result.digest) == now
        verify_image(host, repository)
        return
    assert outcome.error is not None
    # Neither a bug of ours, nor a fault of the test's own command line, nor a budget.
    assert not isinstance(outcome.error, (UsageError, BudgetExceededError))
    assert type(outcome.error).exit_code != RegpushError.exit_code
    message = str(outcome.error)
    assert len(message) > 20, message
    assert message.isprintable()
    if now != before:
        # Only a failure at the tag itself, and said so; and what it names is whole all the same.
        assert "latest may name sha256:" in message, message
        verify_image(host, repository)
