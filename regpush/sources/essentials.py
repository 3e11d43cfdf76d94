"""Essentials: files that programs expect and a store closure lacks (users, /bin/sh, certificates).

They are chosen by the names of store items alone, without opening an item: an item whose layer is
in the registry need not be on this machine, and equal closures must give equal images everywhere.
Only packages of nixpkgs and Guix are recognised, because their layout is known, and of these only
the output with programs: `bash-5.2p37`, not `bash-5.2p37-man`. nixpkgs' `dockerTools` offers the
same files as `binSh`, `usrBinEnv`, `caCertificates` and `fakeNss`. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

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
    # Without this file, glibc asks DNS before it looks at /etc/hosts.
    b"etc/nsswitch.conf": b"hosts: files dns\n",
}
_USERS = ("root", "nobody")

# Packages with a shell, the preferred one first, and the shell's path in each. busybox is linked
# directly, because it behaves as the program by whose name it is called, and because nixpkgs and
# Guix have its own links at different places.
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
# Guix's package nss-certs has a file for each authority and no bundle; a Guix profile contains an
# item with the bundle, which has this name.
_OF_PROFILE = "ca-certificate-bundle"
_BUNDLES = {
    "nss-cacert": "etc/ssl/certs/ca-bundle.crt",
    _OF_PROFILE: "etc/ssl/certs/ca-certificates.crt",
}

CERTIFICATES = "SSL_CERT_FILE"
"""The environment variable with the path of the certificates, for OpenSSL, Go and others."""
BUNDLE_PATHS = (b"etc/ssl/certs/ca-certificates.crt", b"etc/ssl/certs/ca-bundle.crt")
"""The paths of the certificates in Debian and in nixpkgs, the more usual one first."""

# In a cross-built package of nixpkgs, the target's triplet is between name and version.
_PACKAGE = (
    r"(?P<name>[a-z-]+?)((-static)?-[a-z0-9_]+-[a-z]+-linux-[a-z0-9]+)?"
    r"-[0-9][0-9.]*(-?p[0-9]+)?"
)

_EMPTY = Identity.nar(
    # nix-hash --type sha256 of an empty directory
    Digest("sha256", "a50a5ab6d992f5598edd92105059fae9acfc192981e08bd88534c2167e92526a"),
)
"""The identity of an empty directory: the bundle item of a Guix profile without certificates."""


class Essentials(Struct, frozen=True, kw_only=True):
    """The essentials of an image: `entries`, sorted by path.

    `bundle`: the store path of the closure's file of certificates, empty without one.
    """

    entries: tuple[Entry, ...]
    bundle: str = ""


def of_any() -> Essentials:
    """Return the essentials that every image without a base gets: `/tmp`, with mode 1777."""
    return Essentials(entries=(_TMP,))


def of_store(closure: Closure) -> Essentials:
    """Choose the essentials of an image of store items.

    They are `/tmp`, `/root`, `/etc/passwd` and `/etc/group` with root and nobody,
    `/etc/nsswitch.conf`, and links to a shell, to `env` and to certificates, as far as the closure
    has these. A link leads to an item among the closure's roots, else to one that a root refers to,
    else to any other.
    """
    near = _by_nearness(closure)
    bundle = _find(near, _BUNDLES)
    links = {b"bin/sh": _find(near, _SHELLS), b"usr/bin/env": _find(near, _ENVS)}
    links |= dict.fromkeys(BUNDLE_PATHS, bundle)
    found = [_TMP, _HOME, *_files(), *(_link(path, to) for path, to in links.items() if to)]
    return Essentials(entries=tuple(sorted(found)), bundle=bundle)


def check_user(user: str) -> None:
    """Raise UsageError where `user` (`USER` or `USER:GROUP`) has a name other than root and nobody.

    The generated `/etc/passwd` has only these, and no container starts as an unknown user; numbers
    need no entry.
    """
    for name in filter(None, user.split(":")):
        if name not in _USERS and not name.isdigit():
            raise UsageError(
                f"--user {printable(user)}: the image has only the users {' and '.join(_USERS)}; "
                "give numbers, such as 1000:1000, or link your own file by -S /etc/passwd=PATH"
            )


def _by_nearness(closure: Closure) -> tuple[Sequence[Item], ...]:
    roots = [closure[path] for path in closure.roots]
    beside = {path for item in roots for path in item.references}
    return roots, [item for item in closure.items if item.path in beside], closure.items


def _find(near: Iterable[Sequence[Item]], packages: dict[str, str]) -> str:
    """Find a package of `packages` among items; return the path of the wanted file in it.

    `near`: groups of items, of which the first with a match is used. `packages`: the file's path in
    a package by the package's name, the preferred one first. Empty where no item matches.
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
    """Return the name of the package whose main output `item` is; empty for other items."""
    name = full_name(item.path)
    if name == _OF_PROFILE:
        return name
    match = re.fullmatch(_PACKAGE, name)
    return match["name"] if match else ""


def _files() -> Iterator[Entry]:
    for path, content in _FILES.items():
        yield Entry(path=path, kind=Kind.FILE, mode=0o644, size=len(content), content=content)


def _link(path: bytes, target: str) -> Entry:
    link = as_bytes(target)
    return Entry(path=path, kind=Kind.SYMLINK, mode=0o777, link=link)
