"""Files that an installer writes anew each time, although the packages did not change.

They record when, from where and to which path packages were installed. Tools need them (yarn
refuses to start without its state file, scanners read RECORD), so they stay in the image, but in a
layer of their own: in a layer with packages they would cause those packages to be sent again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from regpush.files.listing import Row, join
from regpush.sources.tree import Tree

_NPM = (
    b".cache",  # of build tools: babel-loader, terser and others write it
    b".modules.yaml",  # pnpm: the time of the last pruning, the place of its store
    b".package-lock.json",  # npm: optional packages for other platforms, as resolved
    b".pnpm-workspace-state.json",
    b".pnpm-workspace-state-v1.json",  # pnpm: the time of the installation, paths of projects
    b".yarn-integrity",
    b".yarn-state.yml",
)
_PYTHON = (
    b"RECORD",  # hashes of scripts, which begin with the path of their interpreter
    b"direct_url.json",  # where a local project or a downloaded file lay
    b"uv_cache.json",  # times of files of a local project
)
_COMPOSER = b"installed.php"
"""File in the folder `composer` that contains the commit of the project itself."""
_AUTOLOADERS = (b"autoload_real.php", b"autoload_static.php")
"""Files in `composer` whose classes Composer 2.5 names by a random number, as in autoload.php."""
_RUBY = (b"gem_make.out", b"mkmf.log", b"Makefile")
"""Files of built extensions with the number of the process that built them, and its folders."""

_SCRIPT = 64 << 10
"""Maximum size in bytes of scripts in a virtual environment; larger files there are programs."""


def records_in(tree: Tree, folder: bytes) -> tuple[bytes, ...]:
    """Find the installers' records in the dependency folder `folder`; sorted paths."""
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
    """Yield the scripts in `.bin` folders, which contain the path of the dependency folder."""
    prefix = folder + b"/"
    for path, known in tree.listing.folders.items():
        if path.endswith(b"/.bin") and path.startswith(prefix):
            for name in known.names:
                if name not in known.links and name not in known.folders:
                    yield join(path, name)


def _gem_homes(tree: Tree, folder: bytes) -> Iterator[bytes]:
    """Yield folders with gems and built extensions: `folder`, or those of Bundler in it."""
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
    """Yield RubyGems' records of extensions that it built, in `extensions` and `gems/*/ext`."""
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
    """Yield a virtual environment's records.

    They are `pyvenv.cfg`, scripts, which contain the environment's path, and records of
    distributions.
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
