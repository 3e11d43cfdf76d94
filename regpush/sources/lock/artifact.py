"""Artifacts, the package files that a lock file lists with hashes, and image items made of them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from regpush.closure import Identity, Item, LockedPackage
from regpush.digest import Digest, canonical_json
from regpush.entry import Entry
from regpush.errors import UsageError, printable

# Secure hash algorithms. The first of them that a lock file states for a package is the one that
# enters the package's identity, so that two lock files with that hash give equal identities.
_SECURE = ("sha256", "sha512", "sha384", "sha3_256", "sha3_384", "sha3_512", "blake2b", "blake2s")

_UNSAID = 256 << 10
"""Assumed size in bytes of a wheel whose size the lock file does not state: a package index's
median."""
_UNPACKED = 3
"""Assumed ratio of a package's unpacked size to the size of its file; the median of 150 large
wheels is 2.9."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionList:
    """The document at `url` in which a package index lists the versions of one package.

    `media_type`: the media type to request it in. `find`: takes the document's bytes and returns
    the URL of one artifact; raises SourceError where the document does not list that artifact.
    """

    url: str = field(repr=False)
    media_type: str
    find: Callable[[bytes], str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The file of a package (a wheel, an npm tarball), as a lock file lists it.

    It is at `url` (http or https), or on this machine at `path`; the other of the two is empty.
    `size`: its size in bytes, None where the lock file does not state it. `listing`: where to look
    up the file's URL if the server has no file at `url`; set only where `url` was guessed, because
    the lock file states none.
    """

    package: LockedPackage
    filename: str
    url: str = field(default="", repr=False)
    path: str = ""
    size: int | None = None
    listing: VersionList | None = None

    @property
    def named(self) -> str:
        """The package's name and version, printable, for messages: `numpy 2.1.0`."""
        return printable(f"{self.package.name} {self.package.version}".strip())


def secure_hashes(hashes: Mapping[str, str], what: str) -> tuple[tuple[str, str], ...]:
    """Return the secure hashes among `hashes` as (algorithm, hex digits), in order of preference.

    `hashes`: hex digits by algorithm, as the lock file states them for the file named `what`. The
    first hash of the result enters the package's identity. Raises UsageError where no hash is
    secure, or where a secure one does not have the right number of hex digits.
    """
    lowered = {name.lower().replace("-", "_"): text.lower() for name, text in hashes.items()}
    found = tuple((name, lowered[name]) for name in _SECURE if name in lowered)
    if not found:
        raise UsageError(
            f"the lock file has no secure hash of {printable(what)}: create the lock file again "
            "with a tool that writes sha256"
        )
    for name, text in found:
        if len(text) != 2 * hashlib.new(name).digest_size or set(text) - set("0123456789abcdef"):
            raise UsageError(
                f"the lock file's {name} hash of {printable(what)} is malformed: create the lock "
                "file again"
            )
    return found


class ArtifactLayout(Struct, frozen=True, kw_only=True):
    """How a package's file is unpacked into the image.

    `path`: the item's path, which ends in the package's name and version. `folder`: the folder of
    the image that contains all files of the package. `rules`: every setting that decides the
    entries; part of recipes. `entries`: reads the package's file at a path of this machine, and
    yields sorted entries.
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
    """Make the image item of `artifact` from what the lock file states, without downloading it.

    `begin`: starts the download; called when the item's layer must be sent. `opened`: waits for the
    download and yields the item's entries. `references`: paths of the items of its dependencies.
    `unsaid`: assumed size in bytes of the artifact where the lock file does not state it.
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
    """Return the identity of a package: sha256 over canonical JSON of its hash and layout rules.

    Identities are part of recipes: a package whose bytes are equal must keep its identity.
    """
    value = {"hash": list(package.hashes[0]), "layout": dict(layout.rules)}
    return Identity.artifact(Digest.of(canonical_json(value)))
