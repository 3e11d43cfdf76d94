"""Owners and modes that the user gives to paths in the image, by pattern.

The rules apply after a source has normalised its entries. The pattern and an item's path tell
whether a rule can match anything in the item: a store item that no rule can reach keeps its
identity and layer, and is not opened; for an item that a rule can reach, the rule becomes part of
the identity. The identity of a directory's item is computed from its entries after the rules.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import posixpath
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from regpush.closure import Closure, Item, Role
from regpush.entry import Entry, Kind, as_text, image_path
from regpush.errors import UsageError, printable

_ANY = "**"
_OWNER = r"([0-9]{1,10})(?::([0-9]{1,10}))?"
_MODE = r"0?[0-7]{3,4}"
_LAST_ID = 2**32 - 2  # the one above means "leave it" to chown(2)


class Rule(Struct, frozen=True):
    """Gives `owner` (uid and gid) or `mode` to the paths that `pattern` matches; the other is None.

    A pattern is matched against whole paths in the image: `*`, `?` and `[…]` match within a name,
    `**` matches any number of names, also none. A relative pattern starts at the target; an empty
    one matches everything in it.
    """

    pattern: str
    owner: tuple[int, int] | None = None
    mode: int | None = None

    @classmethod
    def chown(cls, text: str) -> Self:
        """Read `PATTERN=UID:GID`, or `UID:GID` for everything. Raises UsageError for other text."""
        pattern, equals, said = text.rpartition("=")
        match = re.fullmatch(_OWNER, said)
        owner = (int(match[1]), int(match[2] or match[1])) if match else (_LAST_ID + 1, 0)
        if max(owner) > _LAST_ID or bool(equals) != bool(pattern):
            raise _bad("--chown", text, "/app/data/**=1000:1000, or 1000:1000 for everything")
        return cls(_checked("--chown", text, pattern), owner=owner)

    @classmethod
    def chmod(cls, text: str) -> Self:
        """Read `PATTERN=MODE`, with an octal number. Raises UsageError for other text."""
        pattern, _, mode = text.rpartition("=")
        if not pattern or not re.fullmatch(_MODE, mode):
            raise _bad("--chmod", text, "/app/bin/*=0755")
        return cls(_checked("--chmod", text, pattern), mode=int(mode, 8))

    def __str__(self) -> str:
        if self.owner:
            return f"--chown {self.pattern}={self.owner[0]}:{self.owner[1]}"
        return f"--chmod {self.pattern}={self.mode:04o}"


def _bad(flag: str, text: str, such_as: str) -> UsageError:
    return UsageError(f"bad {flag} '{printable(text)}': expected one such as {such_as}")


def _checked(flag: str, text: str, pattern: str) -> str:
    parts = pattern.removeprefix("/").split("/")
    if pattern and ({"", ".", ".."} & set(parts) or "\0" in pattern):
        raise UsageError(
            f"bad {flag} '{printable(text)}': a pattern is a path without '..', empty names or "
            "a slash at its end"
        )
    return pattern


class Rules:
    """Applies rules to the items of one closure, and records which rules have matched.

    Where several rules match a path, the last one wins.
    """

    def __init__(self, rules: Sequence[Rule], closure: Closure) -> None:
        self._rules = [_PlacedRule(rule, closure) for rule in rules]

    def apply(self, closure: Closure) -> Closure:
        """Return `closure` with the rules applied to all items but generated ones.

        Generated items get their owners and modes when they are made.
        """
        if not self._rules:
            return closure
        items = (one if one.role is Role.GENERATED else self._ruled(one) for one in closure.items)
        return dataclasses.replace(closure, items=tuple(items))

    def adjust(self, entry: Entry) -> Entry:
        """Return `entry` with the owner and mode that the rules state.

        The rules that match are recorded. A further name of a hard-linked file follows its first
        name, since both are one file.
        """
        name = entry.link if entry.kind is Kind.HARDLINK else entry.path
        for rule in self._rules:
            if rule.matches(name):
                rule.seen = True
                entry = rule.adjust(entry)
        return entry

    def parents(self, parents: Sequence[Entry], path: bytes) -> tuple[Entry, ...]:
        """Return the entries of the directories above `path`, with the rules applied.

        These are the known ones in `parents`, and further ones that a rule matches.
        """
        known = {entry.path: entry for entry in parents}
        while path := path.rpartition(b"/")[0]:
            plain = Entry(path=path, kind=Kind.DIRECTORY, mode=0o755)
            if path not in known and self.adjust(plain) != plain:
                known[path] = plain
        return tuple(self.adjust(known[path]) for path in sorted(known))

    def unused(self) -> list[str]:
        """Return, as flags, the rules that matched nothing in the items that were opened.

        A rule that might match in an item that was not opened is left out: see
        `_PlacedRule.unread`.
        """
        return [str(rule.asked) for rule in self._rules if not rule.seen and not rule.unread]

    def _ruled(self, item: Item) -> Item:
        """Return `item` with the rules applied, if any of them can reach it."""
        reaching = [rule for rule in self._rules if item.is_listed or rule.reaches(item.home)]
        if not reaching:
            return item
        made = dataclasses.replace(
            item,
            parents=self.parents(item.parents, image_path(item.path)),
            entries=self._watched(item.path, item.entries, reaching),
        )
        if item.identity and not item.is_listed:
            rules = [str(rule.rule) for rule in reaching]
            return dataclasses.replace(made, identity=item.identity.ruled(rules))
        # A directory's entries are listed already, so an unused rule is found before packing.
        deque(made.entries(), maxlen=0)
        return made

    def _watched(
        self, path: str, entries: Callable[[], Iterator[Entry]], reaching: Collection[_PlacedRule]
    ) -> Callable[[], Iterator[Entry]]:
        for rule in reaching:
            rule.unread.add(path)

        def opened() -> Iterator[Entry]:
            yield from map(self.adjust, entries())
            for rule in reaching:
                rule.unread.discard(path)

        return opened


class _PlacedRule:
    """A rule with its pattern made absolute; `asked`: the rule as the user gave it.

    `seen`: whether it matched something. `unread`: paths of items that it might match in, and that
    were not opened.
    """

    def __init__(self, rule: Rule, closure: Closure) -> None:
        root = closure.roots[0]
        top = posixpath.dirname(root) if closure[root].in_store else root
        whole, pattern = (root, rule.pattern) if rule.pattern else (top, _ANY)
        self.asked = rule
        self.rule = replace(rule, pattern=posixpath.join(glob.escape(whole), pattern))
        self.seen = False
        self.unread: set[str] = set()
        names = self.rule.pattern.split("/")[1:]
        self._names = [
            None if name == _ANY else re.compile(fnmatch.translate(name)) for name in names
        ]
        self._end = len(names)
        self._after_folder = lru_cache(256)(self._after)

    def adjust(self, entry: Entry) -> Entry:
        """Return `entry` with the rule applied.

        A symbolic link keeps its mode, which no system uses.
        """
        if self.rule.owner:
            return entry._replace(uid=self.rule.owner[0], gid=self.rule.owner[1])
        if self.rule.mode is not None and entry.kind is not Kind.SYMLINK:
            return entry._replace(mode=self.rule.mode)
        return entry

    def matches(self, path: bytes) -> bool:
        """Whether the pattern matches `path`, which has no slashes around it."""
        folder, _, name = path.rpartition(b"/")
        return self._end in self._next(self._after_folder(folder), as_text(name))

    def reaches(self, path: str) -> bool:
        """Whether the rule can match the item at `path`, something in it, or a folder above it."""
        states = self._skipped({0})
        for name in path.strip("/").split("/"):
            states = self._next(states, name)
            if self._end in states:
                return True
        return bool(states)

    def _after(self, folder: bytes) -> frozenset[int]:
        """Return the states of the pattern after the names of `folder`, one for each way to match.

        A state is the number of names of the pattern that are used up.
        """
        above, _, name = folder.rpartition(b"/")
        if not folder:
            return self._skipped({0})
        return self._next(self._after_folder(above), as_text(name))

    def _next(self, states: frozenset[int], name: str) -> frozenset[int]:
        found = set()
        for state in states - {self._end}:
            pattern = self._names[state]
            if pattern is None:
                found.add(state)
            elif pattern.match(name):
                found.add(state + 1)
        return self._skipped(found)

    def _skipped(self, states: set[int]) -> frozenset[int]:
        """Return `states`, with those added that are reached when `**` matches no name."""
        for state in range(self._end):
            if state in states and self._names[state] is None:
                states.add(state + 1)
        return frozenset(states)
