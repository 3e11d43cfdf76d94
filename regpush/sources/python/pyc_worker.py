"""A program that compiles Python sources; it is run by a Python of the image's version.

Any CPython from 3.9 on can run it: it imports nothing of regpush. It first writes a line: the
implementation, X, Y, the magic number in hex, and the tag in the names of `.pyc` files. Then it
answers requests on stdin. A request is the size of a file name and the size of a source, 4 bytes
each, then the name in UTF-8 and the source. A reply is the size of a `.pyc` file, 4 bytes, and the
file; the size is 0 if the source does not compile. Numbers are little-endian. Sources are compiled
and never executed.

Two runs of `marshal.dumps` on equal code may write different bytes: the bytes depend on reference
counts and on interned strings (CPython issues 78274 and 98819), and before Python 3.11 on the order
of a frozenset's hashes. So this program reads what `marshal.dumps` wrote, and writes it again in a
form that depends on the values alone.
"""

from __future__ import annotations

import marshal
import sys
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from types import CodeType
from typing import Union

_Node = Union[bytes, "tuple[bytes, list[_Node]]"]  # Python 3.9 has no other syntax for a union
"""A marshalled object: its bytes; or, if it contains other objects, its head's bytes and these."""

_UNCHECKED = (1).to_bytes(4, "little")
"""PEP 552: flags of a `.pyc` file that has its source's hash, which Python does not compare."""

_REF = 0x80
_FIXED = {"N": 0, "F": 0, "T": 0, ".": 0, "S": 0, "i": 4, "g": 8, "y": 16}
"""Number of bytes after an object's type code, by type code (CPython, `Python/marshal.c`)."""
_TEXTS = "aAzZut"
_REFERENCE = 5
"""Bytes of a reference to an earlier object; an object of this size is written again instead."""
_LINE = 8
"""Index of the first line's number among the parts of a code object; it has no type code."""


class _Reader:
    """Reads the output of `marshal.dumps` into a tree of `_Node`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._seen: list[_Node] = []
        # Python 3.11 changed the parts of a code object.
        self._numbers, self._last = (5, 2) if sys.version_info >= (3, 11) else (6, 1)

    def node(self) -> _Node:
        """Read the next object. Raises NotImplementedError for a type that code never contains."""
        first = self._take(1)[0]
        kind = chr(first & ~_REF)
        if kind == "r":
            return self._seen[self._number(4)]
        place = len(self._seen)
        if first & _REF:  # an object gets its number before the objects in it
            self._seen.append(b"")
        found = self._leaf(kind) if kind in _FIXED or kind in "ls" + _TEXTS else self._parts(kind)
        if first & _REF:
            self._seen[place] = found
        return found

    def _leaf(self, kind: str) -> bytes:
        if kind in _FIXED:
            return kind.encode() + self._take(_FIXED[kind])
        if kind == "l":
            count = int.from_bytes(self._data[self._at : self._at + 4], "little", signed=True)
            return b"l" + self._take(4 + 2 * abs(count))
        data = self._take(self._number(1 if kind in "zZ" else 4))
        if kind == "s":
            return b"s" + _sized(data, 4)
        if not data.isascii():
            return b"u" + _sized(data, 4)
        # Python interns strings that look like names when it loads them.
        interned = data.replace(b"_", b"a").isalnum()
        if len(data) < 256:
            return (b"Z" if interned else b"z") + _sized(data, 1)
        return (b"A" if interned else b"a") + _sized(data, 4)

    def _parts(self, kind: str) -> _Node:
        if kind == ")":
            return self._tuple(self._number(1))
        if kind == "(":
            return self._tuple(self._number(4))
        if kind == ">":
            count = self._number(4)
            return b">" + count.to_bytes(4, "little"), self._nodes(count)
        if kind == ":":
            return b":", self._nodes(3)
        if kind == "c":
            head = b"c" + self._take(4 * self._numbers)
            parts = self._nodes(8)
            return head, [*parts, self._take(4), *self._nodes(self._last)]
        raise NotImplementedError(kind)

    def _tuple(self, count: int) -> _Node:
        head = b")" + bytes([count]) if count < 256 else b"(" + count.to_bytes(4, "little")
        return head, self._nodes(count)

    def _nodes(self, count: int) -> list[_Node]:
        return [self.node() for _ in range(count)]

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]


def _sized(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "little") + data


class _Writer:
    """Writes trees of `_Node` for `marshal.loads`; a repeated leaf is written as a reference."""

    def __init__(self) -> None:
        self.out = bytearray()
        self._places: dict[bytes, int] = {}

    def node(self, node: _Node) -> None:
        """Append `node` to `out`."""
        if isinstance(node, bytes):
            self._leaf(node)
            return
        head, parts = node
        self.out += head
        if head[:1] == b">":
            parts = sorted(parts, key=_written)
        for place, part in enumerate(parts):
            if place == _LINE and head[:1] == b"c" and isinstance(part, bytes):
                self.out += part
            else:
                self.node(part)

    def _leaf(self, leaf: bytes) -> None:
        if len(leaf) <= _REFERENCE:
            self.out += leaf
        elif (place := self._places.get(leaf)) is not None:
            self.out += b"r" + place.to_bytes(4, "little")
        else:
            self._places[leaf] = len(self._places)
            self.out.append(leaf[0] | _REF)
            self.out += leaf[1:]


def _written(node: _Node) -> bytes:
    writer = _Writer()
    writer.node(node)
    return bytes(writer.out)


def canonical(code: CodeType) -> bytes:
    """Return bytes that `marshal.loads` turns into `code`; equal code gives equal bytes."""
    return _written(_Reader(marshal.dumps(code)).node())


def compiled(name: str, source: bytes) -> bytes:
    """Return the bytes of a `.pyc` file for `source`; empty if it does not compile.

    `name`: the source's path in the image, which the compiled code contains.
    """
    try:
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    except Exception:  # a SyntaxError, RecursionError, MemoryError or another error of the compiler
        return b""
    return MAGIC_NUMBER + _UNCHECKED + source_hash(source) + canonical(code)


def is_known() -> bool:
    """Whether `canonical` works with this Python: a later release may change the format."""
    code = compile("def f(x):\n    return x in {1, 'one'}, x[1:2]\n", "f.py", "exec")
    try:
        return bool(marshal.loads(canonical(code)) == code)  # noqa: S302  made two lines above
    except Exception:
        return False


def main() -> None:
    """Write the first line, then answer requests until stdin ends.

    Writes nothing where `canonical` does not work with this Python.
    """
    if not is_known():
        return
    implementation, (x, y) = sys.implementation.name, sys.version_info[:2]
    tag = cache_from_source("x.py").rpartition("x.")[2].rpartition(".")[0]
    requests, replies = open(0, "rb", closefd=False), open(1, "wb", closefd=False)  # noqa: SIM115
    replies.write(f"{implementation} {x} {y} {MAGIC_NUMBER.hex()} {tag}\n".encode())
    replies.flush()
    while sizes := requests.read(8):
        name = requests.read(int.from_bytes(sizes[:4], "little"))
        source = requests.read(int.from_bytes(sizes[4:], "little"))
        reply = compiled(name.decode("utf-8", "surrogateescape"), source)
        replies.write(len(reply).to_bytes(4, "little") + reply)
        replies.flush()


if __name__ == "__main__":
    main()
