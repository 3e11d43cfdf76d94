"""What an image unpacks to, by skopeo and umoci, and what a tree on disk is."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.registry.parts import real_part

_TIMEOUT_S = 600.0
_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One name in a tree.

    `mode` is 07777 at most; `size` bytes and `sha256` hex of a file, `target` of a symlink;
    `links` all names of a hard-linked file within the tree, empty where it has only one.
    """

    type: str
    mode: int
    uid: int
    gid: int
    size: int | None = None
    sha256: str | None = None
    target: bytes | None = None
    links: frozenset[bytes] = frozenset()


def tree(path: str | os.PathLike[str]) -> dict[bytes, Node]:
    """Everything below `path`, by its path relative to it; `path` itself is left out."""
    root = os.fsencode(path)
    names: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    found: list[tuple[bytes, os.stat_result]] = []
    for entry in _below(root):
        status = entry.stat(follow_symlinks=False)
        relative = os.path.relpath(entry.path, root)
        found.append((relative, status))
        if stat.S_ISREG(status.st_mode):
            names[status.st_dev, status.st_ino].append(relative)
    digests = {inode: _sha256(os.path.join(root, same[0])) for inode, same in names.items()}
    nodes = {}
    for relative, status in found:
        same = names.get((status.st_dev, status.st_ino), [])
        is_file, is_link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
        nodes[relative] = Node(
            type=_TYPES[stat.S_IFMT(status.st_mode)],
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            size=status.st_size if is_file else None,
            sha256=digests[status.st_dev, status.st_ino] if is_file else None,
            target=os.readlink(os.path.join(root, relative)) if is_link else None,
            links=frozenset(same) if len(same) > 1 else frozenset(),
        )
    return nodes


def unpack(image: str, directory: Path) -> Path:
    """Pull `image` (`host/repo:tag` or `host/repo@digest`) and unpack it below `directory`,
    which is made; returns the root filesystem. umoci 0.4.7 cannot read zstd layers."""
    directory.mkdir(parents=True, exist_ok=True)
    layout, bundle = directory / "oci", directory / "bundle"
    _run(
        real_part("skopeo"),
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        f"docker://{image}",
        f"oci:{layout}:t",
    )
    rootless = ["--rootless"] if os.geteuid() != 0 else []
    _run(real_part("umoci"), "unpack", *rootless, "--image", f"{layout}:t", str(bundle))
    return bundle / "rootfs"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def _below(directory: bytes) -> Iterator[os.DirEntry[bytes]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path)


def _sha256(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
