"""Recognise packages by the contents of a folder whose name says nothing.

Examples are `pip install --target lib`, jars beside an unpacked Spring Boot application, output of
`dotnet publish`, a release of Erlang or Elixir. The app's own code is among the packages or beside
them, so only what is certainly a package counts as one.
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
    """Find the layout of packages in `folder` by its contents; None for no packages."""
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
    """Yield each jar, as `guava-33.0.0-jre.jar` in `BOOT-INF/lib` or `target/dependency`."""
    for jar in _jars(tree, folder):
        name = re.split(rb"-(?=\d)", jar.removesuffix(b".jar"), maxsplit=1)[0]
        yield _package(join(folder, jar), name, (join(folder, jar),))


def _jars(tree: Tree, folder: bytes) -> list[bytes]:
    """List the jars in `folder`, if there are several and they are most of its contents.

    Otherwise the list is empty: a single jar is an app and no dependency.
    """
    names = tree.names(folder)
    found = [name for name in names if name.endswith(b".jar")]
    return found if len(found) > 1 and 2 * len(found) > len(names) else []


def applications(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield each Erlang application, `cowboy-2.10.0` or `cowboy`, with modules in `ebin`.

    OTP design principles, "Releases". The application that the release is named after is the app
    itself, and no package: `rel/shop/lib/shop-0.1.0`.
    """
    above = folder.rpartition(b"/")[0]
    started = tree.names(join(above, b"bin")) if b"bin" in tree.directories(above) else ()
    for name, path in _applications(tree, folder):
        if name not in started:
            yield _package(path, name, (path,))


def _applications(tree: Tree, folder: bytes) -> list[tuple[bytes, bytes]]:
    """List name and path of each application of Erlang in `folder`."""
    found = []
    for name in tree.directories(folder):
        path = join(folder, name)
        if b"ebin" in tree.directories(path):
            found.append((re.split(rb"-(?=\d)", name, maxsplit=1)[0], path))
    return found


def dotnet(tree: Tree, folder: bytes) -> Iterator[Package]:
    """Yield the packages and parts of the runtime that the `*.deps.json` of a folder list.

    dotnet/sdk, documentation/specs/runtime-configuration-file.md: `libraries` says what is a
    package, `targets` lists the files of each. An assembly is in the folder itself, a resource in
    the folder of its language, a file of `runtimeTargets` at its own path.
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
    """Yield each package of a `*.deps.json`, with its files relative to the publish folder."""
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
        return {}  # a malformed file only matters to .NET, which reports it
    return value if isinstance(value, dict) else {}


def _is_file(tree: Tree, path: bytes) -> bool:
    folder, _, name = path.rpartition(b"/")
    known = tree.listing.folders.get(folder)
    return known is not None and name in known.names and name not in known.folders


def _package(path: bytes, name: bytes, tops: tuple[bytes, ...]) -> Package:
    return Package(name=as_text(name), path=path, tops=tops)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
