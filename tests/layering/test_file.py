"""`file=layers.json`: the user's own split, and what is wrong with one."""

import json

import pytest

from regpush.closure import Closure, Role
from regpush.errors import UsageError
from regpush.layering import strategies
from regpush.layering.plan import PlanContext
from regpush.layering.stable import stable
from tests.layering.graphs import graph, item, names

#   app ─┬─ python ── libc
#        └─ script
CLOSURE = graph("app: python script\npython: libc", roots="app", generated=True)


@pytest.fixture
def split(tmp_path):
    """Plans a closure by a file of the layers given."""

    def plan(closure: Closure, layers: object, limit: int = 64) -> list[str]:
        file = tmp_path / "layers.json"
        file.write_text(layers if isinstance(layers, str) else json.dumps({"layers": layers}))
        return names(strategies.plan(closure, f"file={file}", PlanContext(max_layers=limit)))

    return plan


@pytest.mark.parametrize(
    ("layers", "planned"),
    [
        ([["libc"], ["python", "script"]], ["libc", "python script", "app links"]),
        ([["p*"], ["/gnu/store/*-libc"]], ["python", "libc", "script", "app links"]),
        ([["app"], ["script"]], ["app", "script", "libc", "python", "links"]),
        ([["no-such-*"], ["libc"]], ["libc", "script", "python", "app links"]),
        ([["lib?", "script", "python"]], ["libc python script", "app links"]),
    ],
)
def test_the_file_decides_and_the_rest_lies_above(split, layers, planned):
    assert split(CLOSURE, layers) == planned


def test_without_a_layer_it_is_stable(split):
    assert split(CLOSURE, [], 3) == names(stable(CLOSURE, PlanContext(max_layers=3)))


def test_names_with_versions(split):
    closure = Closure.build((), (item("openssl-3.0.13"), item("zlib-1.3")))
    assert split(closure, [["openssl-3.0.13"]]) == ["openssl-3.0.13", "zlib-1.3"]


def test_own_code_lies_on_top_whatever_the_file_says(split):
    closure = graph("app:\nlib:\ntool:", roots="app", own="app", generated=True)
    assert split(closure, [["app", "lib"]]) == ["lib", "tool", "app links"]


def test_a_single_layer_holds_all(split):
    assert split(CLOSURE, [["libc"]], 1) == ["app libc links python script"]


@pytest.mark.parametrize(
    ("layers", "limit", "complaint"),
    [
        ("{", 64, r"layers.json: it is not JSON \(line 1\)"),
        ("[]", 64, "write it as"),
        ('{"layers": 5}', 64, "write it as"),
        ('{"layers": [], "more": 1}', 64, "write it as"),
        ([["libc"], "python"], 64, "layer 2 is not a list of items"),
        ([["libc"], []], 64, "layer 2 is not a list of items"),
        ([["libc", 7]], 64, "in layer 1, 7 names no item"),
        ([[""]], 64, 'in layer 1, "" names no item'),
        ([["libc"], ["lib*"]], 64, "-libc in layer 1 and in layer 2"),
        ([["libc"], ["pyhton"]], 64, "'pyhton' in layer 2, which matches no item; did you mean "
         "'python'"),
        ([["libc"], ["python"]], 3, "needs 3 layers, one of them for items that it does not name; "
         "--max-layers 3 leaves 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(split, layers, limit, complaint):
    with pytest.raises(UsageError, match=complaint):
        split(CLOSURE, layers, limit)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the layers file .*No such file"):
        strategies.named(f"file={tmp_path}/none.json", 64)
    with pytest.raises(UsageError, match="null"):
        strategies.named("file=a\0b", 64)


def test_a_file_that_is_too_large(tmp_path):
    (tmp_path / "layers.json").write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(UsageError, match="over 1 MiB"):
        strategies.named(f"file={tmp_path}/layers.json", 64)


@pytest.mark.parametrize("limit", [2, 3, 5, 64, 127])
def test_the_limit_holds(split, limit):
    libs = [f"lib{number:03}" for number in range(150)]
    closure = graph("app: " + " ".join(libs), roots="app", generated=True)
    layers = split(closure, [[libs[0]], [libs[1]]] if limit > 3 else [], limit)
    assert min(limit, 100) <= len(layers) <= limit
    assert {one.role for one in closure.items if one.name in layers[-1].split()} >= {Role.GENERATED}
