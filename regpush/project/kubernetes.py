"""`regpush://…` in Kubernetes manifests: find the references, and replace them with digests.

The parser only tells where strings are. The text between them stays byte for byte, with comments,
order and quotes. YAML of several documents, and JSON, which is a subset of YAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regpush.errors import UsageError, printable

if TYPE_CHECKING:
    from yaml import ScalarToken

SCHEME = "regpush://"

_REFERENCE = re.compile(rf"{SCHEME}([^\s\"'`<>(){{}}\[\],;|\\]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A string with references, at `start:end` of a manifest, the first on `line` (from 1).

    `text` is its value; `quoted`: the source writes it with escapes.
    """

    start: int
    end: int
    line: int
    text: str
    quoted: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the references, in order."""
        return tuple(_REFERENCE.findall(self.text))


def find(manifest: str, where: str) -> tuple[Mention, ...]:
    """Find all references in the strings of `manifest`, in order; comments are ignored.

    `where` names the manifest in messages. Raises UsageError where it has references and is not
    YAML.
    """
    # Half a megabyte of somebody's definitions takes seconds to parse.
    if SCHEME.partition("/")[0] not in manifest:
        return ()
    import yaml  # 15 ms, of manifests that name an app

    try:
        for _ in yaml.parse(manifest, Loader=yaml.SafeLoader):
            pass  # a scanner lets more pass than a parser
        scalars = [
            token
            for token in yaml.scan(manifest, Loader=yaml.SafeLoader)
            if isinstance(token, yaml.ScalarToken) and SCHEME in token.value
        ]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise UsageError(f"{place}: not YAML: {printable(str(error.problem))}") from error
    except (yaml.YAMLError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{where}: not YAML: {printable(reason)}") from error
    mentions: list[Mention] = []
    for scalar in scalars:
        mentions += _mentions(manifest, scalar, where)
    return tuple(mentions)


def replace(manifest: str, mentions: tuple[Mention, ...], images: Mapping[str, str]) -> str:
    """Replace each reference in `manifest` by the image of its name."""
    pieces, at = [], 0
    for mention in mentions:
        text = _REFERENCE.sub(lambda found: images[found[1]], mention.text)
        pieces += [
            manifest[at : mention.start],
            json.dumps(text, ensure_ascii=False) if mention.quoted else text,
        ]
        at = mention.end
    return "".join([*pieces, manifest[at:]])


def _mentions(manifest: str, scalar: ScalarToken, where: str) -> list[Mention]:
    """Find the references of one string, each by itself where the source has no escapes."""
    start, end = scalar.start_mark.index, scalar.end_mark.index
    line, style, value = scalar.start_mark.line + 1, scalar.style, scalar.value
    # The header of a block may have a comment.
    body = manifest.index("\n", start) if style in ("|", ">") else start
    found = [*_REFERENCE.finditer(manifest, body, end)]
    if [one[1] for one in found] == _REFERENCE.findall(value):
        return [
            Mention(
                start=one.start(),
                end=one.end(),
                line=line + manifest.count("\n", start, one.start()),
                text=one[0],
            )
            for one in found
        ]
    if style == '"':
        return [Mention(start=start, end=end, line=line, text=value, quoted=True)]
    raise UsageError(f"{where}:{line}: write the reference on one line, without escapes")
