"""What programs expect of any system and no closure brings: users, /bin/sh, certificates.

Pure, and decided by the names of store items alone: an item whose layer is in the registry
is not opened and need not be on this machine, and the same closure must give the same image
everywhere. So only packages count whose layout is fixed, nixpkgs' and Guix's, and of them
only the output that has programs: `bash-5.2p37`, not `bash-5.2p37-man`. nixpkgs'
`dockerTools` has the same as `binSh`, `usrBinEnv`, `caCertificates` and `fakeNss`.
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

# Which packages have the program, the likeliest wanted first, and where it is in them. Of
# busybox it is the program itself: what it does follows from the name it is called by, while
# where its links lie differs.
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
"""The variable by which OpenSSL, Go and others are told where certificates are."""
BUNDLE_PATHS = (b"etc/ssl/certs/ca-certificates.crt", b"etc/ssl/certs/ca-bundle.crt")
"""Where Debian and nixpkgs have the certificates, the more usual first."""

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
"""A Guix profile without certificates has an empty bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Essentials:
    """`entries` by path; `bundle` is where the closure has certificates, empty if nowhere."""

    entries: tuple[Entry, ...]
    bundle: str = ""


def of_any() -> Essentials:
    """What every image has that is no whole root file system: `/tmp`, for all to write in."""
    return Essentials(entries=(_TMP,))


def of_store(closure: Closure) -> Essentials:
    """What an image of store items has as well.

    Root and nobody, the name service's configuration, and links to a shell, to `env` and to
    certificates, as far as the closure has those: in its roots, else in what these refer
    to, else anywhere.
    """
    near = _by_nearness(closure)
    bundle = _find(near, _BUNDLES)
    links = {b"bin/sh": _find(near, _SHELLS), b"usr/bin/env": _find(near, _ENVS)}
    links |= dict.fromkeys(BUNDLE_PATHS, bundle)
    found = [_TMP, _HOME, *_files(), *(_link(path, to) for path, to in links.items() if to)]
    return Essentials(entries=tuple(sorted(found)), bundle=bundle)


def check_user(user: str) -> None:
    """Raise UsageError for a user or group by a name that only essentials could know.

    No container starts as one that its `/etc/passwd` lacks; numbers need no entry.
    """
    for name in filter(None, user.split(":")):
        if name not in _USERS and not name.isdigit():
            raise UsageError(
                f"--user {printable(user)}: the image knows {' and '.join(_USERS)} alone; give "
                "numbers, such as 1000:1000, or link an /etc/passwd of your own with -S"
            )


def _by_nearness(closure: Closure) -> tuple[Sequence[Item], ...]:
    roots = [closure[path] for path in closure.roots]
    beside = {path for item in roots for path in item.references}
    return roots, [item for item in closure.items if item.path in beside], closure.items


def _find(near: Iterable[Sequence[Item]], packages: dict[str, str]) -> str:
    """Where the first of `packages` is, by nearness, then order, then path; empty if nowhere."""
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
    """The name of the package that `item` is the main output of; empty where it is another."""
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
