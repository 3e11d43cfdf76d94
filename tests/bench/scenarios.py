"""What is measured: inputs, what changes, where, and who takes part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.bench import contenders as by
from tests.bench import inputs
from tests.bench.contenders import Contender
from tests.bench.link import Shape
from tests.bench.sources import Source, Versions

REGPUSH = by.regpush()
FAR = Shape(rtt_ms=50)


class Start(Enum):
    """What a measured push finds."""

    NOTHING = "an empty registry"
    SAME = "the same image"
    EARLIER = "the image before the change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One group of rows. `first` was pushed before, where `start` says so, and `source` is
    measured. `shape` None: without a link. `home`: whether what the first push left there is
    kept. `runs` None: as many as asked for."""

    label: str
    source: Source
    first: Source | None = None
    start: Start = Start.NOTHING
    home: bool = False
    shape: Shape | None = None
    guarded: bool = False
    contenders: Sequence[Contender] = (REGPUSH,)

    def __post_init__(self) -> None:
        assert (self.first is None) == (self.start is Start.NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line says. `size_mb`, `rtt_ms`, `mbit` None: as the scenario has it."""

    cache: Path
    size_mb: float | None = None
    rtt_ms: float | None = None
    mbit: float | None = None
    closure: Path | None = None
    nixpkgs_script: Path | None = None

    def size(self, default_mb: float) -> float:
        return self.size_mb or default_mb


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`title` says what its table shows. Cases are made one by one: their inputs are large."""

    title: str
    cases: Callable[[Settings], Iterator[Case]]


def _peers() -> tuple[Contender, ...]:
    return (by.skopeo("gzip"), by.skopeo("zstd"))


def _cold(settings: Settings) -> Iterator[Case]:
    for layers in (1, 3):
        yield Case(
            label=f"{layers} layer{'s'[: layers > 1]}",
            source=inputs.real(settings.cache, settings.size(1100), layers).first,
            contenders=(
                REGPUSH,
                by.regpush("--compression", "zstd"),
                *_peers(),
                by.skopeo_with_layout("gzip"),
                by.skopeo_with_layout("zstd"),
                by.buildah(),
                by.tar_and(("pigz", "-1")),
            ),
        )


def _rates(settings: Settings) -> Iterator[Case]:
    source = inputs.real(settings.cache, settings.size(1100), 3).first
    for mbit in (100, 1000):
        yield Case(
            label=f"{mbit} Mbit/s",
            source=source,
            shape=Shape(rtt_ms=10, up_mbit=mbit, down_mbit=mbit),
            contenders=(
                REGPUSH,
                by.regpush("--compression", "gzip:best"),
                by.regpush("--compression", "zstd"),
                *_peers(),
                by.buildah(),
            ),
        )


def _again(
    settings: Settings, version: Callable[[Versions], Source], peers: tuple[Contender, ...]
) -> Iterator[Case]:
    """40 layers of 500 MB at a round trip of 50 ms: `version` after the first."""
    versions = inputs.real(settings.cache, settings.size(500), 40)
    source = version(versions)
    start = Start.SAME if source is versions.first else Start.EARLIER
    for home in (False, True):
        for shape in (FAR, Shape()):
            yield Case(
                label=f"{'home kept' if home else 'empty home'}, {shape}",
                source=source,
                first=versions.first,
                start=start,
                home=home,
                shape=shape,
                contenders=(REGPUSH, *peers, *([by.buildah_push()] if home else [])),
            )


def _unchanged(settings: Settings) -> Iterator[Case]:
    return _again(
        settings,
        lambda versions: versions.first,
        (by.skopeo("gzip"), by.skopeo_ready(), by.crane_ready()),
    )


def _small(settings: Settings) -> Iterator[Case]:
    count = 100_000 if settings.size_mb is None else int(settings.size_mb * 1e6 / 4096)
    yield Case(
        label=f"{count} files of 4 KiB",
        source=inputs.small(settings.cache, count),
        contenders=(REGPUSH, by.skopeo("gzip"), by.skopeo_with_layout("gzip")),
    )


SCENARIOS: Mapping[str, Scenario] = {
    "cold": Scenario(title="Cold, loopback, one and three layers", cases=_cold),
    "rates": Scenario(title="Cold, at a link's rate", cases=_rates),
    "unchanged": Scenario(title="Nothing has changed, 40 layers", cases=_unchanged),
    "small": Scenario(title="Many small files, loopback", cases=_small),
}
