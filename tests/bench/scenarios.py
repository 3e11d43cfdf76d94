"""What is measured: inputs, what changes, where, and who takes part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.bench import closures, inputs
from tests.bench import contenders as by
from tests.bench.contenders import Contender
from tests.bench.link import Shape
from tests.bench.sources import Source, Versions

REGPUSH = by.regpush()
FAST = by.regpush("--compression", "gzip:fast")
BY_DEFAULT = by.regpush("--layers", "auto", "--max-layers", "100")
NEAR, FAR = Shape(), Shape(rtt_ms=50)
_CHANGES = 20  # single changed files


class Start(Enum):
    """What a measured push finds."""

    NOTHING = "an empty registry"
    SAME = "the same image"
    EARLIER = "the image before the change"


class Pages(Enum):
    """Whether the source's files are in the page cache."""

    WARM = "warm"
    COLD = "cold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One group of rows.

    `sources` are measured, in turn; `first` was pushed before, where `start` says so. `home`:
    whether what the first push left there is kept. `shape` None: without a link.
    """

    label: str
    sources: Sequence[Source]
    first: Source | None = None
    start: Start = Start.NOTHING
    home: bool = False
    pages: Pages = Pages.WARM
    shape: Shape | None = None
    guarded: bool = False
    contenders: Sequence[Contender] = (REGPUSH,)

    def __post_init__(self) -> None:
        assert (self.first is None) == (self.start is Start.NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line says. `size_mb` None: as large as the scenario has it."""

    cache: Path
    size_mb: float | None = None
    closure: Path | None = None
    nixpkgs_script: Path | None = None

    def size(self, usual_mb: float) -> float:
        """The size of an input in 10^6 bytes."""
        return self.size_mb or usual_mb

    def scaled(self, usual: float, usual_mb: float) -> float:
        """`usual` of something, in an input that usually has `usual_mb` 10^6 bytes."""
        return usual * self.size(usual_mb) / usual_mb


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`title` says what its tables show. Cases are made one by one, since their inputs are
    large. `series`: one table, of one contender. `against_go`: sizes beside Go's gzip."""

    title: str
    cases: Callable[[Settings], Iterator[Case]]
    series: bool = False
    against_go: bool = False


def _cold(settings: Settings) -> Iterator[Case]:
    for layers in (1, 3):
        yield Case(
            label=_layers(layers),
            sources=[inputs.real(settings.cache, settings.size(1100), layers).first],
            contenders=(
                REGPUSH,
                FAST,
                by.regpush("--compression", "zstd"),
                by.skopeo("gzip"),
                by.skopeo("zstd"),
                by.skopeo_with_layout("gzip"),
                by.skopeo_with_layout("zstd"),
                by.buildah(),
                by.buildkit(),
                by.tar_and(("pigz", "-1")),
            ),
        )
    yield Case(
        label="files of 6 KiB and more",
        sources=[inputs.real(settings.cache, settings.size(1900), smallest=6 << 10).first],
        contenders=(REGPUSH, FAST, by.skopeo("gzip"), by.skopeo_with_layout("gzip")),
    )


def _links(settings: Settings) -> Iterator[Case]:
    source = inputs.real(settings.cache, settings.size(300), 3).first
    contenders = (
        REGPUSH,
        FAST,
        by.regpush("--compression", "zstd"),
        by.skopeo("gzip"),
        by.skopeo("zstd"),
    )
    for mbit in (100, 1000):
        yield Case(
            label=f"{mbit} Mbit/s",
            sources=[source],
            shape=Shape(rtt_ms=10, up_mbit=mbit, down_mbit=mbit),
            contenders=contenders,
        )
    yield Case(label="loopback", sources=[source], contenders=contenders)


def _levels(settings: Settings) -> Iterator[Case]:
    yield Case(
        label="one layer",
        sources=[inputs.real(settings.cache, settings.size(1100), 1).first],
        contenders=(
            *(
                by.regpush("--compression", one)
                for one in (
                    "gzip",
                    "gzip:fast",
                    "gzip:best",
                    "zstd",
                    "zstd:1",
                    "zstd:6",
                    "zstd:9",
                    "none",
                )
            ),
            by.skopeo("gzip"),
            by.skopeo("zstd"),
        ),
    )


def _rates(settings: Settings) -> Iterator[Case]:
    source = inputs.real(settings.cache, settings.size(1100), 3).first
    for mbit in (100, 1000):
        yield Case(
            label=f"{mbit} Mbit/s",
            sources=[source],
            shape=Shape(rtt_ms=10, up_mbit=mbit, down_mbit=mbit),
            contenders=(
                REGPUSH,
                by.regpush("--compression", "gzip:best"),
                by.regpush("--compression", "zstd"),
                by.regpush("--compression", "zstd:9"),
                by.skopeo("gzip"),
                by.skopeo("zstd"),
                by.buildah(),
            ),
        )


def _layered(settings: Settings) -> Iterator[Case]:
    for shape in (FAR, NEAR):
        for layers in (1, 40, 100):
            yield Case(
                label=f"{_layers(layers)}, {shape}",
                sources=[inputs.real(settings.cache, settings.size(500), layers).first],
                shape=shape,
                contenders=(
                    REGPUSH,
                    by.skopeo("gzip"),
                    by.skopeo_ready(),
                    by.crane_ready(),
                    by.buildah_push(),
                    by.buildah(),
                ),
            )


def _closure(settings: Settings) -> Iterator[Case]:
    yield Case(
        label="closure, 100 layers",
        sources=[_closure_versions(settings).first],
        contenders=(
            REGPUSH,
            FAST,
            *_stream(settings),
            by.skopeo("gzip"),
            by.skopeo_with_layout("gzip"),
            by.crane_ready(),
        ),
    )


def _large(settings: Settings) -> Iterator[Case]:
    size_mb = settings.size(4000)
    for label, source in (
        ("one file", inputs.large(settings.cache, size_mb)),
        ("eight files", inputs.large(settings.cache, size_mb, 8)),
    ):
        yield Case(
            label=label,
            sources=[source],
            contenders=(REGPUSH, by.skopeo("gzip"), by.tar_and(("pigz", "-1"))),
        )


def _small(settings: Settings) -> Iterator[Case]:
    yield Case(
        label="files of 4 KiB",
        sources=[inputs.small(settings.cache, int(settings.scaled(100_000, 410)))],
        contenders=(
            REGPUSH,
            FAST,
            by.skopeo("gzip"),
            by.skopeo_with_layout("gzip"),
            by.buildah(),
        ),
    )


def _unchanged(settings: Settings) -> Iterator[Case]:
    versions = inputs.real(settings.cache, settings.size(500), 40)
    yield from _later(versions.first, versions.first, (by.skopeo("gzip"), *_READY))
    yield Case(
        label=f"Bearer, 307, {FAR}",
        sources=[versions.first],
        first=versions.first,
        start=Start.SAME,
        shape=FAR,
        guarded=True,
        contenders=(REGPUSH, *_READY),
    )


def _app_only(settings: Settings) -> Iterator[Case]:
    versions = inputs.real(settings.cache, settings.size(500), 40)
    peers = (by.skopeo("gzip"), *_READY, by.crane_append(), by.buildkit())
    yield from _later(versions.first, versions.app, peers)
    yield _through_guard(versions.first, versions.app)


def _mid_library(settings: Settings) -> Iterator[Case]:
    versions = inputs.real(settings.cache, settings.size(500), 40)
    yield from _later(versions.first, versions.mid, (by.skopeo("gzip"), *_READY))


def _closure_later(settings: Settings) -> Iterator[Case]:
    versions = _closure_versions(settings)
    peers = (BY_DEFAULT, by.skopeo("gzip"), *_stream(settings), *_READY)
    for what, source in (
        ("unchanged", versions.first),
        ("app only", versions.app),
        ("mid-library", versions.mid),
    ):
        yield from _later(versions.first, source, peers, what=f"{what}, ", builds=False)
    yield _through_guard(versions.first, versions.app, BY_DEFAULT)


def _one_changed(settings: Settings) -> Iterator[Case]:
    first = inputs.tree(settings.cache, settings.size(500)).first
    changes = inputs.changes(first, _CHANGES)
    shape = Shape(rtt_ms=50, up_mbit=100, down_mbit=100)
    for home in (False, True):
        for pages in (Pages.COLD, Pages.WARM):
            yield Case(
                label=f"one file, {pages.value} pages",
                sources=changes,
                first=first,
                start=Start.EARLIER,
                home=home,
                pages=pages,
                shape=shape,
            )
    yield Case(
        label="one file, peers",
        sources=changes[:1],
        first=first,
        start=Start.EARLIER,
        home=True,
        shape=shape,
        contenders=(
            REGPUSH,
            by.skopeo_with_layout("gzip"),
            by.buildah(),
            by.buildkit(),
        ),
    )


def _five_gb(settings: Settings) -> Iterator[Case]:
    source = inputs.real(settings.cache, settings.size(5000), 40).first
    for pages in Pages:
        yield Case(
            label=f"unchanged, {pages.value} pages",
            sources=[source],
            first=source,
            start=Start.SAME,
            home=True,
            pages=pages,
            shape=NEAR,
        )


def _start_up(settings: Settings) -> Iterator[Case]:
    source = inputs.real(settings.cache, settings.size(5), 3).first
    yield Case(
        label="a small app, unchanged",
        sources=[source],
        first=source,
        start=Start.SAME,
        shape=NEAR,
        contenders=(REGPUSH, by.version()),
    )


def _growth(settings: Settings) -> Iterator[Case]:
    for gigabytes in (0.1, 0.5, 1, 2, 4, 8):
        size_mb = settings.scaled(gigabytes * 1000, 8000)
        yield Case(
            label=f"{size_mb:g} MB, 8 layers",
            sources=[inputs.real(settings.cache, size_mb, 8).first],
        )
    for count in (100, 1000, 10_000):
        yield Case(label=f"{count} items", sources=[inputs.items(settings.cache, count)])
    for layers in (1, 8, 32, 64, 127):
        size_mb = settings.scaled(500, 8000)
        yield Case(
            label=f"{size_mb:g} MB, {_layers(layers)}",
            sources=[inputs.real(settings.cache, size_mb, layers).first],
        )


def _memory(settings: Settings) -> Iterator[Case]:
    four = (by.regpush("-j", "4"),)
    cases = {
        "one large file": inputs.large(settings.cache, settings.size(4000)),
        "files of 4 KiB": inputs.small(settings.cache, int(settings.scaled(100_000, 4000))),
        "20,000 items": inputs.items(settings.cache, int(settings.scaled(20_000, 4000))),
        "127 layers": inputs.real(settings.cache, settings.scaled(1000, 4000), 127).first,
    }
    for label, source in cases.items():
        yield Case(label=label, sources=[source], contenders=four)
    three = inputs.real(settings.cache, settings.scaled(300, 4000), 3).first
    for level in ("zstd", "zstd:9"):
        yield Case(label=level, sources=[three], contenders=(by.regpush("--compression", level),))


def _through_guard(first: Source, source: Source, *peers: Contender) -> Case:
    """`source` after `first`, with an empty home, by a registry as clouds run them."""
    return Case(
        label=f"app only, Bearer, 307, {FAR}",
        sources=[source],
        first=first,
        start=Start.EARLIER,
        shape=FAR,
        guarded=True,
        contenders=(REGPUSH, *peers, *_READY),
    )


_READY = (by.skopeo_ready(), by.crane_ready())


def _later(
    first: Source,
    source: Source,
    peers: Sequence[Contender],
    *,
    what: str = "",
    builds: bool = True,
) -> Iterator[Case]:
    """`source` after `first`, with and without what the first push left at home, far and near.

    `builds`: a COPY can make each layer, so that buildah can take part.
    """
    for home in (False, True):
        for shape in (FAR, NEAR):
            yield Case(
                label=f"{what}{'home kept' if home else 'empty home'}, {shape}",
                sources=[source],
                first=first,
                start=Start.SAME if source is first else Start.EARLIER,
                home=home,
                shape=shape,
                contenders=(REGPUSH, *peers, *([by.buildah_push()] if builds else [])),
            )


def _stream(settings: Settings) -> list[Contender]:
    script = settings.nixpkgs_script
    return [] if script is None else [by.stream_and_skopeo(script)]


def _closure_versions(settings: Settings) -> Versions:
    if settings.closure is not None:
        return closures.found(settings.closure, 100)
    return closures.made(settings.cache, settings.size(490), 100)


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


SCENARIOS: Mapping[str, Scenario] = {
    "cold": Scenario(title="Cold, loopback, one and three layers", cases=_cold),
    "links": Scenario(title="The default beside skopeo, at three links", cases=_links),
    "levels": Scenario(title="Compression: size and time", cases=_levels, against_go=True),
    "rates": Scenario(title="Cold, at a link's rate", cases=_rates),
    "layers": Scenario(title="Cold, by layers and round trip", cases=_layered),
    "closure": Scenario(title="Cold, a closure", cases=_closure),
    "large": Scenario(title="Cold, few large files", cases=_large),
    "small": Scenario(title="Cold, many small files", cases=_small),
    "unchanged": Scenario(title="Nothing has changed, 40 layers", cases=_unchanged),
    "app-only": Scenario(title="The app's layer of 40 has changed", cases=_app_only),
    "mid-library": Scenario(title="One layer in the middle of 40 has changed", cases=_mid_library),
    "closure-later": Scenario(title="A closure and its next version", cases=_closure_later),
    "one-changed": Scenario(title="One file of a whole tree has changed", cases=_one_changed),
    "five-gb": Scenario(title="An unchanged large directory, with its index", cases=_five_gb),
    "start-up": Scenario(title="What every push costs", cases=_start_up),
    "growth": Scenario(title="Growth in bytes, items, layers", cases=_growth, series=True),
    "memory": Scenario(title="Peak memory with four workers", cases=_memory, series=True),
}
