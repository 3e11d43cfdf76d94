"""Compile the packages of an image into `.pyc` files, by a Python X.Y of this machine.

The `.pyc` files work in every container: they are `unchecked-hash` files (PEP 552), which contain
no time, and the code in them names paths of the image. No code of a package is executed.
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
"""A number in identities; raised with every change by which an equal source compiles to other
bytes."""

LIMIT = 16 << 20
"""Maximum bytes of a source file that is compiled: a larger one is data, and compiling it takes
gigabytes of memory."""

_BLOCK = 1 << 18


class Module(NamedTuple):
    """A `.py` file at the absolute image path `path`; `read` returns its content."""

    path: str
    read: Callable[[], bytes]


class Compiled(NamedTuple):
    """A `.pyc` file at the absolute image path `path`, of `size` bytes."""

    path: str
    size: int
    content: Streamed


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A running Python interpreter that compiles source files. Thread-safe.

    `magic`: the version of its bytecode, in hex (`importlib.util.MAGIC_NUMBER`). `tag`: part of the
    names of `.pyc` files, such as `cpython-313`.
    """

    magic: str
    tag: str
    _workshop: Workshop = field(repr=False, compare=False)
    _worker: _Worker = field(repr=False, compare=False)
    _done: dict[str, list[Compiled]] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def start(cls, version: PythonVersion, workshop: Workshop) -> Compiler:
        """Start the Python `version` that this machine has; the process ends with `workshop`.

        Raises UsageError where that version is not installed, SourceError, CancelledError.
        """
        for program in _interpreters(version, workshop):
            worker = _Worker(program, workshop)
            implementation, x, y, magic, tag = worker.said
            if (implementation, x, y) == ("cpython", "3", str(version.minor)):
                return cls(magic=magic, tag=tag, _workshop=workshop, _worker=worker)
        raise UsageError(
            f"--compile needs Python {version.short} on this machine, and finds no "
            f"python{version.short} on the PATH: install it ('uv python install {version.short}'), "
            "or leave --compile out"
        )

    def compile(self, package: str, sources: Iterable[Module]) -> list[Compiled]:
        """Compile the `sources` of `package`; sources that do not compile are skipped.

        A second call for the same `package` returns the files of the first; their bytes are kept in
        a temporary file. Raises SourceError where a source cannot be read, CancelledError.
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
        """Return the image path of the `.pyc` file of the source at `source` (PEP 3147)."""
        folder, _, name = source.rpartition("/")
        return f"{folder}/__pycache__/{name.removesuffix('.py')}.{self.tag}.pyc"


def _read(path: str, offset: int, size: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(offset)
        while size:
            block = file.read(min(size, _BLOCK))
            if not block:
                raise SourceError(
                    f"the temporary file {printable(path)} became shorter during the push: another "
                    "program changed it; push again"
                )
            size -= len(block)
            yield block


def _interpreters(version: PythonVersion, workshop: Workshop) -> Iterator[str]:
    """Yield paths of programs that may be Python `version`.

    These are the Python that runs regpush, `pythonX.Y` on the PATH, and a Python that uv installed.
    """
    if sys.version_info[:2] == (3, version.minor) and sys.executable:
        yield sys.executable
    if found := find_program(f"python{version.short}"):
        yield found
    with contextlib.suppress(ToolError, UsageError):
        uv = uv_program()
        yield workshop.ask(uv, "python", "find", "--no-python-downloads", version.short).strip()


class _Worker:
    """A process of the Python `program` that runs `pyc_worker`.

    It is started again where compiling a source ended it.
    """

    def __init__(self, program: str, workshop: Workshop) -> None:
        self._program = program
        self._workshop = workshop
        self._begin()

    def compile(self, path: str, source: bytes) -> bytes:
        """Return the bytes of the `.pyc` file for `source`; empty if it does not compile.

        `path`: the source's image path, which the compiled code contains. Raises CancelledError.
        """
        name = as_bytes(path)
        sizes = len(name).to_bytes(4, "little") + len(source).to_bytes(4, "little")
        try:
            self._requests.write(sizes + name + source)
            self._requests.flush()
            return self._received(int.from_bytes(self._received(4), "little"))
        except (BrokenPipeError, EOFError):
            self._workshop.cancel.check()  # a terminal sends Ctrl-C to regpush and the worker
            self._begin()
            return b""

    def _begin(self) -> None:
        """Start the process, and read the five words of its first output line into `said`.

        The line is described in `pyc_worker`. The words are empty if `program` is not a Python that
        can run it.
        """
        worker = files("regpush.sources.python").joinpath("pyc_worker.py").read_text("utf-8")
        # With these flags the environment and this machine's site-packages have no effect.
        flags = ("-I", "-S", "-B", "-W", "ignore")
        process = self._workshop.converse(self._program, *flags, "-c", worker)
        self._requests, self._replies = process
        words = self._replies.readline().decode("ascii", "replace").split()
        self.said = words if len(words) == 5 else [""] * 5

    def _received(self, size: int) -> bytes:
        data = self._replies.read(size)
        if len(data) < size:
            raise EOFError
        return data
