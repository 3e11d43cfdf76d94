from dataclasses import replace

import pytest

from regpush.closure import Item, Role
from regpush.errors import RegpushError, UsageError
from regpush.layering import strategies
from regpush.layering.plan import Plan, PlanContext, PlannedLayer
from regpush.layering.strategies import STRATEGIES
from tests.layering.graphs import graph, item, names

CLOSURE = graph("app: lib", roots="app")


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_plans_by_its_name(name):
    assert strategies.plan(CLOSURE, name, PlanContext()) == STRATEGIES[name](CLOSURE, PlanContext())


def test_an_unknown_strategy_is_told_from_a_typing_error():
    with pytest.raises(UsageError, match="named 'stabel': did you mean 'stable'"):
        strategies.plan(CLOSURE, "stabel", PlanContext())
    known = r"'x\\n': choose one of app-deps, auto, .*stable, file=layers.json$"
    with pytest.raises(UsageError, match=known):
        strategies.plan(CLOSURE, "x\n", PlanContext())


@pytest.mark.parametrize("limit", [-1, 0, 128])
def test_a_limit_no_image_can_have(limit):
    with pytest.raises(UsageError, match=f"max-layers\\) {limit}: give a number from 1 to 127"):
        strategies.plan(CLOSURE, "size", PlanContext(max_layers=limit))


def test_a_plan_that_loses_or_doubles_an_item_is_refused():
    app, lib = (CLOSURE[path] for path in (CLOSURE.roots[0], CLOSURE.items[0].path))
    stranger = item("stranger")
    Plan.of([[lib], [app]]).check(CLOSURE)
    for groups, complaint in [
        ([[app]], "-lib has no layer"),
        ([[lib, app], [app]], "-app is in two layers"),
        ([[lib, app, app]], "-app is in two layers"),
        ([[lib, app], [stranger]], "-stranger is in a layer but not"),
    ]:
        with pytest.raises(RegpushError, match=complaint):
            Plan.of(groups).check(CLOSURE)


def test_a_layer_s_items_are_sorted_by_path_and_empty_groups_give_none():
    items = [item(name) for name in "abcdefgh"]
    plan = Plan.of([[], items, []])
    assert [one.path for one in plan.layers[0].items] == sorted(one.path for one in items)
    assert len(plan.layers) == 1


LINKS = item("links", size=0, role=Role.GENERATED)
REQUESTS = replace(item("requests", size=9), path="/app/.venv/lib/site-packages/requests")


def at(path: str) -> Item:
    return replace(REQUESTS, path=path)


@pytest.mark.parametrize(
    ("items", "label"),
    [
        ([item("openssl-3.0.13")], "openssl-3.0.13"),
        ([item("glibc-bin"), item("glibc"), item("glibc-debug", size=9)], "glibc and 2 more"),
        ([item("app", size=0, role=Role.OWN), LINKS], "app"),
        ([item("lib", size=0), LINKS], "lib"),
        ([LINKS], "links"),
        ([REQUESTS], "requests"),
        ([at("/app/node_modules/@types/node")], "@types/node"),
        ([at("/app/node_modules/a/node_modules/b@1.2")], "b@1.2"),
        ([at("/app/lib/site-packages/two-1.1.dist-info")], "two-1.1"),
        ([at("/app/site-packages/a.dist-info/RECORD")], "records"),
        ([at("/app/deps/a.dist-info/RECORD")], "records"),
        ([at("/app/node_modules/tab\tred\x1b[31m")], "tab\\tred\\x1b[31m"),
        ([at("/app/node_modules/\udcff")], "\\udcff"),
        ([at("/")], "/"),
        ([at("/app")], "app"),
        ([at("/usr/share/locale/de/a.mo")], "usr/share/locale/de/a.mo"),
        (
            [at("/usr/share/locale/de/a.mo"), at("/usr/share/locale/fr/a.mo")],
            "usr/share/locale (2 parts)",
        ),
        (
            [at("/etc/passwd"), at("/var/lib/dpkg/a"), at("/var/lib/dpkg/b"), at("/usr/bin/ls")],
            "var/lib/dpkg and 2 more",
        ),
        ([at("/etc/passwd"), at("/usr/bin/ls")], "etc/passwd and 1 more"),
        ([item("n" * 100)], "n" * 100),
        ([item("n" * 101)], "n" * 99 + "…"),
        ([item("n" * 101), item("o" * 102)], "n" * 88 + "… and 1 more"),
        ([at("/p/" + "n" * 100)], "…" + "n" * 99),
    ],
)
def test_labels_are_short_and_for_people(items, label):
    assert PlannedLayer.of(items).label == label
    assert PlannedLayer.of(items[::-1]).label == label


# What every strategy does with own and generated items, N layers.
DIRECTORY = graph("app:\nlib:\ntool:", roots="app", own="app", generated=True)
STORE = graph("app: lib\nlib: libc", roots="app", generated=True)
ALL = "app lib libc links"


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"single"}))
def test_a_directory_s_own_code_is_the_top_layer(name):
    for limit in (2, 3, 4, 5, 127):
        planned = names(strategies.plan(DIRECTORY, name, PlanContext(max_layers=limit)))
        assert planned[-1] == "app links"
        assert sorted(" ".join(planned[:-1]).split()) == ["lib", "tool"]
    assert names(strategies.plan(DIRECTORY, name, PlanContext(max_layers=2))) == [
        "lib tool",
        "app links",
    ]


@pytest.mark.parametrize(
    ("name", "limit", "layers"),
    [
        ("single", 64, [ALL]),
        ("single", 1, [ALL]),
        ("app-deps", 1, [ALL]),
        ("app-deps", 2, ["libc", "app lib links"]),
        ("app-deps", 64, ["libc", "app lib links"]),
        ("size", 1, [ALL]),
        ("size", 2, ["app lib libc", "links"]),
        ("size", 4, ["app", "lib", "libc", "links"]),
        ("popularity", 1, [ALL]),
        ("popularity", 2, ["app lib libc", "links"]),
        ("popularity", 4, ["libc", "lib", "app", "links"]),
        ("stable", 1, [ALL]),
        ("stable", 2, ["lib libc", "app links"]),
        ("stable", 64, ["libc", "lib", "app links"]),
    ],
)
def test_the_top_of_a_store_closure(name, limit, layers):
    assert names(strategies.plan(STORE, name, PlanContext(max_layers=limit))) == layers


@pytest.mark.parametrize("name", STRATEGIES)
def test_only_generated_items_make_one_layer(name):
    closure = graph("", roots="", generated=True)
    for limit in (1, 2, 64):
        assert names(strategies.plan(closure, name, PlanContext(max_layers=limit))) == ["links"]


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_gives_no_layer(name):
    assert strategies.plan(graph("", roots=""), name, PlanContext()).layers == ()
