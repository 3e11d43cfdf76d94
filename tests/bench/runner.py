"""Runs a case: every contender in its own place, taking turns."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contenders import Contender, make_ready
from tests.bench.inputs import regular_files
from tests.bench.place import Place, Sample, place
from tests.bench.scenarios import Case, Start
from tests.bench.sources import Source

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The samples of each contender that took part, by its name, in the case's order."""

    case: Case
    samples: dict[str, list[Sample]]
    missing: dict[str, list[str]]


def run(case: Case, runs: int, cache: Path, say: Callable[[str], None]) -> Result:
    """Measure every contender of `case` `runs` times, in turn. Raises CommandFailed."""
    present = [one for one in case.contenders if not one.missing()]
    missing = {one.name: one.missing() for one in case.contenders if one.missing()}
    samples: dict[str, list[Sample]] = {one.name: [] for one in present}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="regpush-bench-")))
        seats = []
        for number, contender in enumerate(present):
            directory = scratch / str(number)
            linked = case.shape is not None
            there = stack.enter_context(place(directory, linked=linked, guarded=case.guarded))
            seats.append((contender, there))
            if case.first is not None and contender.sends:
                say(f"{contender.name}: first push")
                _push(contender, there, case.first, cache)
                there.remember()
        for turn in range(runs):
            for contender, there in seats:
                sample = _measure(case, contender, there, cache)
                say(f"{contender.name}: run {turn + 1}, {sample.wall_s:.3f} s")
                samples[contender.name].append(sample)
    return Result(case=case, samples=samples, missing=missing)


def _push(contender: Contender, there: Place, source: Source, cache: Path) -> None:
    there.clear()
    with _prepared(contender, source, cache) as ready:
        there.run(contender.commands(there, source, ready), source.environment)


def _measure(case: Case, contender: Contender, there: Place, cache: Path) -> Sample:
    if case.start is Start.NOTHING or not contender.sends:
        there.clear()
    else:
        there.restore(home=case.home)
    with _prepared(contender, case.source, cache) as ready:
        warm(case.source)
        os.sync()  # what the run before has written is not this one's to write
        commands = contender.commands(there, case.source, ready)
        return there.run(commands, case.source.environment, case.shape)


@contextmanager
def _prepared(contender: Contender, source: Source, cache: Path) -> Iterator[Path]:
    """The source in place, and what the contender finds ready of it, read once."""
    with source.in_place():
        ready = Path()
        if contender.ready is not None:
            ready = make_ready(contender.ready, source, cache)
            _read(ready)
        yield ready


def warm(source: Source) -> None:
    """Read the source's files, so that everyone finds them in the page cache."""
    for part in source.parts:
        for member in part.members:
            _read(part.base / member)


def _read(folder: Path) -> None:
    for path in regular_files(folder):
        with path.open("rb", buffering=0) as file:
            while file.read(_BLOCK):
                pass
