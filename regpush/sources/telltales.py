"""Recognise a dependency folder by its contents, where its name does not tell.

Examples are `pip install --target lib`, the jars of an unpacked Spring Boot application, the output
of `dotnet publish`, a release of Erlang or Elixir. The app's own code may be among the packages or
beside them, so only files that certainly belong to a package are taken for one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from regpush.entry import as_text
from regpush.errors import SourceError
from regpush.files.filesystem import read_small
from regpush.files.listing import join
from regpush.sources.package_layouts import Layout, Package, composer, distributions, gem_home
from regpush.sources.tree import Tree

_DEPS = b".deps.json"


def layout_inside(tree: Tree, folder: bytes) -> Layout | None:
    """Return the layout of the packages in `folder`, by its contents; None if it has none."""
    names, directories = tree.names(folder), tree.directories(folder)
    if any(name.endswith(b".dist-info") for name in directories):
        return distributions
    if b"autoload.php" in names and b"composer" in directories:
        return composer
    if b"gems" in directories and b"specifications" in directories:
        return gem_home
    if any(name.endswith(_DEPS) for name in names):
        return dotnet
    if _jars(tree, folder):
        return jars
    if _applications(tree, folder):
        return applications
    return None


def jars(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield each jar in `folder` as a package, such as `guava-33.0.0-jre.jar` in `BOOT-INF/lib`."""
    for jar in _jars(tree, folder):
        name = re.split(rb"-(?=\d)", jar.removesuffix(b".jar"), maxsplit=1)[0]
        yield _package(join(folder, jar), name, (join(folder, jar),))


def _jars(tree: Tree, folder: bytes) -> list[bytes]:
    """List the names of the jars in `folder`, if it has several and they are most of its files.

    Otherwise the list is empty: a single jar is probably the app itself.
    """
    names = tree.names(folder)
    found = [name for name in names if name.endswith(b".jar")]
    return found if len(found) > 1 and 2 * len(found) > len(names) else []


def applications(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield each Erlang application in `folder` as a package, such as `cowboy-2.10.0`.

    The application with the release's own name (`rel/shop/lib/shop-0.1.0`) is the app itself, and
    left out. OTP design principles, "Releases".
    """
    above = folder.rpartition(b"/")[0]
    started = tree.names(join(above, b"bin")) if b"bin" in tree.directories(above) else ()
    for name, path in _applications(tree, folder):
        if name not in started:
            yield _package(path, name, (path,))


def _applications(tree: Tree, folder: bytes) -> list[tuple[bytes, bytes]]:
    """List name and path of each Erlang application in `folder`: folders that contain an `ebin`."""
    found = []
    for name in tree.directories(folder):
        path = join(folder, name)
        if b"ebin" in tree.directories(path):
            found.append((re.split(rb"-(?=\d)", name, maxsplit=1)[0], path))
    return found


def dotnet(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the .NET packages, and packages of the runtime, that `*.deps.json` files list.

    dotnet/sdk, documentation/specs/runtime-configuration-file.md: `libraries` names the packages,
    `targets` lists the files of each. An assembly is in `folder` itself, a resource in the folder
    of its language, a file of `runtimeTargets` at the path that is stated.
    """
    taken: set[bytes] = set()
    for name in tree.names(folder):
        if not name.endswith(_DEPS):
            continue
        for library, files in _libraries(_json(tree, join(folder, name))):
            paths = {join(folder, file) for file in files}
            tops = tuple(sorted(path for path in paths - taken if _is_file(tree, path)))
            taken.update(tops)
            if tops:
                yield _package(tops[0], library, tops)


def _libraries(value: Mapping[str, Any]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield name and files of each package in a parsed `*.deps.json`.

    Files are relative to the folder of the `*.deps.json`.
    """
    kinds = _mapping(value, "libraries")
    for target in _mapping(value, "targets").values():
        for name, assets in target.items() if isinstance(target, dict) else ():
            kind = _mapping(kinds, name).get("type")
            if kind not in ("package", "runtimepack") or not isinstance(assets, dict):
                continue
            files = [path.rpartition("/")[2] for path in _mapping(assets, "runtime")]
            files += [path.rpartition("/")[2] for path in _mapping(assets, "native")]
            files += _mapping(assets, "runtimeTargets")
            for path, said in _mapping(assets, "resources").items():
                locale = said.get("locale") if isinstance(said, dict) else None
                files.append(f"{locale}/{path.rpartition('/')[2]}")
            yield _bytes(name.partition("/")[0]), [*map(_bytes, files)]


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _json(tree: Tree, path: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(read_small(tree.listing.root, path))
    except (OSError, SourceError, ValueError, RecursionError):
        return {}  # .NET reports a malformed file; here it only means that no package is recognised
    return value if isinstance(value, dict) else {}


def _is_file(tree: Tree, path: bytes) -> bool:
    folder, _, name = path.rpartition(b"/")
    known = tree.listing.folders.get(folder)
    return known is not None and name in known.names and name not in known.folders


def _package(path: bytes, name: bytes, tops: tuple[bytes, ...]) -> Package:
    return Package(name=as_text(name), path=path, tops=tops)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
