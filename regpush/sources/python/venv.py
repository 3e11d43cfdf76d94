"""The paths in a virtual environment, and its own files; no environment is created here.

Python documentation, "venv" and "site"; PEP 405. Scripts are written by our own code: those of a
library change with its version, and with them the bytes of layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from regpush.closure import Identity, Item, Role
from regpush.entry import ContentHash, Entry, Kind, TreeHash, as_bytes, image_path
from regpush.sources.python.pyc import RULES, Compiler

PATH = "(environment)"
"""The item's name in place of a path: its files are in several places of the environment."""

_SHEBANG = 127
"""Maximum bytes of a first line that Linux reads (`BINPRM_BUF_SIZE` in `binfmts.h`, less one)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An environment at `prefix`, an absolute path in the image, of Python `version` (X.Y).

    `threaded`: whether it is a free-threaded build, which has a `t` in its folders' names.
    `compiler`: makes the compiled files of packages, None for no such files.
    """

    prefix: str
    version: str
    threaded: bool = False
    compiler: Compiler | None = None

    @property
    def python(self) -> str:
        """The name of the interpreter, `python3.13` or `python3.13t`."""
        return f"python{self.version}{'t' if self.threaded else ''}"

    @property
    def bin(self) -> str:
        """The folder of the environment's programs, as an absolute image path."""
        return f"{self.prefix}/bin"

    @property
    def site(self) -> str:
        """The folder of the environment's packages, as an absolute image path."""
        return f"{self.prefix}/lib/{self.python}/site-packages"

    def headers(self, name: str) -> str:
        """Return the folder of the C headers of the package `name`."""
        return f"{self.prefix}/include/site/{self.python}/{name}"

    @property
    def shebang(self) -> bytes:
        """The first lines of a script, for the kernel.

        Where the path of Python is too long for the kernel, they are for sh, which runs Python.
        """
        program = as_bytes(f"{self.bin}/python")
        line = b"#!%b\n" % program
        if len(line) <= _SHEBANG and b" " not in program:
            return line
        # A string to Python, and to sh the command that has Python read the rest.
        return b"#!/bin/sh\n'''exec' '%b' \"$0\" \"$@\"\n' '''\n" % program.replace(b"'", b"'\\''")

    def rules(self) -> Mapping[str, str]:
        """Collect what decides the bytes of packages in the environment; part of recipes."""
        said = {"prefix": self.prefix, "python": self.python}
        if self.compiler:
            said["pyc"] = f"{RULES} {self.compiler.magic}"
        return said


def script(environment: Environment, module: str, attribute: str) -> bytes:
    """Write a program that calls `attribute` of `module` and exits with the result.

    PyPA, "Entry points specification", "Use for scripts".
    """
    first = attribute.partition(".")[0]
    # Guarded, since multiprocessing imports the main program anew in each process it spawns.
    call = f'if __name__ == "__main__":\n    sys.exit({attribute}())\n'
    text = f"import sys\n\nfrom {module} import {first}\n\n{call}"
    return environment.shebang + text.encode()


def file(path: str, content: bytes, mode: int = 0o644) -> Entry:
    """Make the entry of a file at the absolute image path `path`."""
    return Entry(
        path=image_path(path), kind=Kind.FILE, mode=mode, size=len(content), content=content
    )


def folders(paths: Iterable[bytes], prefix: str) -> Iterator[Entry]:
    """Make entries of the folders that `paths` are in, from `prefix` on."""
    top, found = image_path(prefix), set()
    for path in paths:
        above = path
        while (above := above.rpartition(b"/")[0]) not in found and len(above) >= len(top):
            found.add(above)
    return (Entry(path=path, kind=Kind.DIRECTORY, mode=0o755) for path in found)


def own_item(environment: Environment, interpreter: str, files: Iterable[Entry]) -> Item:
    """Make an item of the environment's own files and `files` of the project.

    `interpreter`: the absolute path of Python in the base. The item is small and belongs to one
    version of the project, so it is in the top layer.
    """
    entries = tuple(sorted([*_own(environment, interpreter), *files], key=lambda e: e.path))
    parents = tuple(
        sorted(folders((e.path for e in entries), environment.prefix), key=lambda e: e.path)
    )
    tree = TreeHash()
    for entry in (*parents, *entries):
        content = entry.content if isinstance(entry.content, bytes) else b""
        tree.add(entry, ContentHash(content).digest() if entry.kind is Kind.FILE else b"")
    return Item(
        path=PATH,
        name="environment",
        origin="environment",
        identity=Identity.tree(tree.digest()),
        size=sum(entry.size for entry in entries),
        entries=partial(iter, entries),
        parents=parents,
        role=Role.GENERATED,
    )


def _own(environment: Environment, interpreter: str) -> Iterator[Entry]:
    config = (
        f"home = {interpreter.rpartition('/')[0]}\n"
        "implementation = CPython\n"
        f"version_info = {environment.version}\n"
        "include-system-site-packages = false\n"
        f"version = {environment.version}\n"
    )
    yield file(f"{environment.prefix}/pyvenv.cfg", as_bytes(config))
    names = {"python": interpreter, "python3": "python", environment.python: "python"}
    for name, target in names.items():
        yield _link(f"{environment.bin}/{name}", target)
    yield _link(f"{environment.prefix}/lib64", "lib")


def _link(path: str, target: str) -> Entry:
    return Entry(
        path=image_path(path),
        kind=Kind.SYMLINK,
        mode=0o777,
        link=as_bytes(target),
    )
