"""The paths of a virtual environment in the image, and the files that `venv` would create in it.

Python documentation, "venv" and "site"; PEP 405. No program creates an environment on this machine.
Scripts are written by regpush itself: a library would write other bytes after an update, and layers
would change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from msgspec import Struct

from regpush.closure import Identity, Item, Role
from regpush.entry import Entry, Kind, as_bytes, image_path
from regpush.files.content_hash import ContentHash
from regpush.sources.python.pyc import RULES, Compiler
from regpush.tree_hash import TreeHash

PATH = "(environment)"
"""The path of the item with the environment's own files. It is no file path, because these files
are in several folders of the environment."""

_SHEBANG = 127
"""Maximum bytes of a script's `#!` line in Linux (`BINPRM_BUF_SIZE` in `binfmts.h`, less one)."""


class Environment(Struct, frozen=True, kw_only=True):
    """A virtual environment at `prefix`, an absolute image path, for Python `version` (X.Y).

    `threaded`: whether Python is the free-threaded build, whose folder names end in `t`.
    `compiler`: compiles packages into `.pyc` files; None for no such files.
    """

    prefix: str
    version: str
    threaded: bool = False
    compiler: Compiler | None = None

    @property
    def python(self) -> str:
        """The interpreter's name, which is also a folder's name: `python3.13` or `python3.13t`."""
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
        """Return the absolute image path of the folder for C headers of the package `name`."""
        return f"{self.prefix}/include/site/{self.python}/{name}"

    @property
    def shebang(self) -> bytes:
        """The beginning of a script that makes the kernel run it by the environment's Python.

        This is one `#!` line. Where the path of Python is too long for such a line, `/bin/sh` is
        named in it, and further lines make sh run Python.
        """
        program = as_bytes(f"{self.bin}/python")
        line = b"#!%b\n" % program
        if len(line) <= _SHEBANG and b" " not in program:
            return line
        # The second line is a string constant for Python, and for sh a command that runs Python.
        return b"#!/bin/sh\n'''exec' '%b' \"$0\" \"$@\"\n' '''\n" % program.replace(b"'", b"'\\''")

    def rules(self) -> Mapping[str, str]:
        """Return the settings of the environment that decide the bytes of installed packages.

        They are part of recipes: prefix, interpreter name, and compiler version.
        """
        said = {"prefix": self.prefix, "python": self.python}
        if self.compiler:
            said["pyc"] = f"{RULES} {self.compiler.magic}"
        return said


def script(environment: Environment, module: str, attribute: str) -> bytes:
    """Return the text of a script that calls `attribute` of `module` and exits with the result.

    PyPA, "Entry points specification", "Use for scripts".
    """
    first = attribute.partition(".")[0]
    # multiprocessing imports the script in each process that it spawns; that must call nothing.
    call = f'if __name__ == "__main__":\n    sys.exit({attribute}())\n'
    text = f"import sys\n\nfrom {module} import {first}\n\n{call}"
    return environment.shebang + text.encode()


def file(path: str, content: bytes, mode: int = 0o644) -> Entry:
    """Return the entry of a file with `content` at the absolute image path `path`."""
    return Entry(
        path=image_path(path), kind=Kind.FILE, mode=mode, size=len(content), content=content
    )


def folders(paths: Iterable[bytes], prefix: str) -> Iterator[Entry]:
    """Yield an entry for each folder above `paths`, from the folder `prefix` on, unsorted."""
    top, found = image_path(prefix), set()
    for path in paths:
        above = path
        while (above := above.rpartition(b"/")[0]) not in found and len(above) >= len(top):
            found.add(above)
    return (Entry(path=path, kind=Kind.DIRECTORY, mode=0o755) for path in found)


def own_item(environment: Environment, interpreter: str, files: Iterable[Entry]) -> Item:
    """Make the item of the environment's own files together with `files` of local projects.

    `interpreter`: the absolute path of Python in the base image. The item is small and changes with
    the project's version, so its role puts it into the top layer.
    """
    entries = tuple(sorted([*_own_entries(environment, interpreter), *files], key=lambda e: e.path))
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


def _own_entries(environment: Environment, interpreter: str) -> Iterator[Entry]:
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
