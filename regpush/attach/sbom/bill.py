"""The bill of an image: its components, before they are written in an SBOM format.

Each store item and each package in a directory is a component. So is the app's own code, and each
item of a dependency folder that belongs to no package. Items that regpush generates, such as
`/etc/passwd`, are not components.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from uuid import NAMESPACE_URL, UUID, uuid5

from msgspec import Struct

from regpush.attach.sbom.packages import BillPackage, packages_in
from regpush.closure import Closure, Identity, Item, LockedPackage, Role
from regpush.digest import Digest
from regpush.entry import absolute, as_bytes, image_path
from regpush.errors import printable
from regpush.history.causes import version
from regpush.image.image import Ancestor, Image
from regpush.layering.plan import base_name

_OUTPUT = re.compile(r"(.*)-(bin|data|debug|dev|devdoc|doc|info|lib|man|out|static)", re.ASCII)
"""A version followed by the name of a Nix output, such as `3.0.13-dev`."""

_NPM_FOLDER = re.compile(r".*/node_modules/((?:@[^/]+/)?[^/@.][^/]*)", re.DOTALL)


class Purpose(Enum):
    """The kind of a component: the app's own code, a package, or loose files."""

    APPLICATION = "application"
    LIBRARY = "library"
    FILES = "files"
    """The files of a dependency folder that belong to no package."""


class Purl(Struct, frozen=True, kw_only=True):
    """The parts of a package URL (ECMA-427), not yet encoded."""

    kind: str
    namespace: str = ""
    name: str
    version: str = ""
    qualifiers: tuple[tuple[str, str], ...] = ()


class Component(Struct, frozen=True, kw_only=True):
    """A component of an image: a package, the app's own code, or loose files.

    `ref` identifies the component in its bill: letters, digits, dots and dashes, derived from
    `path` alone. `version` is empty if unknown. `path`: absolute path in the image. `identities`:
    the identities of the component's items. `depends_on`: refs of other components, sorted.
    `hashes`: pairs of algorithm and hex digits, which the lock file states for the package's
    archive.
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


class Bill(Struct, frozen=True, kw_only=True):
    """The components of the image `name` (`registry/repository`) with the manifest `digest`.

    `created`: the creation time in the image's config, with time zone. `components` are sorted by
    ref. `roots`: the refs of the components that the user named, and of those that no other
    component depends on. `ancestor`: the base image, whose components are not listed.
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
        """The package URL of the image."""
        return image_purl(self.name, self.digest)

    @classmethod
    def of(cls, closure: Closure, image: Image, name: str) -> Bill:
        """List the components of `image` in the repository `name`, which was made of `closure`.

        Reads `package.json`, `METADATA` and the like in a directory; knows locked packages from the
        lock file, without fetching them. Raises SourceError for a file that cannot be read.
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
    """Return the package URL (type `oci`) of the image with the manifest `digest`.

    `name`: `registry/repository`; a tag or digest behind it is ignored.
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
    # No purl type is registered for Nix or Guix. The type proposed for Nix needs an attribute of
    # nixpkgs, which a store path does not contain.
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
    """Yield the components of a directory: packages, files of no package, and the app's code.

    `locked`: the components known from a lock file. The app's code depends on each package, of the
    directory or locked, that no other component depends on.
    """
    inside = {item.path: tuple(packages_in(item)) for item in items}
    homes = _package_of_each(items, inside)
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


def _package_of_each(
    items: Sequence[Item], inside: Mapping[str, Sequence[BillPackage]]
) -> dict[str, BillPackage]:
    """Return the package of each item that is or belongs to a package, by the item's path.

    `inside`: the packages that each item's files describe, by the item's path.
    """
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
    """Return the npm package whose folder below `node_modules` is `item`, without a version.

    None if `item` is no such folder.
    """
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
    """Return the ref of the component at `path`, such as `flask-1f0c3a5e9b42`.

    The last name of `path` makes the ref readable; 12 hex digits of the path's SHA-256 make it
    unique.
    """
    last = re.sub(r"[^A-Za-z0-9.]+", "-", path.rpartition("/")[2]).strip("-") or "root"
    digest = hashlib.sha256(as_bytes(path)).hexdigest()
    return f"{last}-{digest[:12]}"
