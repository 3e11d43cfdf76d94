"""Directories to push, made of this machine's own files, the same ones every time.

They lie in a cache folder and are made once. Which files are taken is decided by a hash of
their paths, so that each input, of any size, is a fair sample of programs, libraries, data
and documentation. Nothing in them looks to regpush like a dependency folder but `vendor`,
whose folders are the layers below the app's own `src`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from regpush.sources.secrets import by_content, by_name
from tests.bench import debian
from tests.bench.sources import Part, Source, Versions, age

_ROOT = Path("/usr")
_LARGEST = 64 << 20  # bytes; beyond, a single file would decide over a whole measurement
_SECRETS_HEAD = 1 << 20
# Names that regpush, or another tool, gives a meaning.
_SPECIAL = {
    *("node_modules", "bower_components", "jspm_packages", "site-packages", "dist-packages"),
    *("vendor", ".venv", ".bundle", ".git", ".regpushignore", ".dockerignore", "pyvenv.cfg"),
}
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class _Extent:
    size: int
    files: int


def real(cache: Path, size_mb: float, layers: int = 1, smallest: int = 0) -> Versions:
    """Real files of `size_mb` 10^6 bytes in `layers` layers of about the same size.

    None is larger than half a layer, or smaller than `smallest` bytes. Where this machine has
    fewer, they come again below other folders.
    """
    above = f"-from-{smallest}" if smallest else ""
    top = cache / f"real-{size_mb:g}mb-{layers}{above}" / "app"

    def write() -> _Extent:
        total, done, files = int(size_mb * 1e6), 0, 0
        for lap in itertools.count():
            for path, size in _sample():
                if done + size > total or not smallest <= size <= total / layers / 2:
                    continue
                part = done * layers // total
                copied = _copy(path, top / _folder(part, layers) / f"{lap or ''}")
                done += copied
                files += copied > 0
                if done > total - 4096:
                    return _Extent(done, files)
        raise AssertionError("endless")

    extent = _made(top.parent, write)
    return _versions(top, layers, extent)


def tree(cache: Path, size_mb: float) -> Versions:
    """A directory as an app with many dependencies is: its own code, 2 MB, and below
    `vendor` the files of Debian packages, a folder each, together `size_mb` 10^6 bytes."""
    top = cache / f"tree-{size_mb:g}mb" / "app"

    def write() -> _Extent:
        total, done, files = int(size_mb * 1e6), 0, 0
        for path, _ in _sample():
            if path.endswith((".py", ".js", ".c", ".h", ".pl")) and done < 2_000_000:
                done += _copy(path, top / "src")
                files += 1
        for package in sorted(debian.installed().values(), key=lambda one: rank(one.name)):
            sizes = {path: size for path in package.files() if (size := _usable(path)) is not None}
            # One package of a tenth of everything is a base image, not a dependency.
            if sizes and sum(sizes.values()) < total / 10:
                for path, size in sizes.items():
                    if done + size <= total:
                        done += _copy(path, top / "vendor" / package.name)
                        files += 1
            if done > total * 0.99:
                break
        return _Extent(done, files)

    extent = _made(top.parent, write)
    source = Source(
        name=top.parent.name,
        target=top,
        parts=(_part(top, "vendor"), _part(top, "src")),
        size=extent.size,
        files=extent.files,
    )
    return _edited(source, top, top / "vendor")


def small(cache: Path, count: int) -> Source:
    """`count` files of 4 KiB, 100 a folder: random bytes and lines of text in turn."""
    top = cache / f"small-{count}" / "app"

    def write() -> _Extent:
        chance = random.Random(count)
        for number in range(count):
            folder = top / "src" / f"{number // 100:04d}"
            if number % 100 == 0:
                folder.mkdir(parents=True)
            _write(folder / f"{number % 100:02d}", _block(chance, number))
        return _Extent(count * _BLOCK, count)

    return _versions(top, 1, _made(top.parent, write)).first


def large(cache: Path, size_mb: float, count: int = 1) -> Source:
    """`count` files, together `size_mb` 10^6 bytes, of the contents of real ones."""
    top = cache / f"large-{size_mb:g}mb-{count}" / "app"
    size = int(size_mb * 1e6) // count

    def write() -> _Extent:
        (top / "src").mkdir(parents=True)
        contents = itertools.chain.from_iterable(_sample() for _ in itertools.count())
        for number in range(count):
            path, left = top / "src" / f"big{number}", size
            with path.open("wb") as big:
                while left:
                    with open(next(contents)[0], "rb") as file:
                        left -= big.write(file.read(left))
            age(path)
        return _Extent(size * count, count)

    return _versions(top, 1, _made(top.parent, write)).first


def items(cache: Path, count: int) -> Source:
    """A dependency folder of `count` packages of two files of 4 KiB each."""
    top = cache / f"items-{count}" / "app"

    def write() -> _Extent:
        chance = random.Random(count)
        (top / "src").mkdir(parents=True)
        _write(top / "src" / "main", _block(chance, 1))
        for number in range(count):
            package = top / "vendor" / f"p{number:05d}"
            package.mkdir(parents=True)
            for turn, name in enumerate(("code", "data")):
                _write(package / name, _block(chance, turn))
        return _Extent((2 * count + 1) * _BLOCK, 2 * count + 1)

    extent = _made(top.parent, write)
    return Source(
        name=top.parent.name,
        target=top,
        parts=(_part(top, "vendor"), _part(top, "src")),
        size=extent.size,
        files=extent.files,
    )


def changes(source: Source, count: int) -> tuple[Source, ...]:
    """`source` with one file changed, `count` times another one, drawn by chance but the same
    every time."""
    (top,) = {part.base for part in source.parts}
    members = [member for part in source.parts for member in part.members]
    paths = [path for member in members for path in regular_files(top / member)]
    drawn = random.Random(count).sample(paths, count)
    return tuple(
        replace(source, name=f"{source.name}-{number}", edits=(path,))
        for number, path in enumerate(drawn)
    )


def regular_files(folder: Path) -> Iterator[Path]:
    """Every regular file below `folder`, in the same order on every machine."""
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(base, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _versions(top: Path, layers: int, extent: _Extent) -> Versions:
    folders = [_folder(part, layers) for part in range(layers)]
    source = Source(
        name=top.parent.name,
        target=top,
        # Exactly so many: the largest alone, the smallest of them with what is above them.
        flags=("--layers", "size", "--max-layers", str(layers)),
        parts=tuple(_part(top, folder) for folder in folders),
        size=extent.size,
        files=extent.files,
    )
    return _edited(source, top, top / folders[layers // 2])


def _edited(source: Source, top: Path, middle: Path) -> Versions:
    def small_ones(folder: Path) -> Iterator[Path]:
        return (path for path in regular_files(folder) if path.stat().st_size < 100_000)

    own = tuple(itertools.islice(small_ones(top / "src"), 3))
    below = tuple(itertools.islice(small_ones(middle), 1))
    return Versions(
        first=source,
        app=replace(source, name=f"{source.name}-app", edits=own),
        mid=replace(source, name=f"{source.name}-mid", edits=below),
    )


def _folder(part: int, layers: int) -> str:
    """Where part `part` of `layers` lies: the last is the app's own."""
    return "src" if part >= layers - 1 else f"vendor/p{part:03d}"


def _part(top: Path, folder: str) -> Part:
    return Part(base=top.parent, members=(f"{top.name}/{folder}",))


def _made(folder: Path, write: Callable[[], _Extent]) -> _Extent:
    """What `write` made in `folder`, this time or an earlier one; whole or not at all."""
    done = folder / "extent.json"
    if done.exists():
        return _Extent(**json.loads(done.read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    extent = write()
    done.write_text(json.dumps(asdict(extent)))
    os.sync()  # what is not on the disk yet would be written while others are measured
    return extent


def _sample() -> Iterator[tuple[str, int]]:
    """The usable files of this machine and their sizes: folders in the order of their hashes.

    Files of a folder stay together, or there would be nearly as many folders as files.
    """
    paths = [str(path) for path in regular_files(_ROOT)]
    for path in sorted(paths, key=lambda path: (rank(os.path.dirname(path)), path)):
        if (size := _usable(path)) is not None:
            yield path, size


def rank(text: str) -> bytes:
    """A place in an order that is the same everywhere and says nothing."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _usable(path: str) -> int | None:
    """The size of the file at `path`, in bytes, or None for what is left out of inputs.

    That is what regpush itself leaves out of directories too: secrets, compiled Python.
    """
    if path.endswith(".pyc"):
        return None
    try:
        path.encode()
        status = os.lstat(path)
        regular = stat.S_ISREG(status.st_mode) and 0 < status.st_size <= _LARGEST
        if not regular or not os.access(path, os.R_OK):
            return None
        with open(path, "rb") as file:
            name = os.fsencode(path)
            secret = by_name(name) or by_content(name, file.read(_SECRETS_HEAD))
    except (OSError, UnicodeEncodeError):
        return None
    return None if secret else status.st_size


def _copy(path: str, folder: Path) -> int:
    """Copy `path` to below `folder`; its size. Links between files are not kept."""
    names = [f"{name}_" if name in _SPECIAL else name for name in path.split("/")[1:]]
    target = folder.joinpath(*names)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    target.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
    age(target)
    return target.stat().st_size


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    age(path)


def _block(chance: random.Random, number: int) -> bytes:
    """4 KiB: random bytes where `number` is even, else text that compresses well."""
    if number % 2 == 0:
        return chance.randbytes(_BLOCK)
    words = (b"%d layer of file %d, line %d\n" % (chance.getrandbits(16), number, line)
             for line in itertools.count())  # fmt: skip
    text = b""
    while len(text) < _BLOCK:
        text += next(words)
    return text[:_BLOCK]
