"""Find the dependency folders in a directory (`node_modules`, `site-packages`) and their packages.

Each package becomes an item, because most packages stay equal from one version of the app to the
next. A dependency folder is recognised by its name or by its contents.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

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
    """What the files of a dependency folder are that belong to no package.

    DEPENDENCIES: in a folder that was recognised by its name; only a package manager writes to it.
    CODE: the app's own code, in a folder that was recognised by its contents; such code may be
    beside the packages.
    """

    DEPENDENCIES = "dependencies"
    CODE = "code"


class DependencyFolder(Struct, frozen=True, kw_only=True):
    """A folder that a package manager fills, and its packages; paths are relative to the tree.

    `records`: paths of files that differ after every installation, although no package changed; see
    `records`. `rest`: what the remaining files are.
    """

    path: bytes
    packages: tuple[Package, ...]
    records: tuple[bytes, ...] = ()
    rest: Rest

    def claims(self) -> tuple[bytes, ...]:
        """Return the topmost paths in the folder that are not the app's own code."""
        if self.rest is Rest.DEPENDENCIES:
            return (self.path,)
        return (*(top for package in self.packages for top in package.tops), *self.records)


def find(tree: Tree) -> tuple[DependencyFolder, ...]:
    """List the dependency folders of `tree` that are not inside another one, sorted by path.

    The tree's root is never recognised by its name, because it is the app: files in it that belong
    to no package are the app's own code.
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
    """Return the layout of the packages in `folder`, by its name or a `pyvenv.cfg` in it.

    None where neither is known.
    """
    if b"pyvenv.cfg" in tree.names(folder) and b"pyvenv.cfg" not in tree.directories(folder):
        return venv
    if folder.endswith(b".bundle/ruby"):
        return gems  # `.bundle` itself is no dependency folder: its `config` is the app's own
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
"""The layout of packages by a dependency folder's name."""
