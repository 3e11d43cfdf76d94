"""Find the dependency folders in a directory, and the packages in each.

A package stays the same from one version of the app to the next, so each becomes an item. A
dependency folder is recognised by its name or by its contents.
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
    """How the files of a dependency folder that belong to no package are treated.

    DEPENDENCIES: as dependencies, where the folder's name tells that only a package manager writes
    to it. CODE: as the app's own code, where the folder was recognised by its contents, because
    such code may be beside the packages.
    """

    DEPENDENCIES = "dependencies"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyFolder:
    """A folder that a package manager fills, relative to the tree, and its packages.

    `records`: files that installers write anew each time, although no package changed. `rest`: what
    the remaining files are.
    """

    path: bytes
    packages: tuple[Package, ...]
    records: tuple[bytes, ...] = ()
    rest: Rest

    def claims(self) -> tuple[bytes, ...]:
        """Return the paths in the folder that are not the app's own code."""
        if self.rest is Rest.DEPENDENCIES:
            return (self.path,)
        return (*(top for package in self.packages for top in package.tops), *self.records)


def find(tree: Tree) -> tuple[DependencyFolder, ...]:
    """Find all dependency folders of `tree` that are not inside another, sorted.

    The tree's root is the app, whatever its name: files in the root that belong to no package are
    own code.
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
    """Decide the layout of packages by the folder's name, or a `pyvenv.cfg` in the folder.

    None where neither tells a layout.
    """
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
"""Layouts by the folder's name; a virtual environment may also have another name."""
