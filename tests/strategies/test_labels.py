"""What a person reads in the table of layers."""

from __future__ import annotations

import pytest

from regpush.closure import Item, Role
from regpush.strategies.plan import LABEL_LENGTH, PlannedLayer
from tests.strategies.graphs import item, links

HASH = "0c0v3r2ysg8pmhsb1bpcx9y5bqvh5v3k"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/gnu/store/{HASH}-hello-2.12.1", "hello-2.12.1"),
        (f"/nix/store/{HASH}-hello-2.12.1-doc", "hello-2.12.1-doc"),
        (f"/nix/store/{HASH}", HASH),
        ("/app/node_modules/left-pad", "left-pad"),
        ("/app/", "app"),
        ("/", "the-name"),
        ("/app/two\nlines\x1b[0m\udcff", r"two\nlines\x1b[0m\udcff"),
    ],
)
def test_one_item(path: str, expected: str) -> None:
    assert PlannedLayer.of([item("the-name", path=path)]).label == expected


def test_generated_items_do_not_count() -> None:
    assert PlannedLayer.of([item("bash"), links()]).label == "bash"
    assert PlannedLayer.of([links()]).items == (links(),)


def test_several_are_led_by_the_largest() -> None:
    items = [item("bash", size=5), item("libfoo", size=7), item("zsh", size=6)]
    assert PlannedLayer.of(items).label == "libfoo and 2 more"


def test_equally_large_are_led_by_the_first_path() -> None:
    items = [item("b", size=5), item("a", size=5)]
    assert PlannedLayer.of(items).label == "a and 1 more"


def test_long_names_are_cut() -> None:
    def layer(count: int) -> list[Item]:
        return [item("x" * 59 + str(number), size=number) for number in range(count)]

    assert PlannedLayer.of(layer(1)).label == "x" * 59 + "0"
    label = PlannedLayer.of(layer(10)).label
    assert len(label) == LABEL_LENGTH == 60
    assert label == "x" * 48 + "… and 9 more"


def test_own_code_is_named_by_its_folder() -> None:
    assert PlannedLayer.of([item("shop", path="/srv/shop", role=Role.OWN)]).label == "shop"
