"""The config field `dev.regpush.layout`: what an image remembers, as compact JSON.

    {"version": 1, "serial": 12,
     "items": "…",                      # keys, 12 bytes each, those of this image first
     "layers": [3, 1, …],               # how many of them each layer has, bottom first
     "names": "…", "of": "…",           # names, 5 bytes each, and the habit of each, 2 bytes
     "habits": [[5, 9], …],             # changes (a bit for each push) and pushes
     "older": [{"items": [4, 70], "blob": {…}}, …],   # layers that this image has not
     "earlier": [[11, [0, 1, 65]], …]}  # layouts: serial, layers of this image and older ones

Byte strings are in base64. Nothing is compressed: two machines write the same bytes.
Anybody who may push to the repository can write this field, so reading checks every number.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from regpush.digest import Descriptor, Digest
from regpush.errors import VerificationError
from regpush.image.image import LAYOUT, LAYOUT_FROM, Image, Layer, Learned
from regpush.layering.memory import (
    KEY_BYTES,
    LAYOUTS,
    NAME_BYTES,
    WINDOW,
    Habit,
    Key,
    Laid,
    Layout,
    Memory,
    Name,
)

VERSION = 1
LIMIT = 512 << 10
"""Bytes of the field at most: every push and every pull carries it."""

_HABIT_BYTES = 2
_HABITS = 1 << 8 * _HABIT_BYTES
_LATEST_SERIAL = 1 << 53  # what any reader of JSON can hold
_READ_FROM = 8  # digests of an annotation that are read


class Carried(Struct, frozen=True, kw_only=True):
    """The records in an image: its memory, and all its layers by the digest of their blobs.

    `learned`: the bytes of the field in the image, None without one.
    """

    memory: Memory
    blobs: Mapping[Digest, Layer]
    learned: Learned | None


class Written(Struct, frozen=True, kw_only=True):
    """A memory in the form for an image, and the parts that exceeded the limit.

    `forgotten`: the number of earlier layouts left out. `habits`: whether the habits fit. `learned`
    is None if not even the image's own layout fits.
    """

    learned: Learned | None
    forgotten: int
    habits: bool


def write(memory: Memory, blobs: Mapping[Digest, Layer]) -> Written:
    """Serialise `memory` within `LIMIT` bytes.

    What does not fit is left out: the oldest layouts first, then the habits.
    """
    most = len(memory.layouts)
    attempts = [*((count, memory.habits) for count in range(most, 0, -1)), (1, {})]
    for count, habits in attempts:
        value = _value(memory.layouts[:count], habits, blobs)
        if len(json.dumps(value, separators=(",", ":"))) <= LIMIT:
            kept = bool(habits) or not memory.habits
            learned = Learned(layout=value, read=memory.read)
            return Written(learned=learned, forgotten=most - count, habits=kept)
    return Written(learned=None, forgotten=most, habits=False)


def _value(
    layouts: Sequence[Layout], habits: Mapping[Name, Habit], blobs: Mapping[Digest, Layer]
) -> dict[str, Any]:
    own, earlier = layouts[0], layouts[1:]
    pool = {layer.keys: number for number, layer in enumerate(own.layers)}
    older: list[Laid] = []
    for layout in earlier:
        for layer in layout.layers:
            if layer.keys not in pool:
                pool[layer.keys] = len(own.layers) + len(older)
                older.append(layer)
    table: dict[Key, int] = {}
    for layer in (*own.layers, *older):
        for key in sorted(layer.keys):
            table.setdefault(key, len(table))
    palette = sorted(set(habits.values()), key=lambda habit: (habit.pushes, habit.changes))
    number = {habit: index for index, habit in enumerate(palette)}
    if len(palette) > _HABITS:
        habits, palette = {}, []
    return {
        "version": VERSION,
        "serial": own.serial,
        "items": _text(b"".join(table)),
        "layers": [len(layer.keys) for layer in own.layers],
        "names": _text(b"".join(sorted(habits))),
        "of": _text(
            b"".join(number[habits[name]].to_bytes(_HABIT_BYTES) for name in sorted(habits))
        ),
        "habits": [[habit.changes, habit.pushes] for habit in palette],
        "older": [
            {"items": sorted(table[key] for key in layer.keys), "blob": _blob(layer, blobs)}
            for layer in older
        ],
        "earlier": [
            [layout.serial, [pool[layer.keys] for layer in layout.layers]] for layout in earlier
        ],
    }


def _blob(layer: Laid, blobs: Mapping[Digest, Layer]) -> dict[str, Any] | None:
    known = blobs.get(layer.blob) if layer.blob else None
    if known is None:
        return None
    return {
        "descriptor": replace(known.descriptor, annotations=()).to_json(),
        "diff_id": str(known.diff_id),
        "size": known.uncompressed_size,
        "recipe": str(known.recipe) if known.recipe else None,
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read(image: Image) -> Carried | None:
    """Read the memory in `image`; None if the image has no such field.

    Raises VerificationError where the field is damaged or of another version.
    """
    field = json.loads(image.config).get(LAYOUT)
    if field is None:
        return None
    if not isinstance(field, dict):
        _bad("it is not a JSON object")
    if field.get("version") != VERSION:
        _bad(f"its version is {str(field.get('version'))[:20]}, this program knows {VERSION}")
    keys = _pieces(field, "items", KEY_BYTES)
    counts = [_number(count, 1, len(keys)) for count in _list(field, "layers")]
    if sum(counts) > len(keys) or len(counts) > len(image.layers):
        _bad("its layers are not those of the image")
    # The layers of a base lie below, and the field does not describe them.
    layers = image.layers[len(image.layers) - len(counts) :]
    blobs = {layer.descriptor.digest: layer for layer in layers}
    bounds = pairwise(accumulate(counts, initial=0))
    own = [
        Laid(frozenset(keys[start:end]), layer.descriptor.digest)
        for (start, end), layer in zip(bounds, layers, strict=True)
    ]
    pool = list(own)
    for laid, layer in _older(_list(field, "older"), keys):
        pool.append(laid)
        if layer:
            blobs.setdefault(layer.descriptor.digest, layer)
    serial = _number(field.get("serial"), 0, _LATEST_SERIAL)
    earlier = [_earlier(entry, pool) for entry in _list(field, "earlier")[: LAYOUTS - 1]]
    read_from = read_of(image.manifest)
    return Carried(
        memory=Memory(
            layouts=(Layout(serial=serial, layers=tuple(own)), *earlier),
            habits=_habits(field),
            read=read_from,
            manifest=image.descriptor.digest,
        ),
        blobs=blobs,
        learned=Learned(layout=field, read=read_from),
    )


def read_of(manifest: bytes) -> tuple[Digest, ...]:
    """Read from an image's manifest the digests of the manifests that its plan used.

    They remain when the config of the image is lost. Empty if the manifest is malformed or states
    no such digests.
    """
    try:
        head = json.loads(manifest)
    except (ValueError, RecursionError):
        return ()
    annotations = head.get("annotations") if isinstance(head, Mapping) else None
    said = annotations.get(LAYOUT_FROM) if isinstance(annotations, Mapping) else None
    found = []
    for text in (said if isinstance(said, str) else "").split()[:_READ_FROM]:
        try:
            found.append(Digest.parse(text))
        except VerificationError:
            return ()
    return tuple(found)


def _older(entries: Sequence[Any], keys: Sequence[Key]) -> Iterator[tuple[Laid, Layer | None]]:
    for entry in entries:
        if not isinstance(entry, dict):
            _bad("an older layer is not a JSON object")
        numbers = [_number(number, 0, len(keys) - 1) for number in _list(entry, "items")]
        said = entry.get("blob")
        layer = None if said is None else _layer(said)
        members = frozenset(keys[number] for number in numbers)
        yield Laid(members, layer.descriptor.digest if layer else None), layer


def _layer(said: object) -> Layer:
    if not isinstance(said, dict):
        _bad("a blob is not a JSON object")
    size, recipe = said.get("size"), said.get("recipe")
    return Layer(
        descriptor=replace(Descriptor.from_json(said.get("descriptor")), annotations=()),
        diff_id=Digest.parse(said.get("diff_id")),
        uncompressed_size=None if size is None else _number(size, 0, 1 << 62),
        recipe=None if recipe is None else Digest.parse(recipe),
    )


def _earlier(entry: object, pool: Sequence[Laid]) -> Layout:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], list):
        _bad("an earlier layout is not a serial number and a list of layers")
    layers = tuple(pool[_number(number, 0, len(pool) - 1)] for number in entry[1][: len(pool)])
    seen: set[Key] = set()
    for layer in layers:
        if seen & layer.keys:
            _bad("an item is in two layers")
        seen |= layer.keys
    return Layout(serial=_number(entry[0], 0, _LATEST_SERIAL), layers=layers)


def _habits(field: Mapping[str, Any]) -> dict[Name, Habit]:
    palette = []
    for entry in _list(field, "habits"):
        if not isinstance(entry, list) or len(entry) != 2:
            _bad("a habit is not two numbers")
        pushes = _number(entry[1], 0, WINDOW)
        palette.append(Habit(_number(entry[0], 0, (1 << pushes) - 1), pushes))
    names = _pieces(field, "names", NAME_BYTES)
    numbers = [int.from_bytes(piece) for piece in _pieces(field, "of", _HABIT_BYTES, again=True)]
    if len(names) != len(numbers) or any(number >= len(palette) for number in numbers):
        _bad("its names and habits do not pair")
    return {name: palette[number] for name, number in zip(names, numbers, strict=True)}


def _pieces(field: Mapping[str, Any], key: str, length: int, *, again: bool = False) -> list[bytes]:
    """Cut the byte string `key` into pieces of `length`, which may repeat only with `again`."""
    text = field.get(key)
    try:
        data = base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except ValueError as error:
        raise VerificationError(f"the layout history is damaged: bad '{key}'") from error
    pieces = [data[start : start + length] for start in range(0, len(data), length)]
    if len(data) % length or (not again and len(set(pieces)) < len(pieces)):
        _bad(f"bad '{key}'")
    return pieces


def _list(field: Mapping[str, Any], key: str) -> list[Any]:
    found = field.get(key)
    if not isinstance(found, list):
        _bad(f"'{key}' is not a list")
    return found


def _number(value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        _bad("a number is out of its range")
    return value


def _bad(why: str) -> NoReturn:
    raise VerificationError(f"the layout history is damaged: {why}")
