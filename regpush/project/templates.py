"""Placeholders such as `{git_sha}` in tags, references, labels and annotations. Pure.

Their values are given as functions, each called only where its placeholder is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TypeAlias

from regpush.errors import UsageError, printable

Values: TypeAlias = Mapping[str, Callable[[], str]]
"""A function for the value of each placeholder. It raises UsageError where it cannot tell."""

LONGEST_TAG = 128
"""Distribution-spec, "Pulling manifests": the grammar of `<reference>` as a tag."""

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_NOT_IN_TAGS = re.compile(r"[^a-zA-Z0-9._-]+", re.ASCII)
_NOT_IN_FRONT = ".-"


def render_tag(template: str, values: Values) -> str:
    """Return the tag that `template` describes; `{{` and `}}` are braces.

    Characters of a value that no tag may have are replaced: `feature/x` becomes `feature-x`. Where
    the tag would be too long, the end of its longest value is cut. Text outside placeholders is not
    checked. Raises UsageError for an unknown placeholder, and for a value without any permitted
    character.
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
    """Render the tag of the reference `template`.

    Raises UsageError like `render_tag`, and for a placeholder before the tag.
    """
    name, colon, tag = template.rpartition(":")
    if not colon or "/" in tag:
        name, colon, tag = template, "", ""
    if "{" in name:
        raise UsageError(
            f"bad image reference '{printable(template)}': "
            "placeholders are allowed in the tag alone, after the ':'"
        )
    return f"{name}{colon}{render_tag(tag, values)}"


def render_text(template: str, values: Values) -> str:
    """Replace known placeholders in `template` by their values.

    Everything else stays, because a label may hold JSON or a template of another program.
    `{{git_sha}}` gives the text `{git_sha}`.
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
        raise UsageError(
            f"{{{name}}} is '{printable(value)}', which has no character that a tag may have"
        )
    return text
