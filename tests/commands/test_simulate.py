"""Histories and scores: the file format, and ratios worked by hand."""

import json
from pathlib import Path

import pytest

from regpush.commands import simulate
from regpush.commands.history import History
from regpush.errors import UsageError
from regpush.layering.strategies import STRATEGIES
from tests.layering import histories
from tests.program import regpush

SAMPLE = Path(__file__).parents[1] / "data" / "history.json"


def entry(name: str, version: int, size: int, *refs: str) -> dict:
    digest = f"{sum(name.encode())}{version}".zfill(32)
    return {"name": name, "hash": digest, "size": size, "refs": list(refs), "origin": name}


def push(app, roots, add, remove=()) -> dict:
    return {"app": app, "date": "", "roots": roots, "add": add, "remove": list(remove)}


# Two apps on one library, whose second version reaches one of them.
ITEMS = [
    entry("lib", 1, 100),
    entry("lib", 2, 100),
    entry("one", 1, 10, "lib"),
    entry("one", 2, 20, "lib"),
    entry("two", 1, 1000, "lib"),
]
PUSHES = [
    push("one", [2], [0, 2]),
    push("two", [4], [0, 4]),
    push("one", [3], [3], [2]),
    push("one", [3], [1], [0]),
]


def told(items=ITEMS, pushes=PUSHES, **more) -> bytes:
    head = {"format": "regpush-history/1", "name": "n", "semantics": "plain"}
    return json.dumps({**head, "items": items, "pushes": pushes, **more}).encode()


def test_ratios_by_hand():
    """Everything in one layer: each push sends all of it.

    Sent: 110, 1100, 120, 120. New to the registry: 110, 1000, 20, 100. Of app one, pulled
    and unpacked: 120, 120; new to it: 20, 100.
    """
    history = History.parse(told())
    score = simulate.score(history, list(simulate.plans(history, "single", 64)))
    assert score.push == 1450 / 1230
    assert score.pull == score.chain == 240 / 120
    assert (score.mean_layers, score.most_layers) == (1.0, 1)


def test_what_lies_above_a_new_layer_is_unpacked_though_not_pulled():
    """Each alone, lib below: the last push pulls 100 and unpacks 120; the third 20 of 20."""
    history = History.parse(told())
    score = simulate.score(history, list(simulate.plans(history, "popularity", 64)))
    assert score.push == score.pull == 1
    assert score.chain == 140 / 120
    assert score.most_layers == 2


def test_a_single_push_has_nothing_to_pull():
    history = History.parse(told(pushes=PUSHES[:1]))
    score = simulate.score(history, list(simulate.plans(history, "stable", 64)))
    assert score.to_json()["pull_ratio"] is None


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_sample_is_read_as_the_tests_read_it(name):
    """Another reader of the format, and another sum of what was pushed."""
    history = History.parse(SAMPLE.read_bytes())
    plans = list(simulate.plans(history, name, 20))
    other = histories.load(SAMPLE)
    read = [closure for _, closure in histories.closures(other)]
    assert [closure for _, closure in history.closures()] == read
    assert [sorted(h for layer in plan for h in layer) for plan in plans] == [
        sorted(item.identity.digest.hex[:32] for item in closure.items) for closure in read
    ]
    score = simulate.score(history, plans)
    assert score.push == pytest.approx(
        histories.push_ratio(other, [[list(layer) for layer in plan] for plan in plans])
    )
    assert score.most_layers <= 20


def test_it_is_written_as_it_was_read():
    history = History.parse(SAMPLE.read_bytes())
    assert History.parse(json.dumps(history.to_json()).encode()) == history


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"{", "not JSON"),
        (b"[]", "format is not"),
        (told(format="regpush-history/2"), "format is not"),
        (told(items={}), "'items' is not a list"),
        (told(items=[5]), "an item is not a JSON object"),
        (told(items=[{**ITEMS[0], "name": "a/b"}]), "has no name"),
        (told(items=[{**ITEMS[0], "hash": "xyz"}]), "hash of lib is not 32"),
        (told(items=[{**ITEMS[0], "size": -1}]), "size of lib"),
        (told(items=[{**ITEMS[0], "size": True}]), "size of lib"),
        (told(items=[{**ITEMS[0], "refs": [1]}]), "refs of lib"),
        (told(pushes=[{}]), "does not name its app"),
        (told(pushes=[push("one", [9], [0])]), "'roots' of a push"),
        (told(pushes=[push("one", [0], [True])]), "'add' of a push"),
        (told(pushes=[push("one", [2], [2])]), "push 1: an item refers to 'lib', which"),
        (told(pushes=[push("one", [0], [0, 1])]), "push 1: two items are named lib"),
        (told(pushes=[push("one", [2], [0])]), "push 1: the root .* is not among the items"),
    ],
)
def test_a_history_that_cannot_be(data, complaint):
    with pytest.raises(UsageError, match=complaint):
        list(History.parse(data).closures())


def test_the_command(tmp_path):
    done = regpush("simulate", SAMPLE, "--max-layers", "20").ok()
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["strategy", "push", "pull", "chain", "layers", "most"]
    assert {row[0] for row in rows[1:]} == set(STRATEGIES)
    assert all(float(row[1]) >= 1 and int(row[5]) <= 20 for row in rows[1:])

    out = tmp_path / "plans"
    flags = ["--layers", "auto", "--max-layers", "20", "--plans-out", out]
    done = regpush("simulate", SAMPLE, *flags, "--format", "json").ok()
    plans = [json.loads(line)["layers"] for line in out.read_text().splitlines()]
    ratio = histories.push_ratio(histories.load(SAMPLE), plans)
    assert done.report["strategies"]["auto"]["push_ratio"] == round(ratio, 4)


def test_the_command_s_complaints(tmp_path):
    regpush("simulate", tmp_path / "none").failed(2, "cannot read", "No such file")
    regpush("simulate", SAMPLE, "--plans-out", tmp_path / "x").failed(2, "--plans-out", "--layers")
    regpush("simulate", SAMPLE, "--layers", "best").failed(2, "no layer strategy")
    regpush("simulate", SAMPLE, "--max-layers", "0").failed(2, "1 to 127")
