"""Files that programs expect and no closure has: users, /bin/sh, certificates.

Pure, and decided by the names of store items alone: an item whose layer is in the registry is not
opened and need not be on this machine, and equal closures must give equal images everywhere. So
only packages of nixpkgs and Guix count, because their layout is fixed, and of these only the output
that has programs: `bash-5.2p37`, not `bash-5.2p37-man`. nixpkgs' `dockerTools` has the same files
as `binSh`, `usrBinEnv`, `caCertificates` and `fakeNss`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from regpush.closure import Closure, Identity, Item
from regpush.digest import Digest
from regpush.entry import Entry, Kind, as_bytes
from regpush.errors import UsageError, printable
from regpush.sources.store_path import full_name

_TMP = Entry(path=b"tmp", kind=Kind.DIRECTORY, mode=0o1777)
_HOME = Entry(path=b"root", kind=Kind.DIRECTORY, mode=0o700)
_FILES = {
    b"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n"
    b"nobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n",
    b"etc/group": b"root:x:0:\nnobody:x:65534:\n",
    # Without it glibc asks DNS before it looks at /etc/hosts.
    b"etc/nsswitch.conf": b"hosts: files dns\n",
}
_USERS = ("root", "nobody")

# Packages that have the program, the preferred one first, and its path in them. For busybox
# that is the program itself, which acts by the name it is called by: nixpkgs and Guix differ in
# where its links are.
_SHELLS = {
    "bash": "bin/bash",
    "bash-interactive": "bin/bash",
    "bash-minimal": "bin/bash",
    "bash-static": "bin/bash",
    "dash": "bin/dash",
    "busybox": "bin/busybox",
}
_ENVS = {
    "coreutils": "bin/env",
    "coreutils-full": "bin/env",
    "coreutils-minimal": "bin/env",
    "uutils-coreutils-noprefix": "bin/env",
    "busybox": "bin/busybox",
}
# Guix's nss-certs has no bundle, only a file for each authority; its profiles make one.
_OF_PROFILE = "ca-certificate-bundle"
_BUNDLES = {
    "nss-cacert": "etc/ssl/certs/ca-bundle.crt",
    _OF_PROFILE: "etc/ssl/certs/ca-certificates.crt",
}

CERTIFICATES = "SSL_CERT_FILE"
"""The variable with the path of the certificates, for OpenSSL, Go and others."""
BUNDLE_PATHS = (b"etc/ssl/certs/ca-certificates.crt", b"etc/ssl/certs/ca-bundle.crt")
"""The paths of the certificates on Debian and in nixpkgs, the more usual one first."""

# Nixpkgs puts what a package was cross-built for between its name and its version.
_PACKAGE = re.compile(
    r"(?P<name>[a-z-]+?)((-static)?-[a-z0-9_]+-[a-z]+-linux-[a-z0-9]+)?"
    r"-[0-9][0-9.]*(-?p[0-9]+)?",
    re.ASCII,
)

_EMPTY = Identity.nar(
    # nix-hash --type sha256 of an empty directory
    Digest("sha256", "a50a5ab6d992f5598edd92105059fae9acfc192981e08bd88534c2167e92526a"),
)
"""The identity of an empty directory: a Guix profile without certificates has such a bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Essentials:
    """`entries`, sorted by path; `bundle`: the path of the closure's certificates, or empty."""

    entries: tuple[Entry, ...]
    bundle: str = ""


def of_any() -> Essentials:
    """Return the essentials of every image without a base: `/tmp`, which all may write to."""
    return Essentials(entries=(_TMP,))


def of_store(closure: Closure) -> Essentials:
    """Choose the essentials of an image of store items.

    `/tmp`, users root and nobody, root's home, the configuration of the name service, and links to
    a shell, to `env` and to certificates, where the closure has these. They are searched for in its
    roots, then in what the roots refer to, then in all items.
    """
    near = _by_nearness(closure)
    bundle = _find(near, _BUNDLES)
    links = {b"bin/sh": _find(near, _SHELLS), b"usr/bin/env": _find(near, _ENVS)}
    links |= dict.fromkeys(BUNDLE_PATHS, bundle)
    found = [_TMP, _HOME, *_files(), *(_link(path, to) for path, to in links.items() if to)]
    return Essentials(entries=tuple(sorted(found)), bundle=bundle)


def check_user(user: str) -> None:
    """Raise UsageError for a user or group by a name that the generated files do not have.

    No container starts as a user that its `/etc/passwd` lacks; numbers need no entry.
    """
    for name in filter(None, user.split(":")):
        if name not in _USERS and not name.isdigit():
            raise UsageError(
                f"--user {printable(user)}: the image has no user but {' and '.join(_USERS)}; give "
                "numbers, such as 1000:1000, or link an /etc/passwd of your own with -S"
            )


def _by_nearness(closure: Closure) -> tuple[Sequence[Item], ...]:
    roots = [closure[path] for path in closure.roots]
    beside = {path for item in roots for path in item.references}
    return roots, [item for item in closure.items if item.path in beside], closure.items


def _find(near: Iterable[Sequence[Item]], packages: dict[str, str]) -> str:
    """Find the nearest of `packages`; returns its path, empty if the closure has none.

    Nearness to the roots decides, then the order of `packages`, then the path.
    """
    order = list(packages)
    for items in near:
        found = [
            (order.index(name), item.path)
            for item in items
            if (name := _package(item)) in packages and item.identity != _EMPTY
        ]
        if found:
            index, path = min(found)
            return f"{path}/{packages[order[index]]}"
    return ""


def _package(item: Item) -> str:
    """Return the package's name where `item` is its main output; else an empty text."""
    name = full_name(item.path)
    if name == _OF_PROFILE:
        return name
    match = _PACKAGE.fullmatch(name)
    return match["name"] if match else ""


def _files() -> Iterator[Entry]:
    for path, content in _FILES.items():
        yield Entry(path=path, kind=Kind.FILE, mode=0o644, size=len(content), content=content)


def _link(path: bytes, target: str) -> Entry:
    link = as_bytes(target)
    return Entry(path=path, kind=Kind.SYMLINK, mode=0o777, link=link)
