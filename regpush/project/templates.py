"""Fill in placeholders such as `{git_sha}` in tags, references, labels and annotations. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from regpush.errors import UsageError, printable, similar

Values: TypeAlias = Mapping[str, Callable[[], str]]
"""By placeholder name, a function that returns its value, called only if the placeholder is used.

The function raises UsageError if the value is not known.
"""

LONGEST_TAG = 128
"""Maximum characters of a tag (distribution-spec, "Pulling manifests": `<reference>` as a tag)."""

_PIECE = r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+"
_NOT_IN_TAGS = r"[^a-zA-Z0-9._-]+"
_NOT_IN_FRONT = ".-"


def render_tag(template: str, values: Values) -> str:
    """Return the tag that results from filling in the placeholders of `template`.

    `{{` and `}}` give single braces. Characters of a value that a tag must not have become `-`:
    `feature/x` becomes `feature-x`. If the tag would have more than 128 characters, its longest
    value is cut. Text outside placeholders is not checked. Raises UsageError for an unknown
    placeholder, for a single `{` or `}` outside a placeholder, and for a value without any
    character that is permitted in tags.
    """
    pieces: list[str] = []
    filled: list[int] = []
    for found in re.finditer(_PIECE, template):
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
    """Return the reference `template` with the placeholders in its tag filled in.

    Raises UsageError for a placeholder in registry or repository, and the errors of `render_tag`.
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
    """Return `template` with the placeholders named in `values` filled in.

    Other braces stay, because a label may hold JSON or a template of another program. `{{git_sha}}`
    gives the text `{git_sha}`.
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
    close = similar(name, values)
    hint = f"did you mean {{{close}}}? " if close else ""
    known = ", ".join(f"{{{one}}}" for one in values)
    raise UsageError(
        f"unknown placeholder {{{printable(name)}}} in '{printable(template)}'; "
        f"{hint}known placeholders: {known}"
    )


def _for_tag(name: str, value: str, *, at_start: bool) -> str:
    text = re.sub(_NOT_IN_TAGS, "-", value)
    text = text.lstrip(_NOT_IN_FRONT) if at_start else text
    if not text.strip(_NOT_IN_FRONT):
        raise UsageError(
            f"the value '{printable(value)}' of the placeholder {{{name}}} "
            "has no character that is permitted in a tag"
        )
    return text
