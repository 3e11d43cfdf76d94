"""The history in an image: written, read again, damaged, too large."""

import copy
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from regpush.digest import OCI_LAYER_GZIP, Descriptor, Digest
from regpush.errors import VerificationError
from regpush.history import layout
from regpush.image.image import LAYOUT, Image, Layer, Learned, build
from regpush.layering.memory import Habit, Laid, Layout, Memory
from regpush.options import ImageOptions
from regpush.platform import Platform


def key(number: int) -> bytes:
    return number.to_bytes(12)


def name(number: int) -> bytes:
    return number.to_bytes(5)


def blob(text: str) -> Layer:
    data = text.encode()
    return Layer(
        descriptor=Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(data), size=len(data)),
        diff_id=Digest.of(b"diff" + data),
        uncompressed_size=3 * len(data),
        recipe=Digest.of(b"recipe" + data),
    )


BLOBS = {one.descriptor.digest: one for one in map(blob, ["a", "b", "c", "old"])}
A, B, C, OLD = BLOBS
LAYOUTS = (
    Layout(serial=7, layers=(Laid(frozenset({key(1), key(2)}), A), Laid(frozenset({key(3)}), B))),
    Layout(serial=6, layers=(Laid(frozenset({key(1), key(2)}), A), Laid(frozenset({key(9)}), OLD))),
    Layout(serial=3, layers=(Laid(frozenset({key(9), key(2)}), C),)),
)
HABITS = {name(1): Habit(0b101, 3), name(2): Habit(), name(3): Habit(0, 32)}
READ = (Digest.of(b"one"), Digest.of(b"two"))


def image(learned: Learned | None, layers=(A, B)) -> Image:
    return build(
        [BLOBS[digest] for digest in layers],
        ImageOptions(),
        Platform("linux", "amd64"),
        recipe_version=1,
        learned=learned,
    )


def written(memory: Memory) -> Learned:
    learned = layout.write(memory, BLOBS).learned
    assert learned
    return learned


def test_what_is_written_is_read_again():
    memory = Memory(layouts=LAYOUTS, habits=HABITS, read=READ)
    made = image(written(memory))
    carried = layout.read(Image.parse(made.manifest, made.config))
    assert carried
    assert carried.memory == replace(memory, manifest=made.descriptor.digest)
    assert carried.learned == written(memory)
    assert carried.blobs.keys() == BLOBS.keys()
    assert carried.blobs[OLD] == BLOBS[OLD]
    assert layout.read_of(made.manifest) == READ


def test_what_is_read_is_written_again_byte_for_byte():
    made = image(written(Memory(layouts=LAYOUTS, habits=HABITS, read=READ)))
    carried = layout.read(made)
    assert carried
    again = layout.write(carried.memory, carried.blobs)
    assert again == layout.Written(learned=carried.learned, forgotten=0, habits=True)


def test_an_image_of_another_strategy_carries_nothing():
    assert layout.read(image(None)) is None
    assert layout.read_of(image(None).manifest) == ()


# Golden vector: images already pushed carry this. A change of format is another version.
GOLDEN = {
    "version": 1,
    "serial": 7,
    "items": "AAAAAAAAAAAAAAABAAAAAAAAAAAAAAACAAAAAAAAAAAAAAADAAAAAAAAAAAAAAAJ",
    "layers": [2, 1],
    "names": "AAAAAAEAAAAAAgAAAAAD",
    "of": "AAEAAAAC",
    "habits": [[0, 0], [5, 3], [0, 32]],
    "earlier": [[6, [0, 2]], [3, [3]]],
}


def test_golden():
    learned = written(Memory(layouts=LAYOUTS, habits=HABITS)).layout
    assert {key: value for key, value in learned.items() if key != "older"} == GOLDEN
    assert [layer["items"] for layer in learned["older"]] == [[3], [1, 3]]
    assert learned["older"][0]["blob"]["diff_id"] == str(BLOBS[OLD].diff_id)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("version", 2, "its version is 2, this program knows 1"),
        ("version", "1" * 100, "its version is 1{20}, this"),
        ("version", None, "version is None"),
        ("serial", -1, "out of its range"),
        ("serial", 1 << 60, "out of its range"),
        ("serial", True, "out of its range"),
        ("items", "AAA", "bad 'items'"),
        ("items", "****", "bad 'items'"),
        ("items", GOLDEN["items"] * 2, "bad 'items'"),
        ("items", 5, "bad 'items'"),
        ("layers", [2, 1, 1], "not those of the image"),
        ("layers", [4, 1], "not those of the image"),
        ("layers", [0, 1], "out of its range"),
        ("layers", [1 << 70], "out of its range"),
        ("layers", {}, "'layers' is not a list"),
        ("names", "AAAAAAE=", "do not pair"),
        ("of", "AAEAAAAJ", "do not pair"),
        ("habits", [[8, 3], [0, 0], [0, 0]], "out of its range"),
        ("habits", [[0, 33], [0, 0], [0, 0]], "out of its range"),
        ("habits", [[0], [0, 0], [0, 0]], "not two numbers"),
        ("older", [{"items": [99], "blob": None}], "out of its range"),
        ("older", ["x"], "not a JSON object"),
        ("older", [{"items": [0], "blob": 7}], "not a JSON object"),
        ("older", [{"items": [0], "blob": {"descriptor": {}}}], "mediaType"),
        ("earlier", [[6, [9]]], "out of its range"),
        ("earlier", [[6]], "serial number and a list"),
        ("earlier", [[6, [2, 3]]], "in two layers"),
    ],
)
def test_damage_is_told(field, value, complaint):
    learned = written(Memory(layouts=LAYOUTS, habits=HABITS))
    damaged = replace(learned, layout={**learned.layout, field: value})
    with pytest.raises(VerificationError, match=complaint):
        layout.read(image(damaged))


@pytest.mark.parametrize("field", [5, [], "x", {"version": 1}])
def test_a_field_that_is_something_else(field):
    with pytest.raises(VerificationError, match="damaged"):
        layout.read(image(Learned(layout=field, read=())))


@settings(deadline=None)
@given(chance=st.randoms(use_true_random=False))
def test_no_damage_is_a_crash(chance):
    """Whatever is changed in the field, it is read or refused."""
    value = copy.deepcopy(dict(written(Memory(layouts=LAYOUTS, habits=HABITS)).layout))
    for _ in range(chance.randrange(1, 4)):
        holder, place = chance.choice(list(_places(value)))
        holder[place] = chance.choice([None, -1, 3, 1 << 80, 0.5, "", "AAAA", [], [[]], {}, True])
    try:
        carried = layout.read(image(Learned(layout=value, read=())))
    except VerificationError:
        return
    assert carried
    assert len(carried.memory.layouts) <= 4
    layout.write(carried.memory, carried.blobs)


def _places(value):
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
    for place, inner in pairs:
        yield value, place
        if isinstance(inner, dict | list):
            yield from _places(inner)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (f"{READ[0]} {READ[1]}", READ),
        (f"{READ[0]} sha256:xyz", ()),
        ("", ()),
        (" ".join(str(Digest.of(bytes([n]))) for n in range(40)), None),
    ],
)
def test_the_manifests_that_an_image_names(said, read):
    manifest = json.dumps({"annotations": {"dev.regpush.layout-from": said}}).encode()
    got = layout.read_of(manifest)
    assert got == read if read is not None else len(got) == 8


@pytest.mark.parametrize("manifest", [b"", b"[]", b"5", b'{"annotations": []}', b"\xff"])
def test_a_manifest_that_is_none_names_nothing(manifest):
    assert layout.read_of(manifest) == ()


def large(items: int, layouts: int, changed: int) -> Memory:
    """A memory of `items`, of which every earlier layout has `changed` others."""
    keys = [random.Random(number).randbytes(12) for number in range(items)]
    made = []
    for serial in range(layouts, 0, -1):
        others = {number: random.Random(-serial * items - number).randbytes(12)
                  for number in range(changed)} if serial < layouts else {}  # fmt: skip
        own = [others.get(number, one) for number, one in enumerate(keys)]
        layers = tuple(Laid(frozenset(own[start::50])) for start in range(50))
        made.append(Layout(serial=serial, layers=layers))
    habits = {number.to_bytes(5): Habit(number % 7, 9) for number in range(items)}
    return Memory(layouts=tuple(made), habits=habits)


@pytest.mark.parametrize(
    ("items", "changed", "forgotten", "habits", "carried"),
    [
        (4_000, 4_000, 0, True, True),
        (10_000, 10_000, 2, True, True),
        (20_000, 20_000, 3, True, True),
        (26_000, 10, 3, False, True),
        (40_000, 10, 4, False, False),
    ],
)
def test_the_oldest_is_left_out_first_then_the_habits(items, changed, forgotten, habits, carried):
    memory = large(items, 4, changed)
    got = layout.write(memory, {})
    assert (got.forgotten, got.habits, got.learned is not None) == (forgotten, habits, carried)
    if got.learned:
        assert len(json.dumps(got.learned.layout, separators=(",", ":"))) <= 512 << 10
        assert [entry[0] for entry in got.learned.layout["earlier"]] == [3, 2, 1][: 3 - forgotten]


def test_the_field_stands_in_the_config_and_nowhere_else():
    made = image(written(Memory(layouts=LAYOUTS, habits=HABITS, read=READ)))
    plain = image(None)
    config, other = json.loads(made.config), json.loads(plain.config)
    assert config.pop(LAYOUT)
    assert config == other
    assert json.loads(made.manifest)["layers"] == json.loads(plain.manifest)["layers"]
