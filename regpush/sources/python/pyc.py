"""Compiled files (`.pyc`) for the packages of an image, made by a Python X.Y of this machine.

They are valid on any machine: `unchecked-hash` files (PEP 552) contain no time, and the code in
them contains paths of the image. Sources are compiled, and none of their code is executed.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import NamedTuple

from regpush.entry import Streamed, as_bytes
from regpush.errors import SourceError, UsageError, printable
from regpush.sources.python.lock import uv_program
from regpush.sources.python.target import PythonVersion
from regpush.sources.tools import ToolError, Workshop, find_program

RULES = 1
"""Part of identities; raised whenever an equal source would give other bytes."""

LIMIT = 16 << 20
"""Maximum bytes of a source: a larger one is data, and takes gigabytes to compile."""

_BLOCK = 1 << 18


class Module(NamedTuple):
    """A source at the absolute image path `path`; `read` gives its content."""

    path: str
    read: Callable[[], bytes]


class Compiled(NamedTuple):
    """A compiled file at the absolute image path `path`, of `size` bytes."""

    path: str
    size: int
    content: Streamed


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """An interpreter that compiles; `magic` (hex) is the version of its bytecode. Thread-safe.

    `tag` is part of the names of compiled files: `cpython-313`.
    """

    magic: str
    tag: str
    _workshop: Workshop = field(repr=False, compare=False)
    _worker: _Worker = field(repr=False, compare=False)
    _done: dict[str, list[Compiled]] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def start(cls, version: PythonVersion, workshop: Workshop) -> Compiler:
        """Start a Python `version` of this machine; it ends with `workshop`.

        Raises UsageError where none is installed, SourceError, CancelledError.
        """
        for program in _interpreters(version, workshop):
            worker = _Worker(program, workshop)
            implementation, x, y, magic, tag = worker.said
            if (implementation, x, y) == ("cpython", "3", str(version.minor)):
                return cls(magic=magic, tag=tag, _workshop=workshop, _worker=worker)
        raise UsageError(
            f"--compile needs Python {version.short} on this machine, as python{version.short} on "
            f"the PATH: install it ('uv python install {version.short}'), or leave --compile out"
        )

    def compile(self, package: str, sources: Iterable[Module]) -> list[Compiled]:
        """Compile the `sources` of `package`; sources that do not compile are skipped.

        The compiled files are made once for each `package`, and kept in a file. Raises what reading
        the sources raises, and CancelledError.
        """
        with self._lock:
            if package not in self._done:
                self._done[package] = list(self._compile(sources))
            return self._done[package]

    def _compile(self, sources: Iterable[Module]) -> Iterator[Compiled]:
        path, offset = self._workshop.new_path("compiled"), 0
        with open(path, "xb") as file:
            for source in sources:
                self._workshop.cancel.check()
                data = self._worker.compile(source.path, source.read())
                if not data:
                    continue
                file.write(data)
                content = Streamed(partial(_read, path, offset, len(data)))
                yield Compiled(self._path(source.path), len(data), content)
                offset += len(data)

    def _path(self, source: str) -> str:
        """Return the image path of a compiled file (PEP 3147, "Proposal")."""
        folder, _, name = source.rpartition("/")
        return f"{folder}/__pycache__/{name.removesuffix('.py')}.{self.tag}.pyc"


def _read(path: str, offset: int, size: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(offset)
        while size:
            block = file.read(min(size, _BLOCK))
            if not block:
                raise SourceError(f"{printable(path)} was cut while it was read")
            size -= len(block)
            yield block


def _interpreters(version: PythonVersion, workshop: Workshop) -> Iterator[str]:
    """Yield programs that may be Python `version`: this one, one on the PATH, one of uv."""
    if sys.version_info[:2] == (3, version.minor) and sys.executable:
        yield sys.executable
    if found := find_program(f"python{version.short}"):
        yield found
    with contextlib.suppress(ToolError, UsageError):
        uv = uv_program()
        yield workshop.ask(uv, "python", "find", "--no-python-downloads", version.short).strip()


class _Worker:
    """A process of `program` that runs `pyc_worker`; restarted after a source that ended it."""

    def __init__(self, program: str, workshop: Workshop) -> None:
        self._program = program
        self._workshop = workshop
        self._begin()

    def compile(self, path: str, source: bytes) -> bytes:
        """Compile `source`, which is at the image path `path`; empty if it does not compile.

        Raises CancelledError.
        """
        name = as_bytes(path)
        sizes = len(name).to_bytes(4, "little") + len(source).to_bytes(4, "little")
        try:
            self._requests.write(sizes + name + source)
            self._requests.flush()
            return self._taken(int.from_bytes(self._taken(4), "little"))
        except (BrokenPipeError, EOFError):
            self._workshop.cancel.check()  # Ctrl-C on a terminal ends both of us
            self._begin()
            return b""

    def _begin(self) -> None:
        """Start the process, and read its first line into `said`, as five words.

        The words are empty if `program` is not Python.
        """
        worker = files("regpush.sources.python").joinpath("pyc_worker.py").read_text("utf-8")
        # Variables of this machine and its folders of packages have no effect with these flags.
        flags = ("-I", "-S", "-B", "-W", "ignore")
        process = self._workshop.converse(self._program, *flags, "-c", worker)
        self._requests, self._replies = process
        words = self._replies.readline().decode("ascii", "replace").split()
        self.said = words if len(words) == 5 else [""] * 5

    def _taken(self, size: int) -> bytes:
        data = self._replies.read(size)
        if len(data) < size:
            raise EOFError
        return data
