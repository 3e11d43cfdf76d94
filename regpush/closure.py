"""Items and closures: what a push holds, before a strategy groups it into layers. Pure.

An item is the unit that keeps its identity from one version to the next: a store item, a package
folder of a directory, a directory's own code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Self, TypeAlias

from regpush.digest import Digest
from regpush.entry import Entry, Kind, Profile
from regpush.errors import SourceError, printable
from regpush.platform import Platform


class Scheme(Enum):
    """How an identity was derived. Recipes hold the value: it must never change.

    NAR: the hash of the Nix archive, as the store states it. NAR_RULED: for an item whose owners or
    modes were changed (`ownership`), a digest of its NAR hash and the rules. TREE: `entry.TreeHash`
    over the item's parents and entries, computed by regpush, and again while packing. ARTIFACT: a
    digest of the hash that a lock file states for a package's archive, and of all that decides how
    the archive is laid out.
    """

    NAR = "nar"
    NAR_RULED = "nar-ruled"
    TREE = "tree-blake3"
    ARTIFACT = "artifact"


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """A digest of an item's content, equal on every machine; `str()` is `scheme:algorithm:hex`.

    `nar_hash`: the hash of the item's Nix archive as `nix path-info` prints it, also where rules
    change owners and modes; None for an item that is in no store.
    """

    scheme: Scheme
    digest: Digest
    nar_hash: Digest | None = field(default=None, compare=False, repr=False)

    @classmethod
    def nar(cls, nar_hash: Digest) -> Self:
        """Return the identity of a store item whose owners and modes are those of the store."""
        return cls(Scheme.NAR, nar_hash, nar_hash)

    @classmethod
    def tree(cls, digest: Digest) -> Self:
        """Return the identity for a digest that `entry.TreeHash` computed."""
        return cls(Scheme.TREE, digest)

    @classmethod
    def artifact(cls, digest: Digest) -> Self:
        """Return the identity of a locked package.

        `digest` covers the hash that the lock file states and all that decides how the archive is
        laid out.
        """
        return cls(Scheme.ARTIFACT, digest)

    def ruled(self, rules: Iterable[str]) -> Self:
        """Return the identity of this item under `rules` of owners and modes.

        The digest is sha256 over canonical JSON of this identity and the rules.
        """
        text = json.dumps([str(self), *rules], separators=(",", ":"))
        scheme = Scheme.NAR_RULED if self.nar_hash else self.scheme
        return replace(self, scheme=scheme, digest=Digest.of(text.encode()))

    def __str__(self) -> str:
        return f"{self.scheme.value}:{self.digest}"


class Role(Enum):
    """Decides with which items an item may share a layer.

    ORDINARY: with other ordinary items, as the strategy decides. OWN: the app's own code of a
    directory; with OWN and GENERATED items only, if the plan has layers enough. ASSET: large files
    of own code, with each other only. RECORD: files that an installer writes anew each time
    although nothing changed, with each other only. GENERATED: made by regpush itself (links, /tmp);
    always in the top layer.
    """

    ORDINARY = "ordinary"
    OWN = "own"
    ASSET = "asset"
    RECORD = "record"
    GENERATED = "generated"

    @property
    def is_code(self) -> bool:
        """Whether an item of this role is the app's own code: source or asset."""
        return self in (Role.OWN, Role.ASSET)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """A package of a lock file; `kind` is the type of its purl (`pypi`, `npm`).

    `hashes`: (algorithm, hex digits) pairs of its archive, as the lock states them.
    """

    kind: str
    name: str
    version: str
    hashes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What the file system tells about an item without reading it: equal stamps, equal items.

    `tree`: a digest (32 bytes) of the item's place in its tree and of all options that decide what
    it holds, or whether it may be sent. `fingerprint`: a digest of what lstat tells about its
    files. `newest_ns`: their latest mtime or ctime, since the epoch.
    """

    tree: bytes
    fingerprint: bytes
    newest_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a store recorded about an item when it was built; packing compares the files with it.

    `nar_hash`: of the item's Nix archive. `entries`: opens the item as it lies in the store,
    whereas `Item.entries` may apply rules. `repair`: a command that mends the item.
    """

    nar_hash: Digest
    entries: Callable[[], Iterator[Entry]]
    repair: str


Look: TypeAlias = Callable[[Entry, bytes | bytearray, int, int], None]
"""Called, from any thread, with each file that is read, before its content is sent; may raise.

The file begins with `data[start:end]`, where `data`, `start` and `end` are the last arguments: so a
large buffer need not be copied. At most `entry.LOOK_AT` bytes are given.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """The smallest thing that moves between layers.

    `path`: where it lies in the image, absolute (`/gnu/store/…-hello-2.12`); a generated
    item has a name in parentheses instead. `name`: without hash and version. `origin`: the
    deriver's name likewise, else the name. `identity`: None where it takes reading the
    item to know; packing finds it out. `size`: bytes, uncompressed, on the source's
    word. `references`: paths of other items, without itself. `parents`: metadata of the
    directories above it, where the source knows them. `entries`: opens the item; may be
    called any number of times and from any thread, gives the same sorted entries each
    time, and raises SourceError when that cannot be. `look`: see `Look`. `stamp`:
    what listing it said, where it was listed. `recorded`: what its store says of its files,
    where those are read from a store that may be damaged. `locked`: the package that it is,
    where a lock file says so. `folder`: where all of it lies, if that is not below `path`.
    Nothing else touches the item, and it need not exist on this machine until it is opened.
    """

    path: str
    name: str
    origin: str
    identity: Identity | None
    size: int
    entries: Callable[[], Iterator[Entry]] = field(compare=False, repr=False)
    references: tuple[str, ...] = ()
    parents: tuple[Entry, ...] = ()
    role: Role = Role.ORDINARY
    look: Look | None = field(default=None, compare=False, repr=False)
    stamp: Stamp | None = field(default=None, compare=False, repr=False)
    ahead: Callable[[], object] | None = field(default=None, compare=False, repr=False)
    recorded: Recorded | None = field(default=None, compare=False, repr=False)
    locked: LockedPackage | None = None
    folder: str = ""

    @property
    def home(self) -> str:
        """The folder or file that contains everything in the item."""
        return self.folder or self.path

    @property
    def scheme(self) -> Scheme:
        """How the identity is derived; TREE while it is unknown, as for a directory's item."""
        return self.identity.scheme if self.identity else Scheme.TREE

    @property
    def in_store(self) -> bool:
        """Whether the item is a store item."""
        return self.identity is not None and self.identity.nar_hash is not None

    @property
    def is_listed(self) -> bool:
        """Whether the item's entries are known without opening anything.

        True for a directory's items, which were listed, and for generated ones.
        """
        return self.scheme is Scheme.TREE


class Side(Enum):
    """Where the new value of a variable is put beside its present value.

    PREFIX: the present value follows the new one. SUFFIX: the present value precedes the new one.
    EXACT: the new value replaces it.
    """

    PREFIX = "prefix"
    SUFFIX = "suffix"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class SearchPath:
    """An environment variable by which programs of a closure are found, or find their files."""

    name: str
    value: str
    side: Side = Side.PREFIX
    separator: str = ":"

    def beside(self, current: str) -> str:
        """Return the new value where the variable's present value is `current`."""
        parts = {
            Side.PREFIX: (self.value, current),
            Side.SUFFIX: (current, self.value),
            Side.EXACT: (self.value,),
        }
        return self.separator.join(filter(None, parts[self.side]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Files of a directory that may be programs, as listed: equal stamps, equal files.

    `stamp`: a digest of their paths and of what lstat tells about them; `newest_ns`: see `Stamp`.
    `read`: reads their first bytes, and gives the platforms they run on, each with the path of one.
    """

    stamp: bytes
    newest_ns: int
    read: Callable[[], Mapping[Platform, str]]


def no_search_paths() -> tuple[SearchPath, ...]:
    """Return no search paths, for a source that has none."""
    return ()


def no_entrypoint() -> tuple[str, ...]:
    """Return an empty entry point, for a source that finds none."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a source proposes for its image; options of the user take precedence.

    `base`: the reference of a base image, empty for none. `workdir`: the working directory.
    `entrypoint`: program and arguments; where it is empty, `unsaid` is a warning that tells the
    user which options to give. `find_entrypoint`: finds an entry point by a slow method, called
    only where neither the user nor `entrypoint` names one.
    """

    base: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    unsaid: str = ""
    find_entrypoint: Callable[[], tuple[str, ...]] = field(
        default=no_entrypoint, compare=False, repr=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What lies at a path in the image.

    `start`: the first bytes of a file, 64 KiB at most. `link`: the target of a symbolic link that
    leads to nothing in the directory, else empty.
    """

    kind: Kind
    mode: int
    link: str
    start: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """A library of machine code in a directory; `group`: the package that it belongs to.

    `runs_on`: its `Platform`, or the name of another operating system for people.
    """

    path: str
    group: str
    runs_on: Platform | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """Questions about the files of a directory, answered by looking when they are asked.

    `place`: the directory's path on this machine. `find`: what lies at an absolute path of the
    image. `natives`: all its libraries. `guess`: the probable entry point and the file that
    suggests it, for people; empty if none does. `guess` is None where an image may well start
    nothing.
    """

    place: str
    find: Callable[[str], Present | None]
    natives: Callable[[], Sequence[Native]]
    guess: Callable[[], str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """Items, dependencies first, and the paths of those that were asked for.

    `profile` is how the entries of all items are normalised. `system` is the platform as
    the source says it (`x86_64-linux`), or None. `search_paths` reads, when it is called, the
    environment that the source wants for its programs; raises SourceError. `provenance`: names
    and texts that say what the source was made from. `programs`: of a directory, those that
    tell what it runs on; each but the first counts where those before it tell nothing. `wishes`:
    for the image. `locks`: lock files that name its packages, and what they are. `inside`: of a
    directory, what it tells of programs. Built by
    `Closure.build`, which orders and checks. `stacked`: each item is to be a layer, as they are
    ordered, and no strategy decides.
    """

    roots: tuple[str, ...]
    items: tuple[Item, ...]
    profile: Profile = Profile.STORE
    system: str | None = None
    search_paths: Callable[[], tuple[SearchPath, ...]] = field(
        default=no_search_paths, compare=False, repr=False
    )
    provenance: tuple[tuple[str, str], ...] = ()
    programs: tuple[Callable[[], Programs], ...] = field(default=(), compare=False, repr=False)
    wishes: Wishes = Wishes()
    locks: tuple[tuple[str, Digest], ...] = ()
    inside: Inside | None = field(default=None, compare=False, repr=False)
    stacked: bool = False
    _by_path: Mapping[str, Item] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_path = MappingProxyType({item.path: item for item in self.items})
        object.__setattr__(self, "_by_path", by_path)

    @classmethod
    def build(
        cls,
        roots: tuple[str, ...],
        items: tuple[Item, ...],
        *,
        profile: Profile = Profile.STORE,
        system: str | None = None,
    ) -> Closure:
        """Sort `items` so that dependencies come first, ties by path.

        Raises SourceError for two items of one path, a root or a reference that is no
        item, and a cycle of references.
        """
        by_path: dict[str, Item] = {}
        for item in sorted(items, key=lambda item: item.path):
            if item.path in by_path:
                raise SourceError(f"two items own the same path: {printable(item.path)}")
            by_path[item.path] = item
        for root in roots:
            if root not in by_path:
                raise SourceError(f"not among the items of the closure: {printable(root)}")
        ordered = tuple(_dependencies_first(by_path))
        return cls(roots=roots, items=ordered, profile=profile, system=system)

    def __getitem__(self, path: str) -> Item:
        return self._by_path[path]

    def __contains__(self, path: object) -> bool:
        return path in self._by_path

    def with_items(self, extra: tuple[Item, ...]) -> Closure:
        """Return a closure of these items and the `extra` ones, which are roots too."""
        roots = self.roots + tuple(item.path for item in extra)
        ordered = Closure.build(roots, self.items + extra).items
        return replace(self, roots=roots, items=ordered)

    def identified(self, identities: Mapping[str, Identity]) -> Closure:
        """Return a closure in which unknown identities are filled in from `identities`, by path."""
        items = (
            replace(item, identity=item.identity or identities.get(item.path))
            for item in self.items
        )
        return replace(self, items=tuple(items))


def _dependencies_first(by_path: Mapping[str, Item]) -> Iterator[Item]:
    done: set[str] = set()
    for start in by_path:
        if start in done:
            continue
        walk: list[tuple[str, Iterator[str]]] = [(start, iter(sorted(by_path[start].references)))]
        on_the_way = {start}
        while walk:
            path, references = walk[-1]
            for reference in references:
                if reference not in by_path:
                    raise SourceError(
                        f"{printable(path)} refers to {printable(reference)}, "
                        "which is not in the closure"
                    )
                if reference in on_the_way:
                    raise SourceError(
                        f"items refer to each other in a cycle: {printable(reference)}"
                    )
                if reference not in done:
                    on_the_way.add(reference)
                    walk.append((reference, iter(sorted(by_path[reference].references))))
                    break
            else:
                walk.pop()
                on_the_way.discard(path)
                done.add(path)
                yield by_path[path]
