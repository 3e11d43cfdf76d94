"""Choose the packages of a `package-lock.json` that an image needs, by platform and group. Pure.

npm documentation, "package.json" (os, cpu, libc) and "config" (omit); npm's `npm-install-checks`
and Arborist's `optional-set.js`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from regpush.errors import UsageError
from regpush.platform import Platform
from regpush.sources.node.built import Machine
from regpush.sources.node.lock import Locked, NodeLock, is_package

_CPU = {
    "amd64": "x64",
    "386": "ia32",
    "arm64": "arm64",
    "arm": "arm",
    "riscv64": "riscv64",
    "ppc64le": "ppc64",
    "s390x": "s390x",
    "loong64": "loong64",
}
"""Node's names of processor architectures (`process.arch`) by OCI's names."""


class NodeTarget(Struct, frozen=True, kw_only=True):
    """The platform and C library that packages must run on; `libc` is `glibc` or `musl`."""

    platform: Platform
    libc: str

    @property
    def machine(self) -> Machine:
        """The platform in Node's names. Raises UsageError where Node does not run on it."""
        if self.platform.os != "linux" or self.platform.architecture not in _CPU:
            raise UsageError(
                f"node: Node does not run on {self.platform}; give another platform by --platform"
            )
        return Machine(cpu=_CPU[self.platform.architecture], libc=self.libc)

    def accepts(self, one: Locked) -> bool:
        """Whether the package's `os`, `cpu` and `libc` in the lock file include this platform."""
        machine = self.machine
        has = {"os": "linux", "cpu": machine.cpu, "libc": machine.libc}
        return all(_is_listed(value, one.value.get(key)) for key, value in has.items())


def _is_listed(value: str, said: object) -> bool:
    """Whether `said`, the value of `os`, `cpu` or `libc` in a lock file, includes `value`.

    `said` is a text or a list of texts; a text that begins with `!` excludes a value.
    """
    listed = [said] if isinstance(said, str) else said
    if not isinstance(listed, list) or listed == ["any"]:
        return True
    if f"!{value}" in listed:
        return False
    return value in listed or all(str(one).startswith("!") for one in listed)


def choose(lock: NodeLock, target: NodeTarget, *, groups: Sequence[str]) -> dict[str, Locked]:
    """Choose the packages that `npm ci --omit=dev` would install on `target`.

    Returns the packages by their folder, in the lock file's order. `groups` may contain `dev`, for
    development dependencies too. Local packages and links are left out; packages that are bundled
    in the tarball of another one are included. Raises UsageError where a package that the project
    requires does not run on `target`, and for an unknown group.
    """
    if unknown := next((one for one in groups if one != "dev"), None):
        raise UsageError(f"--group {unknown}: npm has only the group dev")
    wanted = {at: one for at, one in lock.packages.items() if is_wanted(lock, one, groups)}
    unfit = {at for at, one in wanted.items() if one.folder_name and not target.accepts(one)}
    for at in unfit:
        if not (wanted[at].flag("optional") or wanted[at].flag("devOptional")):
            raise UsageError(
                f"the project requires {wanted[at].named}, which does not run on {target.platform} "
                f"with {target.libc} (os, cpu and libc in the lock file)"
            )
    gone = _with_dependents(lock, wanted, unfit)
    reached = _reached(lock, wanted, gone)
    found = {
        at: one
        for at, one in wanted.items()
        if one.folder_name
        and at not in gone
        and not one.flag("link")
        and (at in reached or not (gone and one.flag("optional")))
    }
    return {at: one for at, one in found.items() if _is_installed(one, found)}


def is_wanted(lock: NodeLock, one: Locked, groups: Sequence[str]) -> bool:
    """Whether the entry `one` of the lock file belongs to `groups`.

    Where the entry is a link, its target is judged. An entry without a group always belongs. False
    for an entry that no package depends on (`extraneous`): npm does not install it either.
    """
    meant = lock.target(one) or one
    return not meant.flag("extraneous") and ("dev" in groups or not meant.flag("dev"))


def _is_installed(one: Locked, chosen: Mapping[str, Locked]) -> bool:
    """Whether a chosen package is in its own tarball, or in the tarball of a chosen package.

    False for a package that is bundled in the tarball of a package that is not chosen.
    """
    above = one.parent
    return not (one.flag("inBundle") and is_package(above)) or above in chosen


def _edges(lock: NodeLock, one: Locked) -> Iterator[tuple[str, bool]]:
    """Yield the folder of each dependency of a package, and whether it is required.

    Development dependencies are included for local packages.
    """
    for name, is_required in one.needs():
        if (found := lock.find(name, one.at)) is not None:
            yield found.at, is_required
    if not one.folder_name:
        for name in one.table("devDependencies"):
            if (found := lock.find(name, one.at)) is not None:
                yield found.at, True


def _with_dependents(lock: NodeLock, wanted: dict[str, Locked], unfit: set[str]) -> set[str]:
    """Return `unfit` and all optional packages that require one of these, directly or indirectly.

    Packages are given by their folder. `unfit`: packages that are for other platforms.
    """
    needed_by: dict[str, list[str]] = {}
    for at, one in wanted.items():
        for needed, is_required in _edges(lock, one):
            if is_required and one.flag("optional"):
                needed_by.setdefault(needed, []).append(at)
    gone, pending = set(unfit), list(unfit)
    while pending:
        new = [at for at in needed_by.get(pending.pop(), ()) if at not in gone]
        gone.update(new)
        pending += new
    return gone


def _reached(lock: NodeLock, wanted: dict[str, Locked], gone: set[str]) -> set[str]:
    """Return the folders of all packages that local packages depend on, directly or indirectly.

    Packages in `gone` are left out, with what only they depend on.
    """
    pending = [at for at, one in wanted.items() if not one.folder_name]
    reached = set(pending)
    while pending:
        for needed, _ in _edges(lock, wanted[pending.pop()]):
            if needed in wanted and needed not in gone and needed not in reached:
                reached.add(needed)
                pending.append(needed)
    return reached
