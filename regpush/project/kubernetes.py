"""Find references `regpush://NAME` in Kubernetes manifests, and replace them with image digests.

Manifests are YAML of one or several documents, or JSON, a subset of YAML. Only the references
change; all other text stays byte for byte, with comments, order and quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from regpush.errors import UsageError, printable

if TYPE_CHECKING:
    from yaml import ScalarToken

SCHEME = "regpush://"

_REFERENCE = re.compile(rf"{SCHEME}([^\s\"'`<>(){{}}\[\],;|\\]+)")


class Mention(Struct, frozen=True, kw_only=True):
    """A piece `manifest[start:end]` with one or more references `regpush://NAME`.

    `line`: the line of the first reference, from 1. `text`: the piece without YAML escapes.
    `quoted`: the piece is a double-quoted YAML string with escapes.
    """

    start: int
    end: int
    line: int
    text: str
    quoted: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The NAME of each reference `regpush://NAME` in `text`, in order."""
        return tuple(_REFERENCE.findall(self.text))


def find(manifest: str, where: str) -> tuple[Mention, ...]:
    """Find all references `regpush://NAME` in the YAML text `manifest`, in order.

    Empty if there are none. References in comments are ignored. `where`: the manifest's name in
    messages. Raises UsageError if `manifest` contains `regpush:` and is not YAML.
    """
    # A manifest without references is not parsed: half a megabyte of definitions takes seconds.
    if SCHEME.partition("/")[0] not in manifest:
        return ()
    import yaml  # takes 15 ms, so it is imported only for manifests with references

    try:
        for _ in yaml.parse(manifest, Loader=yaml.SafeLoader):
            pass  # the parser rejects malformed YAML that the scanner below accepts
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
    """Return `manifest` with each reference `regpush://NAME` replaced by `images[NAME]`."""
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
    """Return the mentions in one YAML string `scalar`: one for each reference.

    A double-quoted string with escapes inside a reference is one mention. Raises UsageError for a
    reference that is folded over several lines.
    """
    start, end = scalar.start_mark.index, scalar.end_mark.index
    line, style, value = scalar.start_mark.line + 1, scalar.style, scalar.value
    # The first line of a block scalar, such as `|  # comment`, is not part of the string.
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
    raise UsageError(
        f"{where}:{line}: a {SCHEME} reference is split over lines or escaped; write it on one line"
    )
