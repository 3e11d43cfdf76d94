"""The components of an image, independent of the format that will describe them.

A component for each store item and for each package in a directory; one for the app's own code, and
one for files of a dependency folder that belong to no package. Items that regpush generates are no
components.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import NAMESPACE_URL, UUID, uuid5

from regpush.attach.sbom.packages import BillPackage, packages_in
from regpush.closure import Closure, Identity, Item, LockedPackage, Role
from regpush.digest import Digest
from regpush.entry import absolute, as_bytes, image_path
from regpush.errors import printable
from regpush.history.causes import version
from regpush.image.image import Ancestor, Image
from regpush.layering.plan import base_name

_OUTPUT = re.compile(r"(.*)-(bin|data|debug|dev|devdoc|doc|info|lib|man|out|static)", re.ASCII)
"""A version followed by the name of an output, as in nixpkgs' store names."""

_NPM_FOLDER = re.compile(r".*/node_modules/((?:@[^/]+/)?[^/@.][^/]*)", re.DOTALL)


class Purpose(Enum):
    """What a component is for."""

    APPLICATION = "application"
    LIBRARY = "library"
    FILES = "files"
    """The files of a dependency folder that belong to no package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purl:
    """The parts of a package URL (ECMA-427), not yet encoded."""

    kind: str
    namespace: str = ""
    name: str
    version: str = ""
    qualifiers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A component of an image.

    `ref` identifies it in its bill: letters, digits, dots and dashes, equal for equal components in
    every image. `version` is empty if unknown. `path`: its place in the image. `identities`: those
    of its items. `depends_on`: refs of other components, sorted. `hashes`: algorithm and hex digits
    of the archive that it was unpacked from, as its lock file states them.
    """

    ref: str
    purpose: Purpose
    name: str
    version: str
    purl: Purl | None
    path: str
    identities: tuple[Identity, ...]
    depends_on: tuple[str, ...]
    hashes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The components of the image `name` (`registry/repository`) with the manifest `digest`.

    `created`: a time with its zone, from the image. `components` are sorted by ref; `roots` are the
    refs of components that the user asked for. `ancestor`: the base image, whose own components are
    not listed.
    """

    name: str
    digest: Digest
    platform: str
    created: datetime
    components: tuple[Component, ...]
    roots: tuple[str, ...]
    ancestor: Ancestor | None = None

    @property
    def uuid(self) -> UUID:
        """A UUID derived from the image's name and digest."""
        return uuid5(NAMESPACE_URL, f"https://{self.name}@{self.digest}")

    @property
    def purl(self) -> Purl:
        """The image itself."""
        return image_purl(self.name, self.digest)

    @classmethod
    def of(cls, closure: Closure, image: Image, name: str) -> Bill:
        """Make the bill of `closure`, of which `image` in the repository `name` was made.

        Reads the descriptions of packages in a directory; fetches nothing for locked packages.
        Raises SourceError where a description cannot be read.
        """
        items = [item for item in closure.items if item.role is not Role.GENERATED]
        stored = [_of_store(item) for item in items if item.in_store]
        locked = [
            _of_lock(item, item.locked) for item in items if item.locked and not item.in_store
        ]
        others = [item for item in items if not item.in_store and not item.locked]
        listed = _of_directory(others, locked)
        components = sorted([*stored, *locked, *listed], key=lambda one: one.ref)
        asked_for = {_ref(path) for path in closure.roots}
        referred = {ref for one in components for ref in one.depends_on}
        roots = [one.ref for one in components if one.ref in asked_for or one.ref not in referred]
        return cls(
            name=name,
            digest=image.descriptor.digest,
            platform=str(image.platform),
            created=datetime.fromisoformat(json.loads(image.config)["created"]),
            components=tuple(components),
            roots=tuple(roots),
            ancestor=image.ancestor,
        )


def image_purl(name: str, digest: Digest) -> Purl:
    """Return the package URL of an image in a repository (type `oci`).

    `name` may have a tag.
    """
    repository = name.partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    return Purl(
        kind="oci",
        name=repository.rpartition("/")[2],
        version=str(digest),
        qualifiers=(("repository_url", repository),),
    )


def _of_store(item: Item) -> Component:
    said = version(item.name, base_name(item))
    # No type of purl is registered for Nix or Guix; the one proposed for Nix names an attribute
    # of nixpkgs, which no store path tells.
    qualifiers = [("store_path", item.path)]
    if output := _OUTPUT.fullmatch(said):
        said = output[1]
        qualifiers.insert(0, ("output", output[2]))
    return Component(
        ref=_ref(item.path),
        purpose=Purpose.LIBRARY,
        name=item.name,
        version=said,
        purl=Purl(kind="generic", name=item.name, version=said, qualifiers=tuple(qualifiers)),
        path=item.path,
        identities=(item.identity,) if item.identity else (),
        depends_on=tuple(sorted(map(_ref, item.references))),
    )


def _of_lock(item: Item, package: LockedPackage) -> Component:
    namespace, _, name = package.name.rpartition("/")
    return Component(
        ref=_ref(item.path),
        purpose=Purpose.LIBRARY,
        name=printable(package.name),
        version=printable(package.version),
        purl=Purl(kind=package.kind, namespace=namespace, name=name, version=package.version),
        path=printable(item.path),
        identities=(item.identity,) if item.identity else (),
        depends_on=tuple(sorted(map(_ref, item.references))),
        hashes=package.hashes,
    )


def _of_directory(items: Sequence[Item], locked: Sequence[Component]) -> Iterator[Component]:
    """Return components for a directory: packages, files of no package, and the app's code.

    The app depends on the packages that no other component needs. `locked`: components that are
    known from a lock file.
    """
    inside = {item.path: tuple(packages_in(item)) for item in items}
    homes = _homes(items, inside)
    found = dict.fromkeys([*homes.values(), *(one for some in inside.values() for one in some)])
    owned: dict[BillPackage, list[Item]] = {package: [] for package in found}
    held: dict[BillPackage, set[str]] = {package: set() for package in found}
    for item in items:
        if home := homes.get(item.path):
            owned[home].append(item)
            held[home] |= {_ref_of(one) for one in inside[item.path] if one != home}
    for package in found:
        yield _of_package(package, owned[package], held[package])
    own = [item for item in items if item.role.is_code and item.path not in homes]
    rest = [item for item in items if not item.role.is_code and item.path not in homes]
    for item in rest:
        yield _of_files(item, Purpose.FILES, [item], ())
    if own:
        below = {ref for refs in held.values() for ref in refs}
        below |= {ref for one in locked for ref in one.depends_on}
        needed = {_ref_of(package) for package in found} | {one.ref for one in locked}
        needed -= below
        yield _of_files(own[0], Purpose.APPLICATION, own, sorted(needed))


def _homes(
    items: Sequence[Item], inside: Mapping[str, Sequence[BillPackage]]
) -> dict[str, BillPackage]:
    """Return, for each item by its path, the package that it is or belongs to."""
    by_folder = {absolute(one.folder): one for packages in inside.values() for one in packages}
    homes: dict[str, BillPackage] = {}
    for item in items:
        if not item.role.is_code:
            distributions = [one for one in inside[item.path] if one.kind == "pypi"]
            said = by_folder.get(item.path) or _undescribed(item)
            if home := said or next(iter(distributions), None):
                homes[item.path] = home
    for item in items:
        if not item.role.is_code and item.path not in homes:
            above = item.path
            while above := above.rpartition("/")[0]:
                if above in homes:
                    homes[item.path] = homes[above]
                    break
    return homes


def _undescribed(item: Item) -> BillPackage | None:
    """Return a package of npm known by its folder alone, without a version; else None."""
    if match := _NPM_FOLDER.fullmatch(item.path):
        namespace, _, name = match[1].rpartition("/")
        folder = image_path(item.path)
        return BillPackage(kind="npm", namespace=namespace, name=name, version="", folder=folder)
    return None


def _of_package(package: BillPackage, items: Sequence[Item], held: Collection[str]) -> Component:
    return Component(
        ref=_ref_of(package),
        purpose=Purpose.LIBRARY,
        name=printable(package.full_name),
        version=printable(package.version),
        purl=Purl(
            kind=package.kind,
            namespace=package.namespace,
            name=package.name,
            version=package.version,
            qualifiers=package.qualifiers,
        ),
        path=printable(absolute(package.folder)),
        identities=tuple(item.identity for item in items if item.identity),
        depends_on=tuple(sorted(held)),
    )


def _of_files(
    first: Item, purpose: Purpose, items: Sequence[Item], needed: Iterable[str]
) -> Component:
    return Component(
        ref=_ref(first.path),
        purpose=purpose,
        name=printable(first.name),
        version="",
        purl=None,
        path=printable(first.path),
        identities=tuple(item.identity for item in items if item.identity),
        depends_on=tuple(needed),
    )


def _ref_of(package: BillPackage) -> str:
    return _ref(absolute(package.folder))


def _ref(path: str) -> str:
    """Make a ref of the last component of `path`, to be readable, and a digest, to be unique."""
    last = re.sub(r"[^A-Za-z0-9.]+", "-", path.rpartition("/")[2]).strip("-") or "root"
    digest = hashlib.sha256(as_bytes(path)).hexdigest()
    return f"{last}-{digest[:12]}"
