"""Items and closures: the content of a push, before a strategy groups it into layers. Pure.

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

from msgspec import Struct

from regpush.digest import Digest
from regpush.entry import Entry, Kind, Profile
from regpush.errors import SourceError, printable
from regpush.platform import Platform


class Scheme(Enum):
    """The way in which an identity was derived. Recipes hold the value: it must never change.

    NAR: the hash of the Nix archive, as the store states it. NAR_RULED: for an item whose owners or
    modes were changed (`ownership`), a digest of its NAR hash and the rules. TREE:
    `tree_hash.TreeHash` over the item's parents and entries, which regpush computes before packing
    and again while packing. ARTIFACT: a digest of the hash that a lock file states for a package's
    archive, and of all options that decide how the archive is laid out.
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
        """Return the identity for a digest that `tree_hash.TreeHash` computed."""
        return cls(Scheme.TREE, digest)

    @classmethod
    def artifact(cls, digest: Digest) -> Self:
        """Return the identity of a locked package.

        `digest` covers the hash that the lock file states and all options that decide how the
        package's archive is laid out in the image.
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
    """The part that an item plays in an image; it decides which items may share its layer.

    ORDINARY: other ordinary items, as the strategy decides. OWN (the app's own code in a
    directory): OWN and GENERATED items only, if the plan has enough layers. ASSET (large files of
    own code): other assets only. RECORD (files that an installer writes anew each time although
    nothing changed): other records only. GENERATED (made by regpush itself: links, /tmp): always in
    the top layer.
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


class LockedPackage(Struct, frozen=True, kw_only=True):
    """A package of a lock file; `kind` is the type of its purl (`pypi`, `npm`).

    `hashes`: (algorithm, hex digits) pairs of its archive, as the lock states them.
    """

    kind: str
    name: str
    version: str
    hashes: tuple[tuple[str, str], ...] = ()


class Stamp(Struct, frozen=True, kw_only=True):
    """What the file system tells about an item without reading files: equal stamps, equal items.

    `tree`: a digest (32 bytes) of the item's place in its tree and of all options that decide its
    content, or whether it may be sent. `fingerprint`: a digest of what lstat tells about its files.
    `newest_ns`: their latest mtime or ctime, in nanoseconds since 1970.
    """

    tree: bytes
    fingerprint: bytes
    newest_ns: int


class Recorded(Struct, frozen=True, kw_only=True):
    """The facts that a store recorded about an item when it was built; packing checks them.

    `nar_hash`: the hash of the item's Nix archive. `entries`: opens the item as it lies in the
    store, whereas `Item.entries` may apply rules. `repair`: a command that mends a damaged item.
    """

    nar_hash: Digest
    entries: Callable[[], Iterator[Entry]]
    repair: str


Look: TypeAlias = Callable[[Entry, bytes | bytearray, int, int], None]
"""Called, from any thread, with each file that is read and its first bytes, before the file's
content is sent; an error that it raises ends the push. The first bytes of the file are
`data[start:end]` of the last three arguments `data`, `start` and `end`, so that a large buffer need
not be copied; they are at most `entry.LOOK_AT` bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """The unit that layers are made of: a store item, a package, a part of a directory's own code.

    `path`: its absolute path in the image (`/gnu/store/…-hello-2.12`); a generated item has a name
    in parentheses instead. `name`: without hash and version. `origin`: the name of the source
    package that it was built from, without hash and version; `name` if unknown. `identity`: None
    where it is known only after packing has read the item. `size`: uncompressed bytes, as the
    source states them. `references`: paths of the other items that it needs. `parents`: entries of
    the directories above it, where the source knows them. `entries`: opens the item; may be called
    any number of times and from any thread, gives equal, sorted entries each time, and raises
    SourceError where the item cannot be read. `look`: see `Look`. `stamp`: of an item that was
    listed. `ahead`: called before the item is opened, so that the source can begin to fetch it.
    `recorded`: of an item that is read from a store which may be damaged. `locked`: the package of
    the lock file that this item is. `folder`: the folder with all of its files, where that is not
    `path`.

    The item need not exist on this machine until `ahead` or `entries` is called.
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
        """The path, in the image, of the folder or file that contains everything in the item."""
        return self.folder or self.path

    @property
    def scheme(self) -> Scheme:
        """The scheme of the identity.

        TREE while the identity is unknown, as for a directory's item.
        """
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


class SearchPath(Struct, frozen=True):
    """An environment variable such as PATH, by which programs find other programs or their files.

    `value` is put beside the variable's present value as `side` says, with `separator` between.
    """

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


class Programs(Struct, frozen=True, kw_only=True):
    """The files of a directory that may be programs; equal stamps mean equal files.

    `stamp`: a digest of their paths and of what lstat tells about them. `newest_ns`: their latest
    mtime or ctime, in nanoseconds since 1970.
    `read`: reads their first bytes, and returns the platforms that they run on, each with the path
    of one such file.
    """

    stamp: bytes
    newest_ns: int
    read: Callable[[], Mapping[Platform, str]]


def no_search_paths() -> tuple[SearchPath, ...]:
    """Return an empty tuple: the default for a source that sets no variables such as PATH."""
    return ()


def no_entrypoint() -> tuple[str, ...]:
    """Return an empty tuple: the default for a source that finds no command to run."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The settings that a source proposes for its image; options of the user take precedence.

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


class Present(Struct, frozen=True, kw_only=True):
    """A file, directory or link that lies at some path in the image.

    `start`: the first bytes of a file, 64 KiB at most. `link`: the target of a symbolic link that
    leads to nothing in the directory, else empty.
    """

    kind: Kind
    mode: int
    link: str
    start: bytes


class Native(Struct, frozen=True, kw_only=True):
    """A library of machine code in a directory; `group`: the package that it belongs to.

    `runs_on`: its `Platform`, or the name of another operating system, for messages.
    """

    path: str
    group: str
    runs_on: Platform | str


class Inside(Struct, frozen=True, kw_only=True):
    """Functions that answer questions about the files of a directory, by looking when called.

    `place`: the directory's path on this machine. `find`: returns what lies at an absolute path of
    the image. `natives`: returns all native libraries. `guess`: returns the probable entry point
    and the file that suggests it, for messages; empty if no file does. `guess` is None where an
    image may well have no entry point.
    """

    place: str
    find: Callable[[str], Present | None]
    natives: Callable[[], Sequence[Native]]
    guess: Callable[[], str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """The items of a push, dependencies first, and `roots`, the paths of the items asked for.

    Built by `Closure.build`, which orders and checks. `profile`: how the entries of all items are
    normalised. `system`: the platform as the source names it (`x86_64-linux`), or None.
    `search_paths`: returns the variables that the programs need; may raise SourceError.
    `provenance`: (name, text) pairs about the origin of the source. `programs`: of a directory,
    groups of files that show the platform; a later group counts only where the earlier ones show
    none. `wishes`: settings that the source proposes for the image. `locks`: (name, digest) of each
    lock file that names its packages. `inside`: of a directory, functions that look at its files.
    `stacked`: each item becomes a layer, in the order of `items`, and no strategy decides.
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
        """Make a closure with `items` sorted so that dependencies come first, ties by path.

        Raises SourceError for two items of one path, a root or a reference that is no item, and a
        cycle of references.
        """
        by_path: dict[str, Item] = {}
        for item in sorted(items, key=lambda item: item.path):
            if item.path in by_path:
                raise SourceError(f"two items own the same path: {printable(item.path)}")
            by_path[item.path] = item
        for root in roots:
            if root not in by_path:
                raise SourceError(
                    f"the root {printable(root)} is not among the items of the closure"
                )
        ordered = tuple(_dependencies_first(by_path))
        return cls(roots=roots, items=ordered, profile=profile, system=system)

    def __getitem__(self, path: str) -> Item:
        return self._by_path[path]

    def __contains__(self, path: object) -> bool:
        return path in self._by_path

    def with_items(self, extra: tuple[Item, ...]) -> Closure:
        """Return a closure of this closure's items and the `extra` ones, which become roots too."""
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
