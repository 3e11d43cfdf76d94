"""Find the packages in a dependency folder, by the layout of its package manager.

A file belongs to the package for which the package manager recorded it; without a record, each
folder is a package.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from msgspec import Struct

from regpush.entry import as_bytes, as_text
from regpush.files.listing import join
from regpush.sources.tree import Tree


class Package(Struct, frozen=True, kw_only=True):
    """A package in a dependency folder; paths are relative to the tree.

    `tops`: the package's topmost files and folders, sorted. `path`: the one of `tops` that names
    the package's item.
    """

    name: str
    path: bytes
    tops: tuple[bytes, ...]


Layout: TypeAlias = Callable[[Tree, bytes], Iterator[Package]]
"""A function that yields the packages in the folder at a path of a tree."""


def folders(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield each folder in `folder` as a package, except hidden ones."""
    for name in tree.directories(folder):
        if not name.startswith(b"."):
            yield _folder(join(folder, name), name)


def npm(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the packages in a `node_modules` of npm, Yarn or pnpm.

    A package is a folder, a folder in a scope (`@scope/name`), or a folder in pnpm's `.pnpm`. npm
    documentation, "folders".
    """
    for name in tree.directories(folder):
        path = join(folder, name)
        if name.startswith(b"@"):
            for scoped in tree.directories(path):
                yield _folder(join(path, scoped), name + b"/" + scoped)
        elif name == b".pnpm":
            for versioned in tree.directories(path):
                if versioned != b"node_modules":
                    yield _folder(join(path, versioned), _unversioned(versioned))
        elif not name.startswith(b"."):
            yield _folder(path, name)


def _unversioned(name: bytes) -> bytes:
    """Return a package's name without its version: `@babel/core` for `@babel+core@7.0.0`.

    `express@4.18.2` and `react-dom@18.2.0_react@18.2.0` are other forms of folder names.
    """
    cut = name.find(b"@", 1)
    return (name if cut < 0 else name[:cut]).replace(b"+", b"/")


def jspm(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the packages in a `jspm_packages`: folders such as `npm/jquery@3.1.0`."""
    for registry in tree.directories(folder):
        for name in tree.directories(join(folder, registry)):
            yield _folder(join(folder, registry, name), _unversioned(name))


def venv(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the packages in a virtual environment: those in `lib/python3.11/site-packages`.

    Python documentation, "site".
    """
    for lib in (b"lib", b"lib64"):
        if lib not in tree.directories(folder):
            continue
        for version in tree.directories(join(folder, lib)):
            if b"site-packages" in tree.directories(join(folder, lib, version)):
                yield from python(tree, join(folder, lib, version, b"site-packages"))


def python(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the packages in a `site-packages`, then each other folder as one package.

    Such another folder is shared by several packages (a namespace package), or has no record.
    """
    found = list(distributions(tree, folder))
    claimed = {top for package in found for top in package.tops}
    for name in tree.directories(folder):
        path = join(folder, name)
        if path not in claimed and name != b"__pycache__":
            yield _folder(path, name)
    yield from found


def distributions(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the installed Python packages in `folder`, each with the files that its RECORD lists.

    PyPA, "Recording installed projects".
    """
    children = tree.names(folder)
    claims: dict[bytes, list[bytes]] = {}
    for info in children:
        if info.endswith((b".dist-info", b".egg-info")):
            for top in {info} | _recorded(tree, join(folder, info)):
                # All single-file modules share one __pycache__, which belongs to no package.
                if top in children and top != b"__pycache__":
                    claims.setdefault(top, []).append(info)
    owned: dict[bytes, list[bytes]] = {}
    for name in children:
        owners = claims.get(name, [])
        if len(owners) == 1:
            owned.setdefault(owners[0], []).append(name)
    for info, tops in sorted(owned.items()):
        name = re.sub(rb"[-_.]+", b"-", info.partition(b"-")[0]).lower()
        code = [top for top in tops if top != info]
        # The item is named by a path without a version, preferably the one with the package's name.
        path = min(code, key=lambda top: (_import_name(top) != name, top), default=info)
        yield Package(
            name=_text(name),
            path=join(folder, path),
            tops=tuple(join(folder, top) for top in tops),
        )


def _import_name(top: bytes) -> bytes:
    return top.removesuffix(b".py").replace(b"_", b"-").lower()


def _recorded(tree: Tree, info: bytes) -> set[bytes]:
    """Return the files and folders of the package that is described in the folder `info`.

    They are names in the folder that contains `info`, from its RECORD or `top_level.txt`.
    """
    tops = set()
    try:
        for row in csv.reader(tree.lines(join(info, b"RECORD"))):
            if row:
                tops.add(row[0].partition("/")[0])
    except csv.Error:
        tops.clear()
    if not tops:
        for module in tree.lines(join(info, b"top_level.txt")):
            tops |= {module, module + ".py"}
    return {as_bytes(top) for top in tops}


def vendor(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the packages in a folder `vendor` of Go, Composer or Bundler.

    Go's has a `modules.txt`, Composer's an `autoload.php`, Bundler's a `bundle/ruby`. In any other
    `vendor` each folder is a package.
    """
    names = tree.names(folder)
    if b"modules.txt" in names:
        yield from _go(tree, folder)
    elif b"autoload.php" in names:
        yield from composer(tree, folder)
    else:
        for name in tree.directories(folder):
            if name == b"bundle" and b"ruby" in tree.directories(join(folder, name)):
                yield from gems(tree, join(folder, name, b"ruby"))
            elif not name.startswith(b"."):
                yield _folder(join(folder, name), name)


def composer(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the packages of Composer: folders such as `symfony/console`.

    Composer documentation, "vendor-dir".
    """
    for vendor in tree.directories(folder):
        for name in tree.directories(join(folder, vendor)):
            yield _folder(join(folder, vendor, name), vendor + b"/" + name)


def _go(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the Go modules that `modules.txt` lists in lines `# path version`.

    A module whose folder is inside another module's folder is part of that one. Go Modules
    Reference, "Vendoring".
    """
    modules = {
        as_bytes(line.split(" ")[1])
        for line in tree.lines(join(folder, b"modules.txt"))
        if line.startswith("# ") and line.count(" ") > 1
    }
    pending = [b""]
    while pending:
        above = pending.pop()
        for name in tree.directories(join(folder, above)):
            path = join(above, name)
            if path in modules:
                yield _folder(join(folder, path), path)
            elif any(module.startswith(path + b"/") for module in modules):
                pending.append(path)


def gems(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the gems in a folder `ruby` of Bundler: folders such as `3.2.0/gems/rack-3.0.8`.

    Bundler documentation, "bundle config path".
    """
    for version in tree.directories(folder):
        yield from gem_home(tree, join(folder, version))


def gem_home(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the gems in a GEM_HOME: folders such as `gems/rack-3.0.8` (RubyGems documentation)."""
    if b"gems" in tree.directories(folder):
        for gem in tree.directories(join(folder, b"gems")):
            path = join(folder, b"gems", gem)
            yield _folder(path, re.split(rb"-(?=\d)", gem, maxsplit=1)[0])


def _folder(path: bytes, name: bytes) -> Package:
    return Package(name=_text(name), path=path, tops=(path,))


def _text(name: bytes) -> str:
    return as_text(name)
