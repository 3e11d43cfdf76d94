"""Read the environment variables of a Guix profile from its `etc/profile`, without running it.

Guix writes one line for each variable, in one of three forms (guix/search-paths.scm,
`environment-variable-definition`). In it, `${GUIX_PROFILE:-/gnu/store/…-profile}` stands for the
profile's path (guix/build/profiles.scm).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from regpush.closure import Item, SearchPath, Side
from regpush.entry import Entry, Kind, as_text, image_path
from regpush.files.filesystem import blocks

_EXPORT = re.compile(r'export ([A-Za-z_][A-Za-z0-9_]*)="(.*)"')
_PROFILE = re.compile(r"\$\{GUIX_PROFILE:-([^}]*)\}")
_FILE = b"etc/profile"


def search_paths(profiles: Sequence[Item]) -> tuple[SearchPath, ...]:
    """Return the environment variables that the `profiles` set together.

    Where several profiles set a variable with a list of paths, such as PATH, their values are
    joined in the order of `profiles`; of another variable, the first profile's value is used.
    Raises SourceError where a profile is not on this machine or cannot be read.
    """
    found: dict[str, SearchPath] = {}
    for profile in profiles:
        for one in parse(_text(profile)):
            before = found.get(one.name)
            if before and before.value != one.value and one.side is not Side.EXACT:
                both = f"{before.value}{one.separator}{one.value}"
                found[one.name] = SearchPath(one.name, both, one.side, one.separator)
            else:
                found.setdefault(one.name, one)
    return tuple(found.values())


def parse(text: str) -> Iterator[SearchPath]:
    """Yield the variables that the `text` of a profile's `etc/profile` exports.

    Lines in another form than Guix's are skipped.
    """
    for line in text.splitlines():
        match = _EXPORT.fullmatch(line)
        if not match:
            continue
        name, value = match.groups()
        value = _PROFILE.sub(r"\1", value)
        before = re.fullmatch(rf"(.*)\$\{{{name}:\+(.*)\}}\${name}", value)
        after = re.fullmatch(rf"\${name}\$\{{{name}:\+(.*?)\}}(.*)", value)
        if before:
            yield SearchPath(name, before[1], Side.PREFIX, before[2])
        elif after:
            yield SearchPath(name, after[2], Side.SUFFIX, after[1])
        elif "$" not in value:
            yield SearchPath(name, value, Side.EXACT)


def _text(profile: Item) -> str:
    at = image_path(profile.path) + b"/" + _FILE
    entry = _entry(at, profile.entries())
    if entry is None:
        return ""
    return as_text(b"".join(map(bytes, blocks(entry))))


def _entry(path: bytes, entries: Iterable[Entry]) -> Entry | None:
    return next((e for e in entries if e.path == path and e.kind is Kind.FILE), None)
