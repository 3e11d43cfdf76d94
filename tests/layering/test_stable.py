"""`stable`: the rules by hand-worked closures, what it promises by closures that change."""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from regpush.closure import Closure
from regpush.layering import strategies
from regpush.layering.plan import Plan, PlanContext
from regpush.layering.stable import stable
from tests.layering import histories
from tests.layering.graphs import MIB, graph, item, names

HISTORY = Path(__file__).parents[1] / "data" / "history.json"
KIB = 1 << 10


def planned(closure: Closure, limit: int) -> list[str]:
    return names(stable(closure, PlanContext(max_layers=limit)))


#   app ─┬─ python ─┬─ ssl ── libc       counts: libc 1, data 1, ssl 2, python 4,
#        │          └─ data                       script 5, app 6
#        └─ script ─ python
SMALL = "app: python script\nscript: python\npython: ssl data\nssl: libc\ndata:"
SIZES = {
    "app": 8 * MIB,
    "python": 60 * MIB,
    "ssl": 6 * MIB,
    "libc": 90 * MIB,
    "data": 256 * KIB - 1,
    "script": 10 * KIB,
}


@pytest.mark.parametrize("limit", [6, 64])
def test_what_fits_lies_alone_and_what_is_small_is_pooled_by_tier(limit):
    # data and script are small, but of two tiers. Large and stable below.
    assert planned(graph(SMALL, roots="app", sizes=SIZES), limit) == [
        "libc",
        "python",
        "ssl",
        "data",
        "script",
        "app",
    ]


def test_small_items_of_one_tier_share_a_layer():
    sizes = {**SIZES, "ssl": 255 * KIB}
    assert planned(graph(SMALL, roots="app", sizes=sizes), 64) == [
        "libc",
        "python",
        "data ssl",
        "script",
        "app",
    ]


def test_an_item_of_the_limit_lies_alone():
    sizes = {**SIZES, "ssl": 255 * KIB, "data": 256 * KIB}
    layers = planned(graph(SMALL, roots="app", sizes=sizes), 64)
    assert {"data", "ssl"} < set(layers)


def test_roots_lie_on_top_but_not_packages_that_were_listed_as_well():
    # ssl brings 2 of the app's 6 items, a second profile as much as the first.
    closure = graph(SMALL + "\nother: app", roots="app other ssl", sizes=SIZES)
    assert planned(closure, 64)[-1] == "app other"
    assert "ssl" in planned(closure, 64)


def test_an_item_s_own_releases_count_as_well_as_those_below_it():
    # (1 - .99^(4 + 20)) / 60 < (1 - .99^(1 + 20)) / 40: by closure counts alone libc is lower.
    layers = planned(graph(SMALL, roots="app", sizes={**SIZES, "libc": 40 * MIB}), 64)
    assert layers[:2] == ["python", "libc"]


def test_equal_sizes_are_ordered_by_what_may_change_them():
    text = "app: c\nc: b x y z\nb: a\nx: a\ny: a\nz: a"
    layers = planned(graph(text, roots="app"), 64)
    assert layers == ["a", "b", "x", "y", "z", "c", "app"]


# printf '0 openssl' | sha256sum, and so on: the bin of the highest digest, first digits.
#            openssl  glibc  zlib  bücher
#   bin 0         01     3c    68      d9
#   bin 1         8f     4b    98      4b
#   bin 2         cc     1a    92      2a
ORIGINS = ["openssl", "glibc", "zlib", "bücher"]


@pytest.mark.parametrize(
    ("limit", "layers"),
    [
        # 1 + (1 alone, 1 bin): floor(.6 * 2) = 1
        (3, ["big", "bücher glibc openssl zlib", "app"]),
        # 1 + (1 alone, 2 bins)
        (4, ["big", "bücher", "glibc openssl zlib", "app"]),
    ],
)
def test_three_fifths_lie_alone(limit, layers):
    closure = graph("app: big " + " ".join(ORIGINS), roots="app", sizes={"big": 90 * MIB})
    assert sorted(planned(closure, limit)) == sorted(layers)


@pytest.mark.parametrize(
    ("limit", "bins"),
    [
        (6, ["bücher", "glibc openssl zlib"]),  # room 5: 3 alone, 2 bins
        (7, ["bücher", "glibc zlib", "openssl"]),  # room 6: 3 alone, 3 bins
        (8, ["bücher", "glibc zlib", "openssl"]),  # room 7: 4 alone, 3 bins
    ],
)
def test_bins_are_drawn_by_the_hash_of_the_origin(limit, bins):
    large = [f"large{number}" for number in range((limit - 1) * 3 // 5)]
    sizes = dict.fromkeys(large, 9 * MIB)
    closure = graph("app: " + " ".join([*large, *ORIGINS]), roots="app", sizes=sizes)
    layers = planned(closure, limit)
    assert sorted(layers) == sorted([*large, *bins, "app"])
    assert layers[-1] == "app"


def test_items_of_one_origin_meet_and_tiers_do_not():
    """Forty outputs of ten packages in each of three tiers; 41 alone, 28 bins."""
    chain = [item("base", size=50 * MIB)]
    for number in range(40):
        chain.append(item(f"link{number:02}", size=50 * MIB, references=(chain[-1].path,)))
    items = list(chain)
    for tier, below in [(0, chain[0]), (1, chain[8]), (2, chain[40])]:
        items += [
            item(
                f"t{tier}-{number}",
                origin=f"package{number % 10}",
                references=(below.path,),
            )
            for number in range(40)
        ]
    app = item("app", references=tuple(one.path for one in items))
    plan = stable(Closure.build((app.path,), (*items, app)), PlanContext(max_layers=70))
    binned = [layer.items for layer in plan.layers if len(layer.items) > 1]
    assert len(binned) > 3
    seen: set[tuple[str, str]] = set()
    for members in binned:
        tiers = {one.name[:2] for one in members}
        assert len(tiers) == 1
        keys = {(*tiers, one.origin) for one in members}
        assert not keys & seen
        seen |= keys


#   app ─┬─ libssl ── libc      origin openssl: libssl needs 2, tool 4, within three times
#        ├─ tool ─┬─ libssl     the least; suite needs 8 and is not.
#        │        └─ a ── libc
#        └─ suite ── tool b c
OPENSSL = "app: libssl tool suite\nlibssl: libc\na: libc\ntool: libssl a\nsuite: tool b c d"


def test_what_one_package_gave_lies_together_unless_more_must_change_the_one():
    origins = dict.fromkeys(["libssl", "tool", "suite"], "openssl")
    closure = graph(OPENSSL, roots="app")
    items = tuple(replace(one, origin=origins.get(one.name, one.name)) for one in closure.items)
    layers = planned(Closure.build(closure.roots, items), 64)
    assert sorted(layers) == ["a", "app", "b", "c", "d", "libc", "libssl tool", "suite"]


def test_the_parts_of_a_directory_s_package_lie_apart_though_of_one_name():
    parts = [
        replace(
            item("big", size=4 * MIB, version=str(number)),
            path=f"/app/node_modules/big/p{number}",
            identity=None,
        )
        for number in range(3)
    ]
    layers = stable(Closure.build((), tuple(parts)), PlanContext(max_layers=64)).layers
    assert [len(layer.items) for layer in layers] == [1, 1, 1]


@pytest.mark.parametrize(
    ("limit", "whole_tiers"),
    [
        (8, True),  # room 7: 4 alone and a bin for each tier
        (6, False),  # room 5: 3 alone, 2 bins for the three tiers
    ],
)
def test_tiers_mix_only_where_they_outnumber_the_bins(limit, whole_tiers):
    """A chain of 20 links, which need 1 to 20 items, and large items that lie alone."""
    links = [f"link{number:02}" for number in range(1, 21)]
    large = [f"large{number}" for number in range((limit - 1) * 3 // 5)]
    lines = [f"{above}: {below}" for below, above in pairwise(links)]
    text = "\n".join([*lines, f"app: link20 {' '.join(large)}"])
    layers = planned(graph(text, roots="app", sizes=dict.fromkeys(large, 9 * MIB)), limit)
    tiers = [" ".join(links[:4]), " ".join(links[4:16]), " ".join(links[16:])]
    assert (set(tiers) < set(layers)) is whole_tiers
    assert set(large) < set(layers)
    assert len(layers) <= limit


def test_who_has_more_layers_has_finer_tiers():
    """The same chain of 20 links, of which 9 large items leave 6 bins."""
    chain = [f"link{number:02}" for number in range(1, 21)]
    large = [f"large{number}" for number in range(9)]
    lines = [f"{above}: {below}" for below, above in pairwise(chain)]
    text = "\n".join([*lines, f"app: link20 {' '.join(large)}"])
    layers = planned(graph(text, roots="app", sizes=dict.fromkeys(large, 9 * MIB)), 16)
    tiers = [set(chain[low:high]) for low, high in pairwise([0, 3, 6, 12, 24])]
    binned = [set(layer.split()) for layer in layers if layer.startswith("link")]
    assert len(binned) > len(tiers)
    assert all(any(links <= tier for tier in tiers) for links in binned)


def flat(count: int) -> Closure:
    """An app on `count` items of 1 MiB without references among themselves."""
    below = " ".join(f"lib{number:03}" for number in range(count))
    return graph(f"app: {below}", roots="app")


def changed(before: Plan, after: Plan) -> list[str]:
    """The names of the layers of `after` that `before` does not have."""
    held = {frozenset(item.path for item in layer.items) for layer in before.layers}
    return [
        name
        for name, layer in zip(names(after), after.layers, strict=True)
        if frozenset(item.path for item in layer.items) not in held
    ]


def with_version(closure: Closure, name: str, **new: object) -> Closure:
    """The closure after a new version of one item, its dependents rebuilt, as a store does."""
    paths: dict[str, str] = {}
    items = []
    for one in closure.items:
        references = tuple(paths.get(path, path) for path in one.references)
        if one.name == name or references != one.references:
            digest = hashlib.sha256(f"2 {one.path}".encode()).hexdigest()[:32]
            paths[one.path] = f"/gnu/store/{digest}-{one.name}"
            one = replace(one, path=paths[one.path], references=references)
        items.append(replace(one, **new) if one.name == name else one)  # type: ignore[arg-type]
    return Closure.build(tuple(paths.get(root, root) for root in closure.roots), tuple(items))


@pytest.mark.parametrize("limit", [2, 3, 10, 20, 64, 127])
def test_a_new_app_is_all_that_is_sent(limit):
    closure, context = flat(200), PlanContext(max_layers=limit)
    newer = with_version(closure, "app", size=9 * MIB)
    assert changed(stable(closure, context), stable(newer, context)) == ["app"]


@pytest.mark.parametrize("limit", [3, 10, 20, 64, 127])
def test_a_new_version_disturbs_its_own_layer_and_the_app(limit):
    closure, context = flat(200), PlanContext(max_layers=limit)
    before = stable(closure, context)
    after = stable(with_version(closure, "lib199", size=MIB - 5000), context)
    lower, app = changed(before, after)
    assert app == "app"
    assert "lib199" in lower.split()
    assert lower in names(before)


def test_a_new_dependency_disturbs_one_layer():
    closure, context = flat(200), PlanContext(max_layers=40)
    extra = item("newcomer", size=MIB - 1)
    items = tuple(
        replace(one, references=(*one.references, extra.path)) if one.name == "app" else one
        for one in closure.items
    )
    grown = Closure.build(closure.roots, (*items, extra))
    assert len(changed(stable(closure, context), stable(grown, context))) == 1


# Golden vector: the digest changes where a layer of any image planned by an earlier version
# would be sent again. Change it only with a line in the changelog.
@pytest.mark.parametrize(
    ("limit", "digest"),
    [
        (20, "d33a7f9132a776cabebb69734ca3a4ebbb697bed942cb869723c8ab4bc036990"),
        (64, "51cf42683e933b3788d9b543ae3587685c171c9819f2e283ce1731f149f55592"),
    ],
)
def test_golden_plans(limit, digest):
    *_, (_, closure) = histories.closures(histories.load(HISTORY))
    plan = histories.hashes(stable(closure, PlanContext(max_layers=limit)))
    text = json.dumps([sorted(layer) for layer in plan])
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def test_on_a_real_history_little_more_is_sent_than_is_new():
    """Ten weeks of a database server: `size` sends 1.114 times the least."""
    history = histories.load(HISTORY)

    def ratio(name: str) -> float:
        context = PlanContext(max_layers=64)
        plans = [strategies.plan(one, name, context) for _, one in histories.closures(history)]
        return histories.push_ratio(history, [histories.hashes(plan) for plan in plans])

    assert ratio("stable") < 1.01
    assert ratio("stable") < ratio("size") < ratio("app-deps") < ratio("single")
