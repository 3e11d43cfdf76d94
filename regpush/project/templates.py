"""Placeholders such as `{git_sha}` in tags, references, labels and annotations: pure.

What they stand for is given as functions, each called only where its placeholder is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TypeAlias

from regpush.errors import UsageError, printable

Values: TypeAlias = Mapping[str, Callable[[], str]]
"""What the placeholders stand for. A function raises UsageError where it cannot tell."""

LONGEST_TAG = 128
"""Distribution-spec, "Pulling manifests": the grammar of `<reference>` as a tag."""

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_NOT_IN_TAGS = re.compile(r"[^a-zA-Z0-9._-]+", re.ASCII)
_NOT_IN_FRONT = ".-"


def render_tag(template: str, values: Values) -> str:
    """The tag that `template` gives; `{{` and `}}` are braces.

    A value becomes part of a tag: `feature/x` is `feature-x`. Where the whole would be longer
    than a tag may be, its longest value is cut at the end. What is not a placeholder stays as
    it is, right or wrong. Raises UsageError for an unknown placeholder, and where nothing of
    a value can stand in a tag.
    """
    pieces: list[str] = []
    filled: list[int] = []
    for found in _PIECE.finditer(template):
        name = found[1]
        if name is not None:
            filled.append(len(pieces))
            pieces.append(_for_tag(name, _value(name, template, values), at_start=not pieces))
        elif found[0] in ("{", "}"):
            raise UsageError(
                f"bad tag '{printable(template)}': a lone '{found[0]}'; "
                "placeholders look like {git_sha}"
            )
        else:
            pieces.append(found[0][:1] if found[0] in ("{{", "}}") else found[0])
    excess = sum(map(len, pieces)) - LONGEST_TAG
    if excess > 0 and filled:
        longest = max(filled, key=lambda index: len(pieces[index]))
        pieces[longest] = pieces[longest][: max(1, len(pieces[longest]) - excess)]
    return "".join(pieces)


def render_reference(template: str, values: Values) -> str:
    """`template` with its tag rendered.

    Raises UsageError as `render_tag` does, and for a placeholder in front of the tag.
    """
    name, colon, tag = template.rpartition(":")
    if not colon or "/" in tag:
        name, colon, tag = template, "", ""
    if "{" in name:
        raise UsageError(
            f"bad image reference '{printable(template)}': "
            "a placeholder can stand in the tag alone, behind the ':'"
        )
    return f"{name}{colon}{render_tag(tag, values)}"


def render_text(template: str, values: Values) -> str:
    """`template` with the placeholders there are replaced by their values as they are.

    All else stays, for a label may hold JSON or a template of somebody else's. `{{git_sha}}`
    is `{git_sha}` itself.
    """
    names = "|".join(map(re.escape, values))
    return re.sub(
        rf"\{{(\{{(?:{names})\}})\}}|\{{({names})\}}",
        lambda found: found[1] or values[found[2]](),
        template,
    )


def _value(name: str, template: str, values: Values) -> str:
    if name in values:
        return values[name]()
    close = get_close_matches(name, values, 1)
    hint = f"did you mean {{{close[0]}}}? " if close else ""
    known = ", ".join(f"{{{one}}}" for one in values)
    raise UsageError(
        f"unknown placeholder {{{printable(name)}}} in '{printable(template)}'; {hint}({known})"
    )


def _for_tag(name: str, value: str, *, at_start: bool) -> str:
    text = _NOT_IN_TAGS.sub("-", value)
    text = text.lstrip(_NOT_IN_FRONT) if at_start else text
    if not text.strip(_NOT_IN_FRONT):
        raise UsageError(f"{{{name}}} is '{printable(value)}', of which nothing can be in a tag")
    return text
