"""Dependency folders in a directory, and the packages in each.

A package keeps its identity from one version of the app to the next, so each is an item. A
folder is one of dependencies by its name, or by what lies in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from regpush.files.listing import join
from regpush.sources.package_layouts import (
    Layout,
    Package,
    folders,
    gems,
    jspm,
    npm,
    python,
    vendor,
    venv,
)
from regpush.sources.records import records_in
from regpush.sources.telltales import layout_inside
from regpush.sources.tree import Tree


class Rest(Enum):
    """What files are that lie in a dependency folder and belong to no package of it.

    DEPENDENCIES where the name of the folder tells that a package manager alone writes it.
    CODE where only what lies in it tells of packages: code of the app may lie beside them.
    """

    DEPENDENCIES = "dependencies"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyFolder:
    """A folder that a package manager fills, relative to the tree, and its packages.

    `records`: files that are written anew each time, though no package changed. `rest`: what
    becomes of the files that are neither.
    """

    path: bytes
    packages: tuple[Package, ...]
    records: tuple[bytes, ...] = ()
    rest: Rest

    def claims(self) -> tuple[bytes, ...]:
        """The files and folders that are none of the app's own code."""
        if self.rest is Rest.DEPENDENCIES:
            return (self.path,)
        return (*(top for package in self.packages for top in package.tops), *self.records)


def find(tree: Tree) -> tuple[DependencyFolder, ...]:
    """All dependency folders of `tree` that are not inside another, sorted.

    The tree's own root was asked for as an app, so what no package claims there is its code.
    """
    found = []
    pending = [b""]
    while pending:
        folder = pending.pop()
        if folder and (layout := _layout(tree, folder)):
            found.append(_found(tree, folder, layout, Rest.DEPENDENCIES))
            continue
        claimed: set[bytes] = set()
        if inside := layout_inside(tree, folder):
            found.append(_found(tree, folder, inside, Rest.CODE))
            claimed.update(found[-1].claims())
        paths = (join(folder, name) for name in tree.directories(folder))
        pending += [path for path in paths if path not in claimed]
    return tuple(sorted(found, key=lambda folder: folder.path))


def _found(tree: Tree, folder: bytes, layout: Layout, rest: Rest) -> DependencyFolder:
    packages = layout(tree, folder)
    records = records_in(tree, folder)
    return DependencyFolder(path=folder, packages=tuple(packages), records=records, rest=rest)


def _layout(tree: Tree, folder: bytes) -> Layout | None:
    """How the packages in `folder` lie, or None where its name is no dependency folder's."""
    if b"pyvenv.cfg" in tree.names(folder) and b"pyvenv.cfg" not in tree.directories(folder):
        return venv
    if folder.endswith(b".bundle/ruby"):
        return gems  # and not `.bundle` itself, whose `config` is the app's own
    return _LAYOUTS.get(folder.rpartition(b"/")[2])


_LAYOUTS: dict[bytes, Layout] = {
    b"node_modules": npm,
    b"bower_components": folders,
    b"jspm_packages": jspm,
    b".venv": venv,
    b"site-packages": python,
    b"dist-packages": python,
    b"vendor": vendor,
}
"""Folders by name; a virtual environment of another name is known by its `pyvenv.cfg`."""
