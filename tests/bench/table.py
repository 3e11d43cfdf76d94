"""Results as Markdown, with everything that makes them comparable: versions, machine, date."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.bench.place import Sample
from tests.bench.runner import Result
from tests.registry.parts import find_part

_HEAD = (
    *("", "wall s (min-max)", "CPU s", "CPU s/GB", "MB/s", "peak RSS MB", "MB up"),
    *("requests", "connections", "registry CPU s", "link CPU s", "wall x", "CPU x", "bytes x"),
)
_ENOUGH_FOR_P90 = 10  # samples
_PROGRAMS = {
    "skopeo": ("skopeo", "--version"),
    "buildah": ("buildah", "--version"),
    "crane": ("crane", "version"),
    "buildctl": ("buildctl", "--version"),
    "docker-registry": ("docker-registry", "--version"),
    "tar": ("tar", "--version"),
    "pigz": ("pigz", "--version"),
    "go": ("go", "version"),
}


def table(result: Result) -> str:
    """Medians of a case. The columns with x compare with the case's first contender: its
    share is 1, and 3.1 means that it needs 3.1 times as much."""
    base = next(iter(result.samples.values()), [])
    size = result.case.sources[0].size
    rows = [_cells(name, samples, base, size) for name, samples in result.samples.items()]
    for name, programs in result.missing.items():
        rows.append([name, f"not on the PATH: {', '.join(programs)}"])
    return _markdown(rows)


def series(results: Sequence[Result]) -> str:
    """Medians of one contender over several cases; x compares with the first of them."""
    base = next(iter(results[0].samples.values()))
    rows = []
    for result in results:
        for samples in result.samples.values():
            source = result.case.sources[0]
            label = f"{result.case.label}: {source.size / 1e6:,.0f} MB, {source.files:,} files"
            rows.append(_cells(label, samples, base, source.size))
    return _markdown(rows)


def against(result: Result, size: int) -> str:
    """The bytes of each contender beside `size`, Go's."""
    shares = [
        f"{name} {median(samples, lambda one: one.bytes_up) / size:.3f}"
        for name, samples in result.samples.items()
        if samples[0].bytes_up
    ]
    return f"Bytes, where Go's compress/gzip at level 6 ({size:,}) is 1: {'; '.join(shares)}."


def described(result: Result) -> str:
    """One line: what was pushed, from what, and over what."""
    case = result.case
    link = "no link: the registry's log counts requests, its blobs the bytes"
    if case.shape is not None:
        link = f"link with a round trip of {case.shape}"
    home = "kept" if case.home else "empty"
    source = case.sources[0]
    extent = f"{source.size / 1e6:,.0f} MB in {source.files:,} files"
    guarded = ", Bearer tokens, blobs behind 307" if case.guarded else ""
    return f"{case.label}: {extent}; onto {case.start.value}; home {home}; {link}{guarded}"


def machine() -> str:
    """One line naming what was measured on, with what, and when."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo"))
         if line.startswith("model name")),
        platform.machine(),
    )  # fmt: skip
    memory_kb = int(_lines(Path("/proc/meminfo"))[0].split()[1])
    now = datetime.datetime.now(datetime.UTC)
    parts = [
        f"{os.cpu_count()} x {cpu}, {memory_kb / 1e6:.0f} GB, Linux {platform.release()}",
        f"Python {platform.python_version()}",
        *(_version(name, command) for name, command in _PROGRAMS.items()),
        f"{now:%Y-%m-%d %H:%M} UTC",
    ]
    return "; ".join(part for part in parts if part)


def median(samples: Iterable[Sample], field: Callable[[Sample], float]) -> float:
    return statistics.median(field(sample) for sample in samples)


def _markdown(rows: Iterable[Sequence[str]]) -> str:
    alignment = ["---"] + ["---:"] * (len(_HEAD) - 1)
    return "\n".join(_row(row) for row in (_HEAD, alignment, *rows))


def _cells(name: str, samples: Sequence[Sample], base: Sequence[Sample], size: int) -> list[str]:
    def middle(field: Callable[[Sample], float]) -> float:
        return median(samples, field)

    def ratio(field: Callable[[Sample], float]) -> str:
        own = median(base, field)
        return f"{middle(field) / own:.2f}" if own else ""

    walls = [sample.wall_s for sample in samples]
    wall, cpu = middle(lambda one: one.wall_s), middle(lambda one: one.cpu_s)
    spread = f"{min(walls):.3f}-{max(walls):.3f}"
    if len(walls) >= _ENOUGH_FOR_P90:
        spread += f", p90 {statistics.quantiles(walls, n=10, method='inclusive')[8]:.3f}"
    return [
        name,
        f"{wall:.3f} ({spread})",
        f"{cpu:.2f}",
        f"{cpu / size * 1e9:.2f}",
        f"{size / wall / 1e6:.0f}",
        f"{middle(lambda one: one.peak_rss) / 1e6:.0f}",
        f"{middle(lambda one: one.bytes_up) / 1e6:.3f}",
        f"{middle(lambda one: one.requests):.0f}",
        f"{middle(lambda one: one.connections):.0f}",
        f"{middle(lambda one: one.registry_cpu_s):.2f}",
        f"{middle(lambda one: one.link_cpu_s):.2f}",
        ratio(lambda one: one.wall_s),
        ratio(lambda one: one.cpu_s),
        ratio(lambda one: one.bytes_up),
    ]


def _row(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8", "replace").splitlines()


def _version(name: str, command: Sequence[str]) -> str:
    program = find_part(name) if shutil.which(name) is None else name
    if program is None:
        return ""
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True)
    first = (done.stdout or done.stderr).strip().partition("\n")[0]
    return first if name in first else f"{name} {first}"
