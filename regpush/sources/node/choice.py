"""Choose the packages of a lock that an image needs: by platform and group. Pure.

npm documentation, "package.json" (os, cpu, libc) and "config" (omit); npm's `npm-install-checks`
and Arborist's `optional-set.js`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
"""Node's names of machines (`process.arch`) by those of OCI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTarget:
    """The platform that packages are chosen for; `libc` is `glibc` or `musl`."""

    platform: Platform
    libc: str

    @property
    def machine(self) -> Machine:
        """The machine in Node's words. Raises UsageError where Node does not run on it."""
        if self.platform.os != "linux" or self.platform.architecture not in _CPU:
            raise UsageError(f"node: cannot make an image for {self.platform}")
        return Machine(cpu=_CPU[self.platform.architecture], libc=self.libc)

    def takes(self, one: Locked) -> bool:
        """Whether the package is for this platform."""
        machine = self.machine
        has = {"os": "linux", "cpu": machine.cpu, "libc": machine.libc}
        return all(_is_listed(value, one.value.get(key)) for key, value in has.items())


def _is_listed(value: str, said: object) -> bool:
    """Whether a package's list of values admits `value`; `!` before a value excludes it."""
    listed = [said] if isinstance(said, str) else said
    if not isinstance(listed, list) or listed == ["any"]:
        return True
    if f"!{value}" in listed:
        return False
    return value in listed or all(str(one).startswith("!") for one in listed)


def choose(lock: NodeLock, target: NodeTarget, *, groups: Sequence[str]) -> dict[str, Locked]:
    """Choose the packages that `npm ci --omit=dev` would install, by folder.

    In the lock's order. `groups` may contain `dev`. Local packages and links are left out; packages
    that are bundled in another one's tarball are included. Raises UsageError where a needed package
    is for other platforms.
    """
    if unknown := next((one for one in groups if one != "dev"), None):
        raise UsageError(f"--group {unknown}: packages of npm have the group dev, and no other")
    wanted = {at: one for at, one in lock.packages.items() if is_wanted(lock, one, groups)}
    unfit = {at for at, one in wanted.items() if one.folder_name and not target.takes(one)}
    for at in unfit:
        if not (wanted[at].said("optional") or wanted[at].said("devOptional")):
            raise UsageError(
                f"{wanted[at].named} is not for {target.platform} with {target.libc}, as the lock "
                "says, and the project needs it"
            )
    gone = _spread(lock, wanted, unfit)
    reached = _reached(lock, wanted, gone)
    found = {
        at: one
        for at, one in wanted.items()
        if one.folder_name
        and at not in gone
        and not one.said("link")
        and (at in reached or not (gone and one.said("optional")))
    }
    return {at: one for at, one in found.items() if _is_brought(one, found)}


def is_wanted(lock: NodeLock, one: Locked, groups: Sequence[str]) -> bool:
    """Whether an entry of the lock, or the target of its link, belongs to `groups`.

    False for an entry that nothing needs (`extraneous`), which npm leaves out too.
    """
    meant = lock.target(one) or one
    return not meant.said("extraneous") and ("dev" in groups or not meant.said("dev"))


def _is_brought(one: Locked, chosen: Mapping[str, Locked]) -> bool:
    """Whether an entry is installed by its own tarball or by that of a chosen package.

    False for an entry that is bundled in a package that is not chosen.
    """
    above = one.parent
    return not (one.said("inBundle") and is_package(above)) or above in chosen


def _edges(lock: NodeLock, one: Locked) -> Iterator[tuple[str, bool]]:
    """Yield the folder of each dependency of a package, and whether it is required."""
    for name, is_required in one.needs():
        if (found := lock.find(name, one.at)) is not None:
            yield found.at, is_required
    if not one.folder_name:
        for name in one.table("devDependencies"):
            if (found := lock.find(name, one.at)) is not None:
                yield found.at, True


def _spread(lock: NodeLock, wanted: dict[str, Locked], unfit: set[str]) -> set[str]:
    """Add to `unfit` all optional packages that require one of them, directly or not."""
    needed_by: dict[str, list[str]] = {}
    for at, one in wanted.items():
        for needed, is_required in _edges(lock, one):
            if is_required and one.said("optional"):
                needed_by.setdefault(needed, []).append(at)
    gone, pending = set(unfit), list(unfit)
    while pending:
        new = [at for at in needed_by.get(pending.pop(), ()) if at not in gone]
        gone.update(new)
        pending += new
    return gone


def _reached(lock: NodeLock, wanted: dict[str, Locked], gone: set[str]) -> set[str]:
    """Find the folders that local packages need, directly or not, without those in `gone`."""
    pending = [at for at, one in wanted.items() if not one.folder_name]
    reached = set(pending)
    while pending:
        for needed, _ in _edges(lock, wanted[pending.pop()]):
            if needed in wanted and needed not in gone and needed not in reached:
                reached.add(needed)
                pending.append(needed)
    return reached
