"""What is left out of an image changes no file of it: beside a model of layers on each other."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from regpush.digest import Digest
from regpush.errors import UsageError
from regpush.image.twins import EMPTY, repeated, uppermost

Layer = tuple[tuple[str, str], ...]
"""Paths and contents, as one push of regpush packs them: nothing is deleted."""

PATHS = ["a", "a/x", "a/y", "a/y/z", "b", "b/x", "c"]


def digest(layer: Layer) -> Digest:
    return Digest.of(repr(layer).encode()) if layer else EMPTY


def unpacked(layers: list[Layer]) -> dict[str, str]:
    """OCI image-spec, layer.md, "Applying Changesets": a file takes the place of a folder."""
    found: dict[str, str] = {}
    for layer in layers:
        for path, content in layer:
            for other in list(found):
                if f"{other}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other}/"):
                    del found[other]
            found[path] = content
    return found


def agrees(path: str, others: list[str]) -> bool:
    """Whether one tree can have files at `path` and at all of `others`."""
    return not any(
        f"{one}/".startswith(f"{path}/") or f"{path}/".startswith(f"{one}/") for one in others
    )


@st.composite
def pushes(draw: st.DrawFn, shared: list[Layer] | None = None) -> list[Layer]:
    """The layers of one push: of one tree, of which they may hold `shared` ones."""
    layers = [layer for layer in shared or [] if draw(st.booleans())]
    taken = [path for layer in layers for path, _ in layer]
    new: list[dict[str, str]] = [{}, {}, {}]
    for path in draw(st.permutations(PATHS)):
        if agrees(path, taken) and draw(st.booleans()):
            new[draw(st.integers(0, 2))][path] = draw(st.sampled_from("12"))
            taken.append(path)
    layers += [tuple(sorted(one.items())) for one in new]
    return draw(st.permutations(layers))


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_no_file_changes_and_no_layer_is_there_twice(data: st.DataObject) -> None:
    foreign = [one for one in data.draw(pushes()) if one]
    last = [one for one in data.draw(pushes()) if one and one not in foreign]
    base = [*foreign, *last]
    planned = data.draw(pushes([*last, *foreign[-1:]]))
    app = [planned[number] for number in uppermost([digest(one) for one in planned])]
    try:
        left_out = repeated(
            [digest(one) for one in base], len(foreign), {digest(one) for one in app}, "base"
        )
    except UsageError:
        assert set(foreign) & set(app)  # only what another push laid below can be in doubt
        return
    kept = [one for number, one in enumerate(base) if number not in left_out]
    image = [*kept, *app]
    assert len(set(image)) == len(image)
    assert all(app)
    assert unpacked(image) == unpacked([*base, *planned])


def test_of_equal_layers_of_one_push_the_uppermost_stands() -> None:
    one, two = digest((("a", "1"),)), digest((("b", "1"),))
    assert uppermost([one, two, EMPTY, one]) == [1, 3]
    assert uppermost([EMPTY]) == []


@pytest.mark.parametrize(
    ("base", "last_push", "above", "left_out"),
    [
        ("os a b", 1, "a b c", {1, 2}),  # the base is this app, or an older one
        ("os a b", 3, "a b c", {1, 2}),  # also where nobody says who made it
        ("os b a", 3, "a b c", {1, 2}),
        ("os a b x", 1, "a b c", {1, 2}),  # x was pushed with a and b
        ("os x b", 1, "a c", set()),
        ("os a x", 3, "a c", None),
        ("os a b x", 2, "a c", None),  # x, of another push than a, may rest on it
        ("a a", 2, "a", {0, 1}),
    ],
)
def test_what_is_left_out_of_a_base(
    base: str, last_push: int, above: str, left_out: set[int] | None
) -> None:
    ids = {name: Digest.of(name.encode()) for name in f"{base} {above}".split()}
    arguments = ([ids[one] for one in base.split()], last_push, {ids[one] for one in above.split()})
    if left_out is None:
        with pytest.raises(UsageError, match="of the base r/x:1 would be in the image twice"):
            repeated(*arguments, "r/x:1")
    else:
        assert repeated(*arguments, "r/x:1") == left_out
