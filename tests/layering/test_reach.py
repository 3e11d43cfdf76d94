"""The closures of items as bit sets."""

from __future__ import annotations

import tracemalloc

from regpush.closure import Closure
from regpush.layering.reach import closures, origins
from tests.layering.graphs import item


def test_each_item_has_its_own_bit_and_those_of_its_references():
    a, b = item("a"), item("b")
    c = item("c", references=(a.path, b.path))
    d = item("d", references=(c.path,), origin="c")
    closure = Closure.build((d.path,), (a, b, c, d))
    sets = closures(closure)
    bit = {path: 1 << number for number, path in enumerate(one.path for one in closure.items)}
    assert list(sets) == [one.path for one in closure.items]
    assert sets[a.path] == bit[a.path]
    assert sets[c.path] == bit[a.path] | bit[b.path] | bit[c.path]
    assert sets[d.path] == sum(bit.values())
    assert origins(closure)[d.path] == origins(closure)[c.path]


def test_items_without_references_take_little_memory():
    """As bit sets, those of 8,000 packages would take 4.5 MB."""
    items = tuple(item(f"i{number:05d}") for number in range(8000))
    closure = Closure.build((items[0].path,), items)
    tracemalloc.start()
    try:
        sets = closures(closure)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sets) == len(items)
    assert taken < 2 << 20
