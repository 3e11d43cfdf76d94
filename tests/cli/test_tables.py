"""What is told of layers in a table, and that it fits."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from regpush.cli import table
from regpush.cli.fitting import columns, cut, cut_label
from regpush.cli.rendering import Renderer
from regpush.digest import OCI_LAYER, OCI_MANIFEST
from regpush.events import Action
from regpush.report import DestinationReport, ImageReport, LayerReport, PushResult, Tense
from tests.flow.test_push_directory import write
from tests.program import push, regpush
from tests.registry.servers import Registry
from tests.steps import steps

WIDTHS = range(16, 120, 3)


@pytest.mark.parametrize(
    ("label", "width", "expected"),
    [
        ("short", 16, "short"),
        ("openssl-3.0.15", 16, "openssl-3.0.15"),
        ("a-name-that-is-far-too-long", 16, "a-name-that-is-…"),
        ("node_modules/x/y.js", 30, "node_modules/x/y.js"),
        ("node_modules/x/y.js", 16, "x/y.js"),
        ("src/assets/backgrounds/summer.png", 24, "…/backgrounds/summer.png"),
        (
            "site-packages/zstandard/_cffi.cpython-311-x86_64-linux-gnu.so",
            40,
            "zstandard/_cffi.cpython-311-x86_…-gnu.so",
        ),
        ("node_modules/p/dist/index.min.js and 3 more", 36, "p/dist/index.min.js and 3 more"),
        ("site-packages/torch/libtorch_cuda.so (linux/amd64)", 40,
         "torch/libtorch_cuda.so (linux/amd64)"),
        ("日本語日本語日本語", 10, "日本語日…"),
    ],
)  # fmt: skip
def test_labels(label: str, width: int, expected: str) -> None:
    assert cut_label(label, width) == expected
    assert columns(expected) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_it_may_be(width: int) -> None:
    for text in ("x" * 200, "a/b/" * 40, "日本/" * 40 + "語", "a/" + "b" * 90 + ".so and 12 more",
                 "e\u0301" * 100, "\x1b[31m" * 30):  # fmt: skip
        for shorten in (cut, cut_label):
            assert columns(shorten(text, width)) <= width
            assert "\x1b" not in shorten(text, width)


def layer(label: str, action: Action, why: str) -> LayerReport:
    return LayerReport(
        label=label, items=(), media_type=OCI_LAYER, size=1000, digest=None, diff_id=None,
        uncompressed_size=None, recipe=None, action=action, why=why,
    )  # fmt: skip


def result(*images: ImageReport) -> PushResult:
    return PushResult(
        destinations=(DestinationReport(image="h/r", tags=("t",), digest=None),),
        images=images,
        media_type=OCI_MANIFEST,
        changed=True,
        uploaded_bytes=0,
        requests=0,
        seconds=0,
    )


def test_an_image_that_was_not_made_has_no_table() -> None:
    skipped = replace(result(), changed=False, requests=3)
    assert table.changes(skipped, 100) == []
    assert table.summary(skipped) == "Unchanged. Sent 0 B; 3 requests, 0.0 s."


def test_a_plan_and_a_push_count_the_same_bytes() -> None:
    image = ImageReport(
        platform="linux/amd64", digest=None, layers=(layer("app", Action.UPLOADED, "new"),)
    )
    pushed = replace(result(image), uploaded_bytes=2100, requests=9)
    planned = replace(pushed, tense=Tense.PLANNED)
    assert table.summary(planned).startswith("Would send about 1.0 kB of layers, saving 0 B (")
    assert table.summary(pushed).startswith("Sent 1.0 kB of layers, 2.1 kB in all, saved 0 B (")


def test_reused_layers_are_one_row_and_keep_their_numbers() -> None:
    kept = [layer(f"kept{n}", Action.REUSED, "same as in h/r:latest") for n in range(5)]
    new = [layer("new", Action.UPLOADED, "new changed")]
    few = [layer(f"few{n}", Action.REUSED, "same as in h/r:v1") for n in range(2)]
    image = ImageReport(platform="linux/amd64", digest=None, layers=(*kept, *new, *few))
    rows = [line.split() for line in table.changes(result(image), 100)]
    assert rows[1:] == [
        ["1-5", "5", "layers", "~5.0", "kB", "reused", "same", "as", "in", "latest"],
        ["6", "new", "~1.0", "kB", "uploaded", "new", "changed"],
        ["7", "few0", "~1.0", "kB", "reused", "same", "as", "in", "v1"],
        ["8", "few1", "~1.0", "kB", "reused", "same", "as", "in", "v1"],
    ]
    assert len(table.layers(result(image), 100)) == 9
    both = table.changes(result(image, image), 100)
    assert [line for line in both if line == "linux/amd64"] == ["linux/amd64"] * 2
    assert len(both) == 1 + 2 * 5


def test_colours_change_nothing_but_colours() -> None:
    image = ImageReport(
        platform="p",
        digest=None,
        layers=(layer("a", Action.REUSED, "w"), layer("b", Action.UPLOADED, "uploaded  again")),
    )
    plain = table.layers(result(image), 100)
    painted = [Renderer(coloured=True)(line) for line in table.styled(plain)]
    assert [re.sub(r"\x1b\[[\d;]*m", "", line) for line in painted] == plain
    assert all("\x1b" in line for line in painted)
    assert [Renderer()(line) for line in table.styled(plain)] == plain


@pytest.mark.parametrize(
    "name",
    ["é" * 8000, "é" * 3_000_000, "a/" * 1_500_000, "日/" * 500_000 + "語", "\u0301" * 3_000_000,
     "\x1b" * 3_000_000, "x" * 3_000_000 + " and 3 more (linux/amd64)"],
    ids=lambda name: ascii(name[:2]),
)  # fmt: skip
def test_names_of_any_length_are_cut_at_once(name: str) -> None:
    """Cutting one character at a time took 26 s of 8,000 letters, and hours of 3 million."""

    def work() -> None:
        for width in (16, 200):
            for shorten in (cut, cut_label):
                assert columns(shorten(name, width)) <= width
        held = [layer(name, Action.UPLOADED, f"{name} is new") for _ in range(20)]
        image = ImageReport(platform=name, digest=None, layers=tuple(held))
        assert all(len(line) < 10_000 for line in table.layers(result(image), 200))

    # Three million lines of Python at most are usual, of any name.
    assert steps(work) < 10_000_000


def test_a_push_shows_changes_and_with_v_every_layer(
    docker_registry: Registry, repository: str, tmp_path: Path
) -> None:
    for number in range(8):
        write(tmp_path / "app" / "node_modules" / f"p{number}" / "x.js", f"{number}" * 300_000)
    to = f"{docker_registry.host}/{repository}"
    push(tmp_path / "app", to).ok()
    write(tmp_path / "app" / "main.js", "new")
    said = regpush(tmp_path / "app", "--to", f"{to}:v2", "--no-cache").ok().stderr
    assert re.search(r"^ *1-[89] +[89] layers .* reused +same as in latest$", said, re.MULTILINE)
    said = regpush(tmp_path / "app", "--to", f"{to}:v3", "--no-cache", "-v").ok().stderr
    assert not re.search(r"layers .* reused", said)
    assert len(re.findall(r"^ *\d+ .* reused +same as in", said, re.MULTILINE)) >= 8
