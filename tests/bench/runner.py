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
from tests.bench.scenarios import Case, Pages, Start
from tests.bench.sources import Source

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The samples of each contender that took part, by its name, in the case's order."""

    case: Case
    samples: dict[str, list[Sample]]
    missing: dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where inputs are kept from one run to the next, and where registries and homes lie."""

    cache: Path
    scratch: Path


def run(case: Case, runs: int, folders: Folders, say: Callable[[str], None]) -> Result:
    """Measure every contender of `case`, in turn, `runs` times or once for each source,
    whichever is more. Raises CommandFailed."""
    cache = folders.cache
    present = [one for one in case.contenders if not one.missing()]
    missing = {one.name: one.missing() for one in case.contenders if one.missing()}
    samples: dict[str, list[Sample]] = {one.name: [] for one in present}
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(dir=folders.scratch))
        seats = []
        for number, contender in enumerate(present):
            directory = Path(scratch, str(number))
            linked = case.shape is not None
            there = stack.enter_context(place(directory, linked=linked, guarded=case.guarded))
            seats.append((contender, there))
            if case.first is not None and contender.sends:
                say(f"{contender.name}: first push")
                _push(contender.first or contender, there, case.first, cache)
                there.remember()
        for turn in range(max(runs, len(case.sources))):
            source = case.sources[turn % len(case.sources)]
            for contender, there in seats:
                sample = _measure(case, source, contender, there, cache)
                say(f"{contender.name}: run {turn + 1}, {sample.wall_s:.3f} s")
                samples[contender.name].append(sample)
    return Result(case=case, samples=samples, missing=missing)


def _push(contender: Contender, there: Place, source: Source, cache: Path) -> None:
    there.clear()
    with _prepared(contender, source, there, cache) as ready:
        there.run(contender.commands(there, source, ready), source.environment)


def _measure(case: Case, source: Source, contender: Contender, there: Place, cache: Path) -> Sample:
    if case.start is Start.NOTHING or not contender.sends:
        there.clear()
    else:
        there.restore(home=case.home)
    with _prepared(contender, source, there, cache) as ready:
        os.sync()  # what the run before has written is not this one's to write
        (_warm if case.pages is Pages.WARM else _forget)(source)
        commands = contender.commands(there, source, ready)
        return there.run(commands, source.environment, case.shape)


@contextmanager
def _prepared(contender: Contender, source: Source, there: Place, cache: Path) -> Iterator[Path]:
    """The source in place, and what the contender finds ready of it, read once."""
    with source.in_place():
        ready = Path()
        if contender.ready is not None:
            ready = make_ready(contender.ready, source, cache)
            _read(ready)
        if before := contender.before(there, source, ready):
            there.run(before, source.environment)
        yield ready


def _warm(source: Source) -> None:
    """Read the source's files, so that everyone finds them in the page cache."""
    for folder in _folders(source):
        _read(folder)


def _forget(source: Source) -> None:
    """Take the source's files out of the page cache, and nothing else of this machine's: the
    programs stay warm, and so do names and inodes."""
    for folder in _folders(source):
        for path in regular_files(folder):
            with path.open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _folders(source: Source) -> Iterator[Path]:
    for part in source.parts:
        for member in part.members:
            yield part.base / member


def _read(folder: Path) -> None:
    for path in regular_files(folder):
        with path.open("rb", buffering=0) as file:
            while file.read(_BLOCK):
                pass
