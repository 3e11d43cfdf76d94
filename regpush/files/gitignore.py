"""Matches paths against gitignore patterns like git: level by level, and the last match wins.

Two automata run side by side over all patterns at once, as bits of integers (Navarro and Raffinot,
Flexible Pattern Matching in Strings, 4.5): one over the bytes of a name, which tells the parts of
patterns that match the name, and one over the names of a path. So for given patterns the time is
linear in the path, however many stars they have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from regpush.files.glob import Mark, NeverMatchesError, Token, literal, tokens

_SPECIAL = b"*?[\\"
_CACHED_BITS = 1 << 28  # 32 MiB of results by name


class _Rule(NamedTuple):
    """One pattern: `names` has, for each name of a path, the tokens that the name must match.

    `gaps`: positions between names at which any further names may be. `only_folders`: whether the
    pattern ends in `/`.
    """

    names: tuple[tuple[Token, ...], ...]
    gaps: frozenset[int]
    negated: bool
    only_folders: bool


class Useless(NamedTuple):
    """A `pattern` that is allowed but can match no path; `why`: the reason, for messages."""

    pattern: bytes
    why: str


class Patterns:
    """The compiled patterns of an ignore file.

    The state of a folder is a set of bits: how far its path matches each pattern. `root` is the
    state of the directory itself; `below` computes the state of a name from that of its folder.
    `useless`: the patterns that can match no path.
    """

    def __init__(self, rules: Sequence[_Rule], useless: Sequence[Useless]) -> None:
        self.useless = tuple(useless)
        self._parts = _Parts()
        starts: list[int] = []
        gaps: list[int] = []
        ends: list[int] = []
        folder_ends: list[int] = []
        self._negated = set[int]()
        bit = 0
        for rule in rules:
            starts.append(bit)
            gaps += [bit + gap for gap in rule.gaps]
            for number, name in enumerate(rule.names, 1):
                self._parts.add(name, bit + number)
            bit += len(rule.names)
            (folder_ends if rule.only_folders else ends).append(bit)
            if rule.negated:
                self._negated.add(bit + 1)
            bit += 1
        self._parts.close(bit)
        self.root = _bits(starts)
        self._gaps = _bits(gaps)
        self._ends = _bits(ends)
        self._folder_ends = self._ends | _bits(folder_ends)

    def below(self, folder: int, name: bytes) -> int:
        """Return the state of `name` in a folder whose state is `folder`."""
        return (folder << 1) & self._parts.of(name) | folder & self._gaps

    def match_folder(self, state: int) -> bool:
        """Whether a folder of this state is left out, by the last pattern that matches it."""
        return self._decided((state & self._folder_ends).bit_length())

    def match_file(self, state: int) -> bool:
        """Whether a file or link of this state is left out, by the last pattern that matches it."""
        return self._decided((state & self._ends).bit_length())

    def match(self, path: bytes) -> bool:
        """Whether the file at `path` is left out, by itself or with a folder above it."""
        state = self.root
        *folders, name = path.split(b"/")
        for folder in folders:
            state = self.below(state, folder)
            if self.match_folder(state):
                return True
        return self.match_file(self.below(state, name))

    def brings_back(self, path: bytes) -> bool:
        """Whether the file at `path` is kept because its last matching pattern begins with `!`."""
        state = self.root
        for name in path.split(b"/"):
            state = self.below(state, name)
        return (state & self._ends).bit_length() in self._negated

    def _decided(self, last: int) -> bool:
        return last > 0 and last not in self._negated


class Trail:
    """Gives the states of folders that are visited in the order of a walk.

    Matches each name once.
    """

    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns
        self._names: list[bytes] = []
        self._states = [patterns.root]

    def state(self, folder: bytes) -> int:
        """Return the state of `folder`, for `Patterns.below`; an empty path is the root.

        A state is a set of bits: how far the names of the path match each pattern.
        """
        names = folder.split(b"/") if folder else []
        common = 0
        for one, other in zip(names, self._names, strict=False):
            if one != other:
                break
            common += 1
        del self._states[common + 1 :]
        for name in names[common:]:
            self._states.append(self._patterns.below(self._states[-1], name))
        self._names = names
        return self._states[-1]


def parse(data: bytes, *, check: Callable[[], None] = lambda: None) -> Patterns:
    """Parse an ignore file, whose lines are read like git reads them.

    Patterns may contain any bytes. `check` is called for each line, and stops by raising.
    """
    rules: list[_Rule] = []
    useless: list[Useless] = []
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        check()
        if not line or line.startswith(b"#"):
            continue
        # git's lines are C strings: they end at a NUL.
        text = line.removesuffix(b"\r").partition(b"\0")[0]
        pattern = _without_trailing_spaces(text)
        if not pattern:
            continue
        try:
            rules += _rules(pattern)
        except NeverMatchesError as error:
            useless.append(Useless(pattern, str(error)))
    return Patterns(rules, useless)


def _without_trailing_spaces(line: bytes) -> bytes:
    """Return `line` without the spaces at its end, except one that a backslash precedes."""
    kept = line.rstrip(b" ")
    backslashes = len(kept) - len(kept.rstrip(b"\\"))
    return line[: len(kept) + 1] if backslashes % 2 else kept


def _rules(pattern: bytes) -> Iterator[_Rule]:
    """Translate one pattern into the rules that it stands for. Raises NeverMatchesError."""
    negated = pattern.startswith(b"!")
    text = pattern[negated:]
    only_folders = text.endswith(b"/")
    text = text.removesuffix(b"/")
    if b"/" not in text:
        found = tokens(text)
        # Without a slash in the pattern, `**` is between no names and means `*`.
        name = tuple(Mark.STAR if token is Mark.REST else token for token in found)
        if not name:
            raise NeverMatchesError("it names nothing")
        yield _Rule(names=(name,), gaps=frozenset({0}), negated=negated, only_folders=only_folders)
        return
    text = text.removeprefix(b"/")
    fixed = next((at for at, byte in enumerate(text) if byte in _SPECIAL), len(text))
    paths = [_names(path) for path in _spelled_out(literal(text[:fixed]), tokens(text[fixed:]))]
    possible = [(names, gaps) for names, gaps in paths if all(names)]
    if not possible:
        raise NeverMatchesError("two of its slashes have no name between them")
    for names, gaps in possible:
        yield _Rule(names=names, gaps=gaps, negated=negated, only_folders=only_folders)


def _spelled_out(fixed: list[Token], rest: list[Token]) -> Iterator[list[Token]]:
    """Yield the paths (as tokens) that a pattern with a slash means.

    `fixed` is the pattern's start without wildcards. git before 2.52 compares `fixed` with the path
    first, and matches `rest` as if it stood alone. So in `foo**/bar` the stars count as being
    between slashes: it matches `foobar` and `foo*/**/bar`. The manual says that such stars are
    ordinary ones.
    """
    if fixed and fixed[-1] is not Mark.SLASH and rest[:1] == [Mark.ANY_FOLDERS]:
        yield from _spelled_out(fixed, rest[1:])
        yield [*fixed, Mark.REST, Mark.SLASH, *rest[1:]]
    else:
        yield [*fixed, *rest]


def _names(path: Iterable[Token]) -> tuple[tuple[tuple[Token, ...], ...], frozenset[int]]:
    """Split the tokens of a path into `names` and `gaps` of a `_Rule`."""
    names: list[tuple[Token, ...]] = []
    gaps: set[int] = set()
    name: list[Token] = []
    goes_on = False
    for token in (*path, Mark.SLASH):
        if token is Mark.ANY_FOLDERS:
            gaps.add(len(names))
        elif token is Mark.SLASH:
            names.append(tuple(name))
            if goes_on:
                gaps.add(len(names))
            name, goes_on = [], False
        elif token is Mark.REST:
            name.append(Mark.STAR)
            goes_on = True
        else:
            name.append(token)
    return tuple(names), frozenset(gaps)


class _Parts:
    """Finds which parts of all patterns match one name of a path.

    A part is the text of a pattern between two slashes, as tokens: `a*b` in `src/a*b`. Each place
    of a part in the patterns has a number, given by `Patterns`. `add` collects parts with their
    numbers, `close` builds an automaton from them, and `of` gives the numbers of the parts that
    match a name, as bits.
    """

    def __init__(self) -> None:
        self._literal: dict[bytes, list[int]] = {}
        self._globs: dict[tuple[Token, ...], list[int]] = {}
        self._cache: dict[bytes, int] = {}

    def add(self, name: tuple[Token, ...], number: int) -> None:
        """Register `number` for the part whose tokens are `name`."""
        if (text := _text(name)) is not None:
            self._literal.setdefault(text, []).append(number)
        else:
            self._globs.setdefault(name, []).append(number)

    def close(self, bits: int) -> None:
        """Build the automaton of all parts, whose numbers are less than `bits`."""
        self._bits = bits
        self._cached = _CACHED_BITS // (bits + 512)
        size = sum(len(name) + 1 for name in self._globs)
        reach = [bytearray(size // 8 + 1) for _ in range(256)]
        starts, loops, self._ends = [], [], {}
        bit = 0
        for name, numbers in self._globs.items():
            starts.append(bit)
            for token in name:
                if isinstance(token, Mark):
                    loops.append(bit)
                    continue
                bit += 1
                for byte in token:
                    reach[byte][bit >> 3] |= 1 << (bit & 7)
            self._ends[bit] = numbers
            bit += 1
        self._reach = [int.from_bytes(row, "little") for row in reach]
        self._start, self._loops = _bits(starts), _bits(loops)
        self._end = _bits(self._ends)

    def of(self, name: bytes) -> int:
        """Return an integer whose set bits are the numbers of the parts that match `name`."""
        found = self._cache.get(name)
        if found is None:
            found = self._matched(name)
            if len(self._cache) >= self._cached:
                self._cache.clear()
            self._cache[name] = found
        return found

    def _matched(self, name: bytes) -> int:
        state, loops, reach = self._start, self._loops, self._reach
        for byte in name:
            if not state:
                break
            state = (state << 1) & reach[byte] | state & loops
        numbers = list(self._literal.get(name, ()))
        ended = state & self._end
        if ended:
            # As text, because clearing the bits of a long integer one by one is quadratic.
            text = f"{ended:b}"[::-1]
            bit = text.find("1")
            while bit >= 0:
                numbers += self._ends[bit]
                bit = text.find("1", bit + 1)
        return _bits(numbers)


def _text(name: tuple[Token, ...]) -> bytes | None:
    """Return the only text that the tokens match; None where they match several."""
    text = bytearray()
    for token in name:
        if isinstance(token, Mark) or len(token) != 1:
            return None
        text += bytes(token)
    return bytes(text)


def _bits(numbers: Iterable[int]) -> int:
    """Return an integer in which the bits `numbers` are set, in linear time."""
    numbers = list(numbers)
    row = bytearray(max(numbers, default=0) // 8 + 1)
    for number in numbers:
        row[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(row, "little")
