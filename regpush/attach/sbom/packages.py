"""Find the packages in a directory by the files that package managers write about them.

Such files are `package.json`, `NAME-VERSION.dist-info/METADATA` and dpkg's `status`. They alone
tell the versions of packages, and which packages lie inside others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from regpush.closure import Item
from regpush.entry import Entry, OnDisk, Streamed, as_bytes
from regpush.files.filesystem import read_listed

_LARGEST = 16 << 20
"""Maximum bytes of a package description; larger files are ignored. The status file of dpkg in a
large Debian system has a few million bytes."""


class BillPackage(Struct, frozen=True, kw_only=True):
    """A package as its package manager describes it.

    `kind`, `namespace` and `qualifiers` are parts of the package URL (ECMA-427). `folder`: path in
    the image without slashes at the ends. A package without a folder of its own (a Python
    distribution, a Debian package) has the path of its description instead.
    """

    kind: str
    namespace: str
    name: str
    version: str
    folder: bytes
    qualifiers: tuple[tuple[str, str], ...] = ()

    @property
    def full_name(self) -> str:
        """`NAMESPACE/NAME`, such as `@types/node`; `NAME` alone for Debian and Alpine packages."""
        scoped = self.namespace and self.kind not in ("deb", "apk")
        return f"{self.namespace}/{self.name}" if scoped else self.name


_Reader: TypeAlias = Callable[[Entry, re.Match[bytes]], Iterator[BillPackage]]


def packages_in(item: Item) -> Iterator[BillPackage]:
    """Yield the packages that the files of `item` describe, in the order of the layer's archive.

    Malformed descriptions are ignored. Raises SourceError if a file of the item cannot be read or
    changed since it was listed.
    """
    for entry in item.entries():
        if entry.path.endswith(_ENDINGS):
            for pattern, reader in _DESCRIPTIONS:
                if match := pattern.fullmatch(entry.path):
                    yield from (one for one in reader(entry, match) if one.name.strip("/ "))


def _npm(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Yield the npm package that a `package.json` describes (npm documentation, "package.json")."""
    value = _json(entry)
    folder = entry.path.rpartition(b"/")[0]
    if isinstance(value, dict) and isinstance(value.get("version"), str):
        # npm can install a package under an alias: then the folder's name is not the package's.
        name = value.get("name")
        name = name if isinstance(name, str) and name else _text(match[1])
        namespace, _, name = name.rpartition("/")
        yield BillPackage(
            kind="npm", namespace=namespace, name=name, version=value["version"], folder=folder
        )


def _distribution(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Yield the Python package of a folder `NAME-VERSION.dist-info` or `.egg-info`.

    PyPA, "Recording installed projects".
    """
    yield BillPackage(
        kind="pypi",
        namespace="",
        name=re.sub(r"[-_.]+", "-", _text(match[1])).lower(),
        version=_text(match[2]),
        folder=entry.path.rpartition(b"/")[0],
    )


def _gem(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Yield the gem of a file such as `specifications/rack-3.0.8.gemspec`.

    The gem's files are in `gems/` beside `specifications/` (RubyGems, "Gem::Specification").
    """
    folder = entry.path.rpartition(b"/")[2].removesuffix(b".gemspec")
    yield BillPackage(
        kind="gem",
        namespace="",
        name=_text(match[2]),
        version=_text(match[3]),
        folder=match[1] + b"gems/" + folder,
    )


def _go(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Yield the Go modules that `vendor/modules.txt` lists, in lines `# PATH VERSION`.

    Go Modules Reference, "Vendoring".
    """
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
    """Yield the PHP packages that `vendor/composer/installed.json` lists.

    Composer documentation, "The vendor directory".
    """
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
    """Yield the installed Debian packages that `var/lib/dpkg/status` lists.

    dpkg-query(1), "Package status"; deb822(5).
    """
    listed = [one for one in _paragraphs(entry) if one.get("Status") == "install ok installed"]
    # Ubuntu keeps Debian's version for packages that it does not change, but it changes some in
    # every system: one version with "ubuntu" shows that the system is Ubuntu.
    vendor = "ubuntu" if any("ubuntu" in one.get("Version", "") for one in listed) else "debian"
    for one in listed:
        yield from _of_system("deb", vendor, one, ("Package", "Version", "Architecture"), match)


def _apk(entry: Entry, match: re.Match[bytes]) -> Iterator[BillPackage]:
    """Yield the Alpine packages that `lib/apk/db/installed` lists (Alpine's wiki, "Apk spec")."""
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
    """Read a file of `Field: value` lines in blocks separated by empty lines, one dict a block.

    Continuation lines, which begin with a space or tab, are ignored.
    """
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
