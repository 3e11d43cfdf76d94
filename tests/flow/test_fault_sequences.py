"""Mixed faults in random order, by seed. The invariant is that of `outcomes.judge`: the image
pulls and verifies digest by digest, or an error says why and no tag moved."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from regpush.concurrency import Cancellation
from regpush.flow import assemble
from regpush.options import IfExists, Reuse
from tests.registry.faults import (
    Act,
    Rule,
    Trouble,
    TroubledWire,
    answers,
    breaks,
    error,
    fault_server,
    keeps,
    loses,
    resets,
    with_header,
)
from tests.registry.outcomes import Outcome, judge, make_app, push, small_spool, tagged
from tests.registry.personas import PERSONAS
from tests.registry.servers import Registry

ANY = ("GET", "HEAD", "POST", "PUT", "PATCH")
KINDS = ("blob", "open", "upload", "manifest", "tag")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "Spool", small_spool)

    def wait(self: Cancellation, seconds: float) -> None:
        self.check()
        time.sleep(min(seconds, 0.003))

    monkeypatch.setattr(Cancellation, "wait", wait)


def act(chance: random.Random) -> tuple[str, Act]:
    """A fault and its name."""
    status = chance.choice([408, 429, 499, 500, 502, 503, 504, 522])
    share = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    text = chance.choice(
        ["0-0", "0-5", "0-99999999", "bytes=0-7", "x", f"0-{chance.randrange(9**6)}"]
    )
    menu: list[tuple[str, Callable[[], Act]]] = [
        ("busy", lambda: answers(status, Retry_After="0")),
        ("refused", lambda: answers(chance.choice([400, 403, 404, 405, 413, 416]))),
        ("challenged", lambda: answers(401, WWW_Authenticate='Basic realm="x"')),
        ("reset", lambda: resets),
        ("lost", lambda: loses()),
        ("lost-502", lambda: loses(502)),
        ("break", lambda: breaks(share)),
        ("part", lambda: keeps(share)),
        ("range", lambda: with_header("Range", text)),
        ("no-location", lambda: with_header("Location", None)),
        ("html", lambda: answers(200, b"<html>hello</html>")),
        ("length", lambda: with_header("Content-Length", "1")),
        ("digest", lambda: error(400, "DIGEST_INVALID")),
        ("gone", lambda: error(404, "BLOB_UPLOAD_UNKNOWN")),
        ("blobs-unknown", lambda: error(400, "MANIFEST_BLOB_UNKNOWN")),
    ]
    name, make = chance.choice(menu)
    return name, make()


def rule(chance: random.Random) -> tuple[str, Rule]:
    name, what = act(chance)
    if name == "length":
        # Only in replies without a body, where nothing else would be malformed HTTP.
        return name, Rule(what, "HEAD", chance.choice(KINDS), times=chance.randrange(1, 4))
    method = chance.choice(ANY)
    made = Rule(
        what,
        method,
        chance.choice(("", *KINDS)),
        times=chance.choice([1, 1, 1, 2, 3, 8]),
        after=chance.choice([0, 0, 1, 3]),
    )
    return f"{name}-{method}", made


def trouble(chance: random.Random) -> Trouble:
    size = chance.choice([0, 200, 5_000, 100_000, 400_000])
    return chance.choice(
        [Trouble(), Trouble(), Trouble(cut_up=size), Trouble(cut_down=chance.randrange(2_000))]
    )


def sequence(
    registry: Registry, repository: str, directory: Path, seed: int
) -> tuple[str, Outcome]:
    """One push through a few faults; what they were, and how it ended."""
    chance = random.Random(seed)
    app = make_app(directory / f"app{seed}" / "app", seed)
    before = None
    if chance.random() < 0.5:
        push(app, registry.host, repository)
        before = tagged(registry.host, repository)
        assert before
        (app / "main.py").write_text(f"changed {seed}\n")
    names, rules = [], []
    for _ in range(chance.choice([1, 2, 3, 5])):
        name, made = rule(chance)
        names.append(name)
        rules.append(made)
    if chance.random() < 0.3:
        persona = chance.choice(PERSONAS)
        names.append(persona.name)
        rules += persona.rules()
    with ExitStack() as stack:
        host = stack.enter_context(fault_server(registry.host, *rules)).host
        if chance.random() < 0.4:
            troubles = [trouble(chance) for _ in range(12)]
            names.append("wire")
            host = stack.enter_context(TroubledWire(host, troubles)).host
        outcome = push(
            app,
            host,
            repository,
            reuse=chance.choice(list(Reuse)),
            if_exists=chance.choice([IfExists.REPLACE, IfExists.REPLACE, *IfExists]),
            retry_times=chance.choice([0, 1, 2, 4]),
            jobs=chance.choice([1, 4]),
            stall_s=2.0,
            plain_http=True,
        )
    judge(outcome, registry.host, repository, before=before)
    shutil.rmtree(app.parent)
    return "+".join(names), outcome


@pytest.mark.parametrize("seed", range(40))
def test_a_sequence_of_faults(
    request: pytest.FixtureRequest, repository: str, tmp_path: Path, seed: int
) -> None:
    name = "docker_registry" if seed % 2 else "embedded_registry"
    sequence(request.getfixturevalue(name), repository, tmp_path, seed)


@pytest.mark.soak
def test_hundreds_of_sequences(
    registry: Registry, repository: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts: Counter[str] = Counter()
    for seed in range(1000, 1400):
        try:
            _, outcome = sequence(registry, f"{repository}/{seed}", tmp_path, seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        counts[type(outcome.error).__name__ if outcome.error else "pushed and verified"] += 1
    with capsys.disabled():
        print(f"\n{registry.storage.parent.name}: {dict(counts.most_common())}")
    assert counts.total() == 400
    assert counts["pushed and verified"] > 100
    assert len(counts) > 4
