"""A store with a real closure: Debian packages of this machine as its items, dpkg's
dependencies as its references, registered with Nix where `nix-store` is there.

Three versions: in the second only the app differs; in the third a library in the middle was
rebuilt, and with it everything that refers to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regpush.concurrency import Cancellation
from regpush.layering.plan import PlanContext
from regpush.layering.strategies import plan
from regpush.sources import closure_file
from regpush.sources.nar import nar_hash
from regpush.sources.tools import Workshop
from tests.bench import debian
from tests.bench.debian import Package
from tests.bench.inputs import rank, regular_files
from tests.bench.sources import Part, Source, Versions

_ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"  # of Nix's base 32
_LARGEST_SHARE = 5  # no item is more than a fifth of the closure
_VERSIONS = ("v1", "v2", "v3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Valid:
    """A store path as `nix path-info --json` tells it; `size` of its NAR in bytes."""

    path: str
    hash: str
    size: int
    references: tuple[str, ...]


def made(cache: Path, size_mb: float, layers: int) -> Versions:
    """A closure of about `size_mb` 10^6 bytes, made once, in at most `layers` layers."""
    folder = cache / f"closure-{size_mb:g}mb"
    if not (folder / "v3.graph.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _make(folder, size_mb)
        os.sync()
    return found(folder, layers)


def found(folder: Path, layers: int) -> Versions:
    """The closure in `folder`: `result-v1` holds a store path, `v1.graph.json` its closure,
    and so for v2 and v3; `env.sh` exports what Nix wants to know to find the store."""
    environment = {}
    if (folder / "env.sh").exists():
        for line in (folder / "env.sh").read_text().splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            environment[name] = value.strip("'\"")
    first, second, third = (_source(folder, version, layers, environment) for version in _VERSIONS)
    return Versions(first=first, app=second, mid=third)


def _source(folder: Path, version: str, layers: int, environment: Mapping[str, str]) -> Source:
    graph = folder / f"{version}.graph.json"
    with Workshop(lambda _: None, Cancellation()) as workshop:
        closure = closure_file.resolve(str(graph), (), workshop)
    planned = plan(closure, "popularity", PlanContext(max_layers=layers))
    parts = [tuple(item.path.lstrip("/") for item in layer.items) for layer in planned.layers]
    files = [path for item in closure.items for path in regular_files(Path(item.path))]
    target = (folder / f"result-{version}").read_text().strip() if environment else graph
    return Source(
        name=f"{folder.name}-{rank(str(folder)).hex()[:8]}-{version}-{layers}",
        target=Path(target),
        flags=("--layers", "popularity", "--max-layers", str(layers)),
        parts=tuple(Part(base=Path("/"), members=members) for members in parts),
        size=sum(path.stat().st_size for path in files),
        files=len(files),
        environment=environment,
    )


def _make(folder: Path, size_mb: float) -> None:
    store = folder / "nix" / "store"
    store.mkdir(parents=True)
    packages = _chosen(int(size_mb * 1e6))
    middle = _middle(packages)
    valid: dict[str, Valid] = {}
    for version, app, salt in (("v1", "1", ""), ("v2", "2", ""), ("v3", "1", "rebuilt")):
        top = _build(store, packages, app, middle, salt, valid)
        (folder / f"result-{version}").write_text(f"{top}\n")
        _write_graph(folder / f"{version}.graph.json", top, valid)
    if shutil.which("nix-store"):
        _register(folder, valid.values())


def _chosen(total: int) -> list[Package]:
    """Packages of `total` bytes together, with all they depend on, dependencies first."""
    chosen: dict[str, Package] = {}
    size = 0
    for name in sorted(debian.installed(), key=rank):
        fresh = [one for one in _with_dependencies(name) if one.name not in chosen]
        sizes = [_size(one) for one in fresh]
        fits = size + sum(sizes) <= total * 1.02
        if fits and max(sizes, default=0) <= total / _LARGEST_SHARE:
            chosen |= {one.name: one for one in fresh}
            size += sum(sizes)
    return list(chosen.values())


def _with_dependencies(root: str) -> list[Package]:
    """The closure of `root`, dependencies first; a reference back to what is being visited,
    part of a cycle, is left out later."""
    ordered: dict[str, Package] = {}
    visited = set()
    pending: list[tuple[str, bool]] = [(root, False)]
    while pending:
        name, done = pending.pop()
        package = debian.installed().get(name)
        if package is None:
            continue  # virtual, or an alternative that is not installed
        if done:
            ordered.setdefault(name, package)
        elif name not in visited:
            visited.add(name)
            pending.append((name, True))
            pending += [(dependency, False) for dependency in sorted(package.depends)]
    return list(ordered.values())


def _files(package: Package) -> Iterator[tuple[str, os.stat_result]]:
    """The files and links of `package` that can be in a store."""
    for path in package.files():
        try:
            path.encode()
            status = os.lstat(path)
        except (OSError, UnicodeEncodeError):
            continue
        regular = stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK)
        if path.startswith("/usr/") and (regular or stat.S_ISLNK(status.st_mode)):
            yield path, status


def _size(package: Package) -> int:
    return sum(status.st_size for _, status in _files(package))


def _middle(packages: Sequence[Package]) -> str:
    """The package that a quarter of the others refer to, as nearly as there is one."""
    dependents: dict[str, set[str]] = {package.name: set() for package in packages}
    for package in reversed(packages):
        for dependency in package.depends:
            if dependency in dependents:
                dependents[dependency] |= {package.name} | dependents[package.name]
    wanted = len(packages) / 4
    return min(dependents, key=lambda name: (abs(len(dependents[name]) - wanted), name))


def _build(
    store: Path,
    packages: Sequence[Package],
    app: str,
    middle: str,
    salt: str,
    valid: dict[str, Valid],
) -> str:
    """Add to `store` and `valid` what is missing of one version; the path of its app."""
    built: dict[str, str] = {}
    for package in packages:
        references = [built[name] for name in package.depends if name in built]
        own_salt = salt if package.name == middle else ""
        path = _path(store, f"{package.name}-{package.version}", references, own_salt)
        if path not in valid:
            for file, _ in _files(package):
                target = Path(path + file.removeprefix("/usr"))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target, follow_symlinks=False)
            _finish(path, references, own_salt, valid)
        built[package.name] = path
    top = _path(store, f"app-{app}", list(built.values()), app)
    if top not in valid:
        _write_app(Path(top), app)
        _finish(top, list(built.values()), app, valid)
    return top


def _path(store: Path, name: str, references: Sequence[str], salt: str) -> str:
    text = "\n".join([name, salt, *sorted(references)])
    digits = hashlib.sha256(text.encode()).digest()
    base = "".join(_ALPHABET[digit % 32] for digit in digits)
    return str(store / f"{base}-{name.replace(':', '.').replace('~', '.')}")


def _write_app(top: Path, version: str) -> None:
    """300 modules of Python's library and 2 MB that do not compress; version 2 differs in 3."""
    library = Path(os.__file__).parent
    modules = sorted(path for path in regular_files(library) if path.suffix == ".py")[:300]
    for number, module in enumerate(modules):
        target = top / "lib" / "app" / f"m{number:03d}_{module.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        change = f"\n# version {version}\n" if number % 100 == 0 else ""
        target.write_bytes(module.read_bytes() + change.encode())
    (top / "lib" / "asset").write_bytes(hashlib.shake_256(b"asset").digest(2_000_000))


def _finish(path: str, references: Sequence[str], salt: str, valid: dict[str, Valid]) -> None:
    """Write the references into the item, as builds do, and say that it is valid."""
    support = Path(path, "nix-support")
    support.mkdir(parents=True, exist_ok=True)
    (support / "references").write_text("\n".join([salt, *references]))
    subprocess.run(["chmod", "-R", "a-w,u-s,g-s", path], check=True)
    digest, size = nar_hash(path)
    valid[path] = Valid(
        path=path, hash=f"sha256:{digest.hex}", size=size, references=tuple(sorted(references))
    )


def _write_graph(file: Path, top: str, valid: Mapping[str, Valid]) -> None:
    reached, pending = {}, [top]
    while pending:
        path = pending.pop()
        if path not in reached:
            reached[path] = valid[path]
            pending += valid[path].references
    graph = [
        {"path": one.path, "narHash": one.hash, "narSize": one.size, "references": one.references}
        for _, one in sorted(reached.items())
    ]
    file.write_text(json.dumps(graph))


def _register(folder: Path, valid: Iterable[Valid]) -> None:
    """Tell Nix's database, in a state folder of its own."""
    state = folder / "nix" / "var" / "nix"
    environment = {
        "NIX_STORE_DIR": str(folder / "nix" / "store"),
        "NIX_STATE_DIR": str(state),
        "NIX_LOG_DIR": str(state / "log"),
        "NIX_CONF_DIR": str(state / "conf"),
        "NIX_REMOTE": "local",
    }
    conf = state / "conf" / "nix.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("build-users-group =\n")
    lines = []
    for one in valid:
        digest = one.hash.removeprefix("sha256:")
        count = str(len(one.references))
        lines += [one.path, digest, str(one.size), "", count, *one.references]
    subprocess.run(
        ["nix-store", "--load-db"],
        check=True,
        input="\n".join(lines) + "\n",
        text=True,
        env={**os.environ, **environment},
    )
    exports = [f"export {name}='{value}'\n" for name, value in environment.items()]
    (folder / "env.sh").write_text("".join(exports))
