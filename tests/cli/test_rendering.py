"""No line that people see is obeyed by a terminal or by the runner of a CI service."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from regpush.cli import rendering
from regpush.cli.access import Voice
from regpush.cli.board import Board
from regpush.cli.colour import Style
from regpush.cli.lines import line, log_line
from regpush.cli.rendering import Renderer, Span
from regpush.events import Decided, Exchanged, Note, TagMoved, TargetResolved, ToolSaid, Warned

HOSTILE = [
    "\x1b]0;owned\x07", "\x1b[2J", "\n::set-output name=ref::x", "::add-mask::x", "  ::error::x",
    "##[add-path]/tmp", "##vso[task.setvariable variable=x]y", "##VSO[x]", "\r", "\t", "\x00",
    "\x7f", "\x85", "\x9b2J", "\u2028", "\u202e", "\ud800", "\xa0::x::", "#", "[", ":", " ", "a",
]  # fmt: skip
strings = st.lists(st.sampled_from(HOSTILE), max_size=8).map("".join) | st.text(max_size=20)


def is_harmless(text: str) -> bool:
    """Whether neither a terminal nor a runner finds a command in `text`, which is one line."""
    return (
        text.isprintable()
        and not re.search(r"##(vso)?\[", text, re.IGNORECASE)
        and not text.strip().startswith("::")
    )


@settings(deadline=None)
@given(st.lists(strings | st.builds(Span, strings, st.sampled_from(Style)), max_size=4))
@example(["##", "[x]"])
@example([Span("#", Style.GOOD), "#", Span("[x]", Style.BAD)])
@example([" ", Span(":", Style.GOOD), ":x::"])
@example(["::" + "x" * 5000])
def test_no_line_is_obeyed(pieces: list[str | Span]) -> None:
    plain = Renderer()(tuple(pieces))
    assert is_harmless(plain)
    assert len(plain) <= rendering.LONGEST + 10
    coloured = Renderer(coloured=True)(tuple(pieces))
    assert re.sub(r"\x1b\[(32|1;31|33|1|2)m(.+?)\x1b\[0m", r"\2", coloured) == plain


@settings(deadline=None)
@given(strings)
def test_no_event_is_obeyed(text: str) -> None:
    board = Board()
    for event in (
        Warned(message=text),
        Note(message=text),
        Decided(message=text),
        ToolSaid(program="nix", line=text),
        TargetResolved(target=text, kind=text, items=1, size=1),
        TagMoved(image=text, tag=text, digest=text, changed=True),
        Exchanged(method="GET", url=text, status=None, sent=0, received=0, seconds=0, failure=text),
    ):
        board.take(event)
        for said in (line(event, board, Voice.REQUESTS), log_line(event, board)):
            assert said is None or is_harmless(Renderer()(said))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain: text", "plain: text"),
        ("a ::b::", "a ::b::"),
        ("::b::", "\\x3a:b::"),
        ("  ::b::", "  \\x3a:b::"),
        ("x ##[y]", "x ##\\x5by]"),
        ("x ##Vso[y]", "x ##Vso\\x5by]"),
        ("a\nb", "a\\nb"),
        ("é 日本", "é 日本"),
        ("x" * 3000, "x" * 1266 + "…" + "x" * 633),
    ],
)
def test_what_is_shown(said: str, shown: str) -> None:
    assert Renderer()(said) == shown
    assert Renderer()(shown) == shown


@settings(deadline=None)
@given(st.recursive(strings, lambda inner: st.lists(inner) | st.dictionaries(strings, inner)))
@example("##[x]")
@example("\x7f##vso[x]")
def test_json_keeps_its_value(value: object) -> None:
    for indent in (None, 0, 1):
        text = rendering.json_text(value, indent=indent)
        assert json.loads(text) == value
        assert all(map(is_harmless, text.split("\n")))
        raw = json.dumps(value, indent=indent, ensure_ascii=False)
        shown = rendering.document(raw.encode("utf-8", "replace"))
        assert json.loads(shown) == json.loads(raw.encode("utf-8", "replace"))
        assert all(map(is_harmless, shown.split("\n")))


@settings(deadline=None)
@given(strings.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=40))
@example(b'{"a":\t1}\r\n{"b": 2}')
@example(b'{"a":\r"##[x]"}')
@example(b"[" * 100_000)
def test_documents_of_others_are_printable(data: bytes) -> None:
    assert all(map(is_harmless, rendering.document(data).split("\n")))


def test_a_document_is_left_as_it_is() -> None:
    said = '{\n  "name": "日本 é",\n  "path": "/a##b[c]"\n}\n'
    assert rendering.document(said.encode()) == said
