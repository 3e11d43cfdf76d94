"""Packages in a directory, by the files in which package managers describe them.

Such as `package.json`, `NAME-VERSION.dist-info` and the `status` of dpkg. The items of a dependency
folder tell where packages are; their versions, and packages inside others, are known from these
files alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from regpush.closure import Item
from regpush.entry import Entry, OnDisk, Streamed, as_bytes
from regpush.files.filesystem import read_listed

_LARGEST = 16 << 20
"""Bytes of a description that is read, at most: dpkg's status file of a large Debian has a few
million."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BillPackage:
    """A package as its package manager describes it; `kind` is the type of its purl.

    `folder`: its place in the image, without slashes at the ends; for a package without a folder of
    its own (a Python distribution, a Debian package), the place of its description. `qualifiers`:
    those of the purl.
    """

    kind: str
    namespace: str
    name: str
    version: str
    folder: bytes
    qualifiers: tuple[tuple[str, str], ...] = ()

    @property
    def full_name(self) -> str:
        """The name that people use: with the namespace, unless that is a Linux distribution."""
        scoped = self.namespace and self.kind not in ("deb", "apk")
        return f"{self.namespace}/{self.name}" if scoped else self.name


_Reader: TypeAlias = Callable[[Entry, re.Match[bytes]], Iterator[BillPackage]]


def packages_in(item: Item) -> Iterator[BillPackage]:
    """Find the packages that the files of `item` describe, in archive order.

    Malformed descriptions are ignored. Raises SourceError where the item cannot be opened, or
    changed.
    """
    for entry in item.entries():
        if entry.path.endswith(_ENDINGS):
            for pattern, reader in _DESCRIPTIONS:
                if match := pattern.fullmatch(entry.path):
                    yield from (one for one in reader(entry, match) if one.name.strip("/ "))


def _npm(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Read `package.json` (npm documentation, "package.json")."""
    value = _json(entry)
    folder = entry.path.rpartition(b"/")[0]
    if isinstance(value, dict) and isinstance(value.get("version"), str):
        # The folder has another name where the package was installed under an alias.
        name = value.get("name")
        name = name if isinstance(name, str) and name else _text(match[1])
        namespace, _, name = name.rpartition("/")
        yield BillPackage(
            kind="npm", namespace=namespace, name=name, version=value["version"], folder=folder
        )


def _distribution(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Read `name-version.dist-info` or `.egg-info` (PyPA, "Recording installed projects")."""
    yield BillPackage(
        kind="pypi",
        namespace="",
        name=re.sub(r"[-_.]+", "-", _text(match[1])).lower(),
        version=_text(match[2]),
        folder=entry.path.rpartition(b"/")[0],
    )


def _gem(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Read `specifications/rack-3.0.8.gemspec` beside `gems` (RubyGems, "Gem::Specification")."""
    folder = entry.path.rpartition(b"/")[2].removesuffix(b".gemspec")
    yield BillPackage(
        kind="gem",
        namespace="",
        name=_text(match[2]),
        version=_text(match[3]),
        folder=match[1] + b"gems/" + folder,
    )


def _go(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Read `# path version` lines of `vendor/modules.txt` (Go Modules Reference, "Vendoring")."""
    for line in _read(entry).decode("utf-8", "replace").splitlines():
        words = line.split(" ")
        if len(words) > 2 and words[0] == "#":
            namespace, _, name = words[1].rpartition("/")
            yield BillPackage(
                kind="golang",
                namespace=namespace,
                name=name,
                version=words[2],
                folder=match[1] + words[1].encode(),
            )


def _composer(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Read `vendor/composer/installed.json` (Composer documentation, "The vendor directory")."""
    value = _json(entry)
    listed = value.get("packages") if isinstance(value, dict) else value
    for one in listed if isinstance(listed, list) else ():
        whole, version = (one.get("name"), one.get("version")) if isinstance(one, dict) else (0, 0)
        if isinstance(whole, str) and isinstance(version, str):
            namespace, _, name = whole.rpartition("/")
            yield BillPackage(
                kind="composer",
                namespace=namespace,
                name=name,
                version=version,
                folder=match[1] + as_bytes(whole),
            )


def _dpkg(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Read `var/lib/dpkg/status` (dpkg-query(1), "Package status"; deb822(5))."""
    listed = [one for one in _paragraphs(entry) if one.get("Status") == "install ok installed"]
    # Packages that were not changed for Ubuntu have Debian's versions, but never all of them.
    vendor = "ubuntu" if any("ubuntu" in one.get("Version", "") for one in listed) else "debian"
    for one in listed:
        yield from _of_system("deb", vendor, one, ("Package", "Version", "Architecture"), match)


def _apk(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Read `lib/apk/db/installed` (Alpine's wiki, "Apk spec")."""
    for one in _paragraphs(entry):
        yield from _of_system("apk", "alpine", one, ("P", "V", "A"), match)


def _of_system(
    kind: str, vendor: str, said: Mapping[str, str], fields: Sequence[str], match: re.Match[bytes]
) -> Iterator[BillPackage]:
    name, version, architecture = (said.get(field, "") for field in fields)
    if name and version:
        qualifiers = (("arch", architecture),) if architecture else ()
        yield BillPackage(
            kind=kind,
            namespace=vendor,
            name=name,
            version=version,
            folder=match[1] + f"/{name}:{architecture}".encode(),
            qualifiers=qualifiers,
        )


def _paragraphs(entry: Entry) -> list[dict[str, str]]:
    """Read blocks of `Field: value` lines; continuation lines are ignored."""
    text = _read(entry).decode("utf-8", "replace")
    return [
        {
            field: value.strip()
            for field, colon, value in (line.partition(":") for line in block.splitlines())
            if colon and not field.startswith((" ", "\t"))
        }
        for block in re.split(r"\n\s*\n", text)
    ]


def _json(entry: Entry) -> object:
    try:
        value: object = json.loads(_read(entry))
    except (ValueError, RecursionError):
        return None
    return value


def _read(entry: Entry) -> bytes:
    content = entry.content
    if entry.size > _LARGEST:
        return b""
    if isinstance(content, Streamed):
        return b"".join(content.open())
    return read_listed(entry, content) if isinstance(content, OnDisk) else content


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


_ENDINGS = (
    *(b"/package.json", b"/METADATA", b"/PKG-INFO", b".gemspec", b"/modules.txt"),
    *(b"/composer/installed.json", b"/dpkg/status", b"/apk/db/installed"),
)
_DESCRIPTIONS: tuple[tuple[re.Pattern[bytes], _Reader], ...] = (
    (re.compile(rb"(?:.*/)?node_modules/((?:@[^/]+/)?[^/@.][^/]*)/package\.json", re.DOTALL), _npm),
    (
        re.compile(rb"(?:.*/)?([^/-]+)-([^/-]+)(?:-[^/]*)?\.(?:dist|egg)-info/[A-Z-]+", re.DOTALL),
        _distribution,
    ),
    (
        re.compile(rb"(.*/)specifications/([^/]+?)-([0-9][^/-]*)(?:-[^/]*)?\.gemspec", re.DOTALL),
        _gem,
    ),
    (re.compile(rb"((?:.*/)?vendor/)modules\.txt", re.DOTALL), _go),
    (re.compile(rb"((?:.*/)?vendor/)composer/installed\.json", re.DOTALL), _composer),
    (re.compile(rb"((?:.*/)?var/lib/dpkg)/status", re.DOTALL), _dpkg),
    (re.compile(rb"((?:.*/)?lib/apk/db)/installed", re.DOTALL), _apk),
)
