"""Find records: files of package managers that differ after each installation of equal packages.

A record states when, from where and to which path packages were installed. Tools need records (yarn
does not start without its state file, scanners read RECORD), so they stay in the image. They get a
layer of their own, because in a layer with packages they would make it change at every push.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from regpush.files.listing import Row, join
from regpush.sources.tree import Tree

_NPM = (
    b".cache",  # written by build tools such as babel-loader and terser
    b".modules.yaml",  # pnpm: time of the last pruning, path of its store
    b".package-lock.json",  # npm: lists optional packages for other platforms too
    b".pnpm-workspace-state.json",
    b".pnpm-workspace-state-v1.json",  # pnpm: time of the installation, paths of projects
    b".yarn-integrity",
    b".yarn-state.yml",
)
_PYTHON = (
    b"RECORD",  # hashes of scripts, which begin with the path of their interpreter
    b"direct_url.json",  # path or URL from which the package was installed
    b"uv_cache.json",  # modification times of a local project's files
)
_COMPOSER = b"installed.php"
"""A file in Composer's folder `composer`; it contains the commit of the project itself."""
_AUTOLOADERS = (b"autoload_real.php", b"autoload_static.php")
"""Files in `composer` with a random number in class names (Composer 2.5), as in autoload.php."""
_RUBY = (b"gem_make.out", b"mkmf.log", b"Makefile")
"""Files that building a gem's extension leaves; they contain a process number and paths."""

_SCRIPT = 64 << 10
"""Maximum size in bytes of scripts in a virtual environment; larger files there are programs."""


def records_in(tree: Tree, folder: bytes) -> tuple[bytes, ...]:
    """Return the sorted paths of the records (see the module) in a dependency folder."""
    return tuple(sorted(_records(tree, folder)))


def _records(tree: Tree, folder: bytes) -> Iterator[bytes]:
    names = tree.names(folder)
    yield from (join(folder, name) for name in _NPM if name in names)
    composer = join(folder, b"composer")
    if b"composer" in tree.directories(folder) and _COMPOSER in tree.names(composer):
        yield join(composer, _COMPOSER)
        yield from (join(composer, name) for name in _AUTOLOADERS if name in tree.names(composer))
        if b"autoload.php" in names:
            yield join(folder, b"autoload.php")
    for home in _gem_homes(tree, folder):
        yield from _of_extensions(tree, home)
    if b".pnpm" in names:
        yield from _of_pnpm(tree, folder)
    if b"pyvenv.cfg" in names:
        yield from _of_environment(tree, folder)
    yield from _of_distributions(tree, folder)


def _of_pnpm(tree: Tree, folder: bytes) -> Iterator[bytes]:
    """Yield the scripts in pnpm's `.bin` folders, which contain the dependency folder's path."""
    prefix = folder + b"/"
    for path, known in tree.listing.folders.items():
        if path.endswith(b"/.bin") and path.startswith(prefix):
            for name in known.names:
                if name not in known.links and name not in known.folders:
                    yield join(path, name)


def _gem_homes(tree: Tree, folder: bytes) -> Iterator[bytes]:
    """Yield the folders at or below `folder` that contain `gems` and their built `extensions`."""
    ruby = join(folder, b"bundle", b"ruby")
    inside = [folder]
    if folder.endswith(b"/ruby"):
        inside += [join(folder, version) for version in tree.directories(folder)]
    if ruby in tree.listing.folders:
        inside += [join(ruby, version) for version in tree.directories(ruby)]
    for home in inside:
        if {b"extensions", b"gems"} <= set(tree.directories(home)):
            yield home


def _of_extensions(tree: Tree, home: bytes) -> Iterator[bytes]:
    """Yield the files that building extensions left in `extensions` and `gems/*/ext` of `home`."""
    built = re.compile(re.escape(home) + rb"/(extensions|gems/[^/]+/ext)/")
    for path, known in tree.listing.folders.items():
        if built.match(path + b"/"):
            yield from (join(path, name) for name in _RUBY if name in known.names)


def _of_distributions(tree: Tree, folder: bytes) -> Iterator[bytes]:
    for name in tree.directories(folder):
        if name.endswith(b".dist-info"):
            info = join(folder, name)
            yield from (join(info, record) for record in _PYTHON if record in tree.names(info))


def _of_environment(tree: Tree, folder: bytes) -> Iterator[bytes]:
    """Yield the records of the virtual environment in `folder`.

    These are `pyvenv.cfg`, scripts, which contain the environment's path, and each package's
    records.
    """
    yield join(folder, b"pyvenv.cfg")
    if b"bin" in tree.directories(folder):
        scripts = tree.listing.folders[join(folder, b"bin")]
        for name, row in zip(scripts.names, Row.unpack(scripts.rows), strict=True):
            if row.size and row.size <= _SCRIPT:
                yield join(folder, b"bin", name)
    for lib in (b"lib", b"lib64"):
        if lib in tree.directories(folder):
            for python in tree.directories(join(folder, lib)):
                if b"site-packages" in tree.directories(join(folder, lib, python)):
                    yield from _of_distributions(tree, join(folder, lib, python, b"site-packages"))
