"""Turn a wheel into the image entries that an installer would write.

PyPA, "Binary distribution format". Scripts, RECORD and INSTALLER are included. No code of a wheel
is executed.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from configparser import Error as ConfigParserError
from email.parser import HeaderParser
from functools import partial

from installer.utils import parse_entrypoints
from msgspec import Struct
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from regpush.closure import LockedPackage
from regpush.entry import Deflated, Entry, Kind, Streamed, absolute, as_bytes, image_path
from regpush.errors import SourceError, printable
from regpush.sources.lock.overlaps import Overlaps
from regpush.sources.lock.zipped import ZipMember, blocks, deflated, members, read
from regpush.sources.python.pyc import LIMIT, Compiled, Module
from regpush.sources.python.venv import Environment, file, folders, script

LAYOUT = 1
"""A number in identities; raised with every change by which an equal wheel gives other entries."""

INSTALLER = b"regpush\n"

_SCRIPT_LIMIT = 16 << 20
_SHEBANG = re.compile(rb"#!python(w?)(?=[ \t\r\n])", re.IGNORECASE)
_NAME = re.compile(r"[^/\0\n\r]+")
_REFERENCE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def entries(
    path: str,
    package: LockedPackage,
    environment: Environment,
    overlaps: Overlaps,
    direct_url: bytes = b"",
) -> Iterator[Entry]:
    """Yield the entries of the wheel at `path` as installed in `environment`, sorted by path.

    `overlaps`: told of the wheel's files, to warn about files of two packages. `direct_url`: the
    content of `direct_url.json`, empty for a wheel from an index (PEP 610). Raises SourceError for
    a file that is not a wheel of `package`, and for a malformed wheel.
    """
    named = printable(f"{package.name} {package.version}".strip())
    wheel = _Wheel.open(path, package, f"the wheel of {named}")
    found = {entry.path: (entry, key) for entry, key in wheel.entries(environment, direct_url)}
    # RECORD and INSTALLER cannot overlap: their folder has the package's name and version.
    overlaps.add(named, ((at, key) for at, (_, key) in found.items()))
    every = [*(entry for entry, _ in found.values()), *folders(found, environment.prefix)]
    return iter(sorted(every, key=lambda entry: entry.path))


class _Wheel(Struct, frozen=True, kw_only=True):
    """The wheel at `path`; `what`: its name in errors, `info`: its `.dist-info` folder's name.

    `members`: the files in it, by name.
    """

    path: str
    what: str
    members: dict[str, ZipMember]
    info: str

    @classmethod
    def open(cls, path: str, package: LockedPackage, what: str) -> _Wheel:
        """Read the list of files of the wheel at `path`.

        Raises SourceError where the file is not a wheel, or is a wheel of another package or
        version than `package`.
        """
        found = members(path, what)
        infos = {name.partition("/")[0] for name in found if ".dist-info/" in name}
        infos = {info for info in infos if info.endswith(".dist-info")}
        if len(infos) != 1:
            raise SourceError(
                f"{what} is malformed: it has {len(infos)} .dist-info folders, and must have one"
            )
        wheel = cls(path=path, what=what, members=found, info=infos.pop())
        wheel._check(package)
        return wheel

    def _check(self, package: LockedPackage) -> None:
        name, _, version = self.info.removesuffix(".dist-info").partition("-")
        try:
            same = Version(version) == Version(package.version)
        except InvalidVersion:
            same = version == package.version
        if canonicalize_name(name) != package.name or not (same or not package.version):
            raise SourceError(
                f"{self.what}: the file is a wheel of {printable(name)} {printable(version)}"
            )
        said = HeaderParser().parsestr(self._text("WHEEL")).get("Wheel-Version", "")
        if said.partition(".")[0] != "1":
            raise SourceError(
                f"{self.what} has the wheel format version '{printable(said)}'; only 1.x can be "
                "installed"
            )

    def _text(self, name: str) -> str:
        member = self.members.get(f"{self.info}/{name}")
        if member is None:
            return ""
        return self._read(member).decode("utf-8", "replace")

    def _read(self, member: ZipMember) -> bytes:
        if member.size > _SCRIPT_LIMIT:
            raise SourceError(
                f"{self.what}: {printable(member.name)} in it is larger than 16 MiB, the maximum "
                "for a script or a metadata file"
            )
        return read(self.path, member, self.what)

    def entries(
        self, environment: Environment, direct_url: bytes
    ) -> Iterator[tuple[Entry, object]]:
        """Yield every installed file, unsorted, with a value that is equal for equal contents."""
        hashes = self._recorded()
        rows: list[tuple[str, str, str]] = []
        record = f"{environment.site}/{self.info}/RECORD"
        seen: set[bytes] = set()
        for member in self.members.values():
            if member.name == f"{self.info}/RECORD":
                continue
            at, is_script = self._place(member.name, environment)
            if image_path(at) in seen:
                raise SourceError(f"{self.what} installs two files at {printable(at)}")
            seen.add(image_path(at))
            if is_script:
                entry = self._script(at, member, environment)
                rows.append((at, *_hashed(entry)))
                content = entry.content
                yield entry, content if isinstance(content, bytes) else (member.size, member.crc)
            else:
                entry = self._file(at, member)
                rows.append((at, *(hashes.get(member.name) or _hashed(entry))))
                yield entry, (member.size, member.crc)
        for entry in self._added(environment, direct_url):
            if entry.path not in seen:
                rows.append((absolute(entry.path), *_hashed(entry)))
                yield entry, entry.content
        for one in self._compiled(environment):
            if image_path(one.path) not in seen:
                # Without a hash, as pip and uv record compiled files.
                rows.append((one.path, "", ""))
                name, size, data = image_path(one.path), one.size, one.content
                yield Entry(path=name, kind=Kind.FILE, mode=0o644, size=size, content=data), None
        rows.append((record, "", ""))
        yield file(record, _record(rows, environment.site)), None

    def _place(self, name: str, environment: Environment) -> tuple[str, bool]:
        """Return the image path at which the wheel's file `name` is installed.

        The second value says whether it is a script. Raises SourceError for a file in a folder of
        `.data` that the wheel format does not define.
        """
        data = f"{self.info.removesuffix('.dist-info')}.data/"
        if not name.startswith(data):
            return f"{environment.site}/{name}", False
        kind, _, rest = name.removeprefix(data).partition("/")
        homes = {
            "purelib": environment.site,
            "platlib": environment.site,
            "scripts": environment.bin,
            "data": environment.prefix,
            "headers": environment.headers(self.info.partition("-")[0]),
        }
        if kind not in homes or not rest:
            raise SourceError(
                f"{self.what} contains {printable(name)}: in {printable(data)} a wheel may have "
                f"only the folders {', '.join(homes)}"
            )
        return f"{homes[kind]}/{rest}", kind == "scripts"

    def _file(self, at: str, member: ZipMember) -> Entry:
        # Unpacked when the layer is written: contents of thousands of files would fill the memory.
        read = partial(blocks, self.path, member, self.what)
        packed = Deflated(partial(deflated, self.path, member, self.what), member.crc)
        content = Streamed(read, packed if member.deflated else None)
        return Entry(
            path=image_path(at),
            kind=Kind.FILE,
            mode=0o755 if member.mode & 0o111 else 0o644,
            size=member.size,
            content=content,
        )

    def _script(self, at: str, member: ZipMember, environment: Environment) -> Entry:
        """Make the entry of a script; a `#!python` line is replaced by the environment's Python."""
        head = next(blocks(self.path, member, self.what), b"")
        match = _SHEBANG.match(head)
        if match is None:  # some wheels have binary programs of 50 MB in their scripts folder
            return self._file(at, member)._replace(mode=0o755)
        first, _, rest = self._read(member).partition(b"\n")
        arguments = first[match.end() :].strip()
        shebang = environment.shebang
        if arguments and shebang.count(b"\n") == 1:
            shebang = shebang[:-1] + b" " + arguments + b"\n"
        return file(at, shebang + rest, 0o755)

    def _added(self, environment: Environment, direct_url: bytes) -> Iterator[Entry]:
        """Yield the files that an installer adds: entry points' programs, INSTALLER, direct_url."""
        for name, module, attribute in scripts(self._text("entry_points.txt"), self.what):
            program = script(environment, module, attribute)
            yield file(f"{environment.bin}/{name}", program, 0o755)
        info = f"{environment.site}/{self.info}"
        yield file(f"{info}/INSTALLER", INSTALLER)
        if direct_url:
            yield file(f"{info}/direct_url.json", direct_url)

    def _compiled(self, environment: Environment) -> Sequence[Compiled]:
        """Return the `.pyc` files of the wheel's modules that are installed in site-packages.

        There are none where `environment` has no compiler.
        """
        if environment.compiler is None:
            return ()
        modules = (
            Module(at, partial(read, self.path, member, self.what))
            for member in self.members.values()
            if member.name.endswith(".py") and member.size <= LIMIT
            if (at := self._place(member.name, environment)[0]).startswith(f"{environment.site}/")
        )
        return environment.compiler.compile(self.path, modules)

    def _recorded(self) -> dict[str, tuple[str, str]]:
        """Return the hash and size that the wheel's own RECORD states, as text, by file name."""
        found = {}
        try:
            for row in csv.reader(io.StringIO(self._text("RECORD"))):
                if len(row) >= 3 and row[1] and row[2]:
                    found[row[0]] = row[1], row[2]
        except csv.Error as error:
            raise SourceError(f"{self.what} is malformed: its RECORD is not CSV") from error
        return found


def _hashed(entry: Entry) -> tuple[str, str]:
    """Return hash and size of a file's content, as a RECORD states them: `sha256=…`, `123`."""
    content, sha = entry.content, hashlib.sha256()
    if isinstance(content, Streamed):
        for piece in content.open():
            sha.update(piece)
    elif isinstance(content, bytes):
        sha.update(content)
    digest = base64.urlsafe_b64encode(sha.digest()).rstrip(b"=").decode()
    return f"sha256={digest}", str(entry.size)


def scripts(text: str, what: str) -> Iterator[tuple[str, str, str]]:
    """Parse the `text` of an `entry_points.txt`; yield name, module and attribute of each program.

    Raises SourceError for a malformed file; its message begins with `what`.
    """
    try:
        found = list(parse_entrypoints(text)) if text.strip() else []
    except (ConfigParserError, AssertionError, AttributeError) as error:
        raise SourceError(f"{what}: its entry points are malformed (entry_points.txt)") from error
    for name, module, attribute, _ in found:
        attribute = attribute or ""
        good = _NAME.fullmatch(name) and name not in (".", "..") and not name.startswith(".wh.")
        if not good or not _REFERENCE.fullmatch(module) or not _REFERENCE.fullmatch(attribute):
            raise SourceError(f"{what}: its entry point '{printable(name)}' is malformed")
        yield name, module, attribute


def _record(rows: Iterable[tuple[str, str, str]], site: str) -> bytes:
    """Return the content of a RECORD file.

    `rows`: absolute image path, hash and size of each installed file; the paths are written
    relative to `site`. PyPA, "Recording installed projects".
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    up = len(site.split("/"))
    for path, digest, size in sorted(rows):
        if path.startswith(f"{site}/"):
            relative = path[len(site) + 1 :]
        else:
            common = 0
            for ours, theirs in zip(site.split("/"), path.split("/"), strict=False):
                if ours != theirs:
                    break
                common += 1
            relative = "../" * (up - common) + "/".join(path.split("/")[common:])
        writer.writerow((relative, digest, size))
    return as_bytes(text.getvalue())
