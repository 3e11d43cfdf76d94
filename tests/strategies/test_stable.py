"""`stable`: where items go, what moves them, and in which order layers lie."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from regpush.closure import Closure, Item
from regpush.strategies import plan
from regpush.strategies.plan import PlanContext
from regpush.strategies.stable import _rendezvous, _shares, stable
from tests.strategies.graphs import closure, item, names
from tests.strategies.histories import TINY, Push, hashes, load, pushes, sent

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture(scope="module")
def tiny() -> tuple[Push, ...]:
    return tuple(pushes(load(TINY)))


def test_golden(tiny: tuple[Push, ...]) -> None:
    # A change here means that every image is laid out anew once: say so in the changelog.
    made = stable(tiny[-1].closure, PlanContext(max_layers=8))
    assert [(layer.label, {item.name for item in layer.items}) for layer in made.layers] == [
        ("python", {"python"}),
        ("icu", {"icu"}),
        ("libc", {"libc"}),
        ("openssl", {"openssl"}),
        (
            "wheel-c and 5 more",
            {"libxml", "sqlite", "wheel-a", "wheel-b", "wheel-c", "wheel-d"},
        ),
        (
            "ncurses and 8 more",
            {"bzip2", "cacert", "expat", "libm", "ncurses", "readline", "tzdata", "xz", "zlib"},
        ),
        ("shop-app", {"shop-app"}),
        ("shop-profile", {"shop-profile"}),
    ]


@pytest.mark.parametrize("limit", [3, 5, 8, 12, 64])
def test_a_rebuilt_app_leaves_the_layers_below_alone(tiny: tuple[Push, ...], limit: int) -> None:
    # The fourth push of the history changes the app and the profile, and nothing else.
    context = PlanContext(max_layers=limit)
    before, after = (hashes(stable(tiny[n].closure, context)) for n in (2, 3))
    kept = {i.path for i in tiny[2].closure.items} & {i.path for i in tiny[3].closure.items}
    assert len(kept) == len(tiny[3].closure.items) - 2
    changed = [layer for layer in after if layer not in before]
    assert len(changed) <= 2
    assert after[-1] in changed
    # A new hash alone moves nothing: the same names share a layer as did before.
    assert names(stable(tiny[2].closure, context)) != []
    assert _groups_by_name(tiny[2].closure, limit) == _groups_by_name(tiny[3].closure, limit)


def _groups_by_name(any_closure: Closure, limit: int) -> set[frozenset[str]]:
    made = stable(any_closure, PlanContext(max_layers=limit))
    return {frozenset(item.name for item in layer.items) for layer in made.layers}


# Push ratios by the scoring program of the histories: bytes sent over the bytes of new items.
@pytest.mark.parametrize(
    ("name", "limit", "ratio"),
    [
        ("single", 8, 2.99),
        ("app-deps", 8, 2.686),
        ("popularity", 8, 2.7062),
        ("size", 8, 1.1247),
        ("stable", 8, 1.0978),
        ("size", 16, 1.0105),
        ("stable", 16, 1.0038),
    ],
)
def test_bytes_sent_over_a_history(name: str, limit: int, ratio: float) -> None:
    history = load(TINY)
    context = PlanContext(max_layers=limit)
    plans = [hashes(plan(push.closure, name, context)) for push in pushes(history)]
    new = sum(item["size"] for item in history["items"])
    assert round(sent(history, plans) / new, 4) == ratio


def test_small_items_are_pooled_by_tier_where_all_groups_fit() -> None:
    # Closures: low 1, mid 5 (with the four lows), the edge of "small" is 256 KiB.
    lows = [item(f"low{number}", size=KIB) for number in range(4)]
    made = stable(
        closure(
            "app",
            *lows,
            item("mid", *(low.name for low in lows), size=2 * KIB),
            item("edge", size=256 * KIB),
            item("under", size=256 * KIB - 1),
            item("app", "mid", "edge", "under", size=KIB),
        ),
        PlanContext(max_layers=4),
    )
    assert sorted(names(made)[:-1]) == ["edge", "low0 low1 low2 low3 under", "mid"]
    assert names(made)[-1] == "app"


def test_else_three_quarters_of_the_layers_hold_the_largest_alone() -> None:
    leaves = [item(f"leaf{number:02}", size=MIB + number) for number in range(40)]
    app = item("app", *(leaf.name for leaf in leaves), size=KIB)
    layers = stable(closure("app", *leaves, app), PlanContext(max_layers=13)).layers
    alone = {layer.items[0].name for layer in layers[:-1] if len(layer.items) == 1}
    # 12 below the app: 9 alone, 3 bins for the other 31.
    assert {f"leaf{number}" for number in range(31, 40)} <= alone
    assert len(layers) == 13
    assert sum(len(layer.items) for layer in layers) == 41


def test_a_small_root_beside_the_app_is_no_user_root() -> None:
    # A system's closure lists its base packages as roots as well; they hardly ever change.
    libs = [item(f"lib{number}", size=MIB) for number in range(9)]
    app = item("app", *(lib.name for lib in libs), size=KIB)
    twin = item("twin", *(lib.name for lib in libs[1:]), size=KIB)
    tar = item("tar", "lib0", size=MIB)
    made = stable(closure("app tar twin", *libs, app, tar, twin), PlanContext())
    assert names(made)[-1] == "app twin"
    assert "tar" in names(made)


@pytest.mark.parametrize(("dependencies", "above"), [(26, False), (27, True)])
def test_the_order_is_chance_of_change_over_size(dependencies: int, above: bool) -> None:
    # By bc: 1-.99^(20+1) = .19027 over 1 MiB;
    # 1-.99^(20+27) = .37647 -> .18824 a MiB of two; 1-.99^(20+28) = .38271 -> .19135.
    libs = [item(f"lib{number}", size=KIB) for number in range(dependencies)]
    made = stable(
        closure(
            "app",
            *libs,
            item("one", size=MIB),
            item("two", *(lib.name for lib in libs), size=2 * MIB),
            item("app", "one", "two"),
        ),
        PlanContext(),
    )
    order = names(made)
    assert (order.index("two") > order.index("one")) is above


def test_equally_large_items_keep_their_places_when_rehashed() -> None:
    # Room for 3 of 8 alone: which ones must not be drawn by hash.
    def groups(digits: str) -> set[str]:
        made = [
            item(f"lib{number}", size=MIB, path=f"/gnu/store/{digit * 32}-lib{number}-1")
            for number, digit in enumerate(digits)
        ]
        return {
            " ".join(sorted(layer.split()))
            for layer in names(stable(Closure.build((), tuple(made)), PlanContext(max_layers=4)))
        }

    assert groups("abcdefgh") == groups("hgfedcba") == groups("dahbgcfe")


# The greatest of `printf '%s %s' BIN KEY | sha256sum` over the bins.
@pytest.mark.parametrize(
    ("key", "bins", "expected"),
    [
        ("libc", 1, 0),
        ("libc", 5, 0),
        ("openssl", 2, 1),
        ("openssl", 3, 2),
        ("wheel-a", 2, 0),
        ("wheel-a", 5, 2),
        ("zlib", 2, 1),
        ("zlib", 5, 1),
    ],
)
def test_bins_are_drawn_by_the_greatest_hash(key: str, bins: int, expected: int) -> None:
    assert _rendezvous(key, bins) == expected


def test_a_bin_more_takes_a_fair_share_and_moves_nothing_else() -> None:
    keys = [f"package-{number}" for number in range(2000)]
    for bins in range(1, 12):
        moved = [
            (_rendezvous(key, bins), _rendezvous(key, bins + 1))
            for key in keys
            if _rendezvous(key, bins) != _rendezvous(key, bins + 1)
        ]
        assert {after for _, after in moved} == {bins}
        assert 0.7 < len(moved) * (bins + 1) / len(keys) < 1.3


@pytest.mark.parametrize(
    ("weights", "bins", "expected"),
    [
        ([], 4, []),
        ([7], 4, [4]),
        ([1, 1, 1], 3, [1, 1, 1]),
        ([10, 20, 70], 13, [2, 3, 8]),
        ([1, 1, 1], 5, [2, 2, 1]),
        ([1000, 1], 4, [3, 1]),
    ],
)
def test_bins_are_shared_out_by_largest_remainder(
    weights: list[int], bins: int, expected: list[int]
) -> None:
    assert _shares(weights, bins) == expected


def test_items_of_one_origin_share_a_bin() -> None:
    def leaf(number: int) -> Item:
        made = item(f"leaf{number:03}", size=KIB + number)
        return dataclasses.replace(made, origin=f"origin-{number % 6}")

    leaves = [leaf(number) for number in range(120)]
    others = [item(f"large{number}", size=MIB) for number in range(12)]
    app = item("app", *(made.name for made in (*leaves, *others)))
    made = stable(closure("app", *leaves, *others, app), PlanContext(max_layers=13))
    for layer, other in itertools.combinations(made.layers, 2):
        shared = {item.origin for item in layer.items} & {item.origin for item in other.items}
        assert not shared
