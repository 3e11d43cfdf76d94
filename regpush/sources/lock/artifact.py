"""Files that a lock lists with their hashes, and the items of an image made of them. Pure."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from regpush.closure import Identity, Item, LockedPackage
from regpush.digest import Digest, canonical_json
from regpush.entry import Entry
from regpush.errors import UsageError, printable

# The first of these that a lock has decides the identity, so that locks with it agree.
_SECURE = ("sha256", "sha512", "sha384", "sha3_256", "sha3_384", "sha3_512", "blake2b", "blake2s")

_UNSAID = 256 << 10
"""Assumed bytes of a wheel whose size the lock does not state: the median of an index."""
_UNPACKED = 3
"""How many times larger a package is than its file: 2.9 in the median of 150 large wheels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionList:
    """An index's list of a package's versions: at `url`, requested as `media_type`.

    `find`: the URL of the artifact in the bytes of that list; raises SourceError where it is
    missing.
    """

    url: str = field(repr=False)
    media_type: str
    find: Callable[[bytes], str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The file `filename` with `package`, at a `url` (http or https) or at a local `path`.

    The other of both is empty. `size`: its bytes, None where the lock does not state them.
    `listing`: tells the URL if nothing is at `url`, where the lock did not state `url`.
    """

    package: LockedPackage
    filename: str
    url: str = field(default="", repr=False)
    path: str = ""
    size: int | None = None
    listing: VersionList | None = None

    @property
    def named(self) -> str:
        """Name and version for people, such as `numpy 2.1.0`."""
        return printable(f"{self.package.name} {self.package.version}".strip())


def secure_hashes(hashes: Mapping[str, str], what: str) -> tuple[tuple[str, str], ...]:
    """Select the secure ones of `hashes` (hex digits by algorithm), the decisive one first.

    Raises UsageError where none is secure, or one is not a valid hash; `what` names the file.
    """
    lowered = {name.lower().replace("-", "_"): text.lower() for name, text in hashes.items()}
    found = tuple((name, lowered[name]) for name in _SECURE if name in lowered)
    if not found:
        raise UsageError(
            f"the lock has no secure hash of {printable(what)}: lock it again, with a tool that "
            "writes sha256"
        )
    for name, text in found:
        if len(text) != 2 * hashlib.new(name).digest_size or set(text) - set("0123456789abcdef"):
            raise UsageError(
                f"the lock's hash of {printable(what)} is not a valid {name} hash: lock it again"
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactLayout:
    """Where the contents of a package's file are in the image.

    `path`: the item's path, which ends in the package's name and version. `folder`: the folder of
    the image that contains all of it. `rules`: everything else that decides the entries; part of
    recipes. `entries`: reads the file at a path, and gives sorted entries.
    """

    path: str
    folder: str
    rules: Mapping[str, Any]
    entries: Callable[[str], Iterator[Entry]]


def item_of(
    artifact: Artifact,
    layout: ArtifactLayout,
    *,
    opened: Callable[[Artifact, ArtifactLayout], Iterator[Entry]],
    begin: Callable[[Artifact], object],
    references: tuple[str, ...] = (),
    unsaid: int = _UNSAID,
) -> Item:
    """Make the item of `artifact` from the lock alone, before its file is downloaded.

    When the item's layer must be sent, `begin` downloads its file and `opened` gives its entries.
    `unsaid`: assumed bytes of the file where the lock does not state them.
    """
    package = artifact.package
    return Item(
        path=layout.path,
        name=package.name,
        origin=package.name,
        identity=_identity(package, layout),
        size=_UNPACKED * (unsaid if artifact.size is None else artifact.size),
        references=references,
        entries=functools.partial(opened, artifact, layout),
        ahead=functools.partial(begin, artifact),
        locked=package,
        folder=layout.folder,
    )


def _identity(package: LockedPackage, layout: ArtifactLayout) -> Identity:
    """Hash what decides the item's bytes: sha256 over canonical JSON.

    Part of recipes: it must not change while the bytes stay equal.
    """
    value = {"hash": list(package.hashes[0]), "layout": dict(layout.rules)}
    return Identity.artifact(Digest.of(canonical_json(value)))
