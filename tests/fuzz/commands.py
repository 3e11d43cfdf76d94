"""regpush run in this process, thousands of times, and what must hold of each run."""

from __future__ import annotations

import copy
import io
import json
import random
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from regpush.cli.app import run

HOSTILE = (
    "\x1b]0;owned\x07", "linux\n::set-output name=ref::x", "::add-mask::x", "  ::error::x",
    "##[add-path]/tmp", "##vso[task.setvariable variable=x]y", "\r\x00\x7f\x85\x9b2J",
    "\u202e\u2028", "\ud800", "x" * 5000, "../../etc", "/", "", "é日本",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 5, 1 << 70, 1e308, [], {}, [5], ["x"], [None], [[]], {"a": 1},
    {"": ""}, "x", *HOSTILE,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended, and what stood on stdout and stderr."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


def regpush(*words: object, env: Mapping[str, str] | None = None) -> Ended:
    """Run the command line here, as `tests.program.regpush` does in a process of its own."""
    texts = tuple(map(str, words))
    with _captured() as (out, err):
        code = run(texts, {"NO_COLOR": "1", **(env or {})})
    return Ended(words=texts, code=code, stdout=_text(out), stderr=_text(err))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]  # a BytesIO


@contextmanager
def _captured() -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    streams = [
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="")
        for _ in range(2)
    ]
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = streams
    try:
        yield streams[0], streams[1]
    finally:
        sys.stdout, sys.stderr = before


def is_harmless(line: str) -> bool:
    """Whether neither a terminal nor a CI runner finds a command in `line`."""
    return (
        line.isprintable()
        and not re.search(r"##(vso)?\[", line, re.IGNORECASE)
        and not line.strip().startswith("::")
    )


def check(ended: Ended) -> None:
    """Fail where it was a bug of regpush, or where a line would be obeyed."""
    told = f"{ended.words} ended with {ended.code}:\n{ended.stderr}"
    assert ended.code != 1, told
    assert "Traceback" not in ended.stderr, told
    wrong = [one for one in (ended.stdout + ended.stderr).split("\n") if not is_harmless(one)]
    assert not wrong, f"{ended.words}: {wrong[:3]!r}"


def _place(value: Any, chance: random.Random) -> tuple[Any, ...]:
    """Where something stands in `value`, found by going down from the top: seldom deep."""
    path: tuple[Any, ...] = ()
    while isinstance(value, dict | list) and value and (not path or chance.random() < 0.6):
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        path, value = (*path, key), value[key]
    return path


def mutated(document: Any, chance: random.Random) -> Any:
    """`document`, a value of JSON, with one to three of its parts replaced, gone or doubled."""
    made = copy.deepcopy(document)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        place = _place(made, chance)
        if not place:
            return chance.choice(VALUES)
        *path, last = place
        within = made
        for key in path:
            within = within[key]
        match chance.randrange(6):
            case 0:
                del within[last]
            case 1 if isinstance(within, list):
                within.append(copy.deepcopy(within[last]))
            case 1:
                within[chance.choice(HOSTILE)] = within[last]
            case 2 if isinstance(within[last], str):
                within[last] = chance.choice(HOSTILE) + within[last]
            case _:
                within[last] = copy.deepcopy(chance.choice(VALUES))
    return made


def serialized(value: Any, chance: random.Random) -> bytes:
    """JSON of `value`; sometimes cut short, nested without end, or not JSON at all."""
    data = json.dumps(value).encode()
    match chance.randrange(30):
        case 0:
            return data[: chance.randrange(len(data) + 1)]
        case 1:
            return b"[" * 100_000
        case 2:
            return bytes(chance.choices(range(256), k=40)) + data
        case 3:
            return data.replace(b'"', b'"\x00', 1)
        case 4:
            return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return data
