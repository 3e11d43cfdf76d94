"""Unpacks images by tools that are not ours, and compares file trees."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from tests.registry.parts import real_part
from tests.registry.servers import Registry

Tree = dict[bytes, "Node"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One entry of a tree.

    `mode`: the permission bits, 07777; 0 for a symbolic link, whose bits are never used. `links`:
    all paths in the tree that are hard links of this file, sorted.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    sha256: str = ""
    target: bytes = b""
    links: tuple[bytes, ...] = ()


def unpack(reference: str, directory: Path, *, registry: Registry | None = None) -> Path:
    """Unpack `docker://reference` by skopeo and umoci below `directory`; returns its root folder.

    `registry` has the login and the certificate if the image's registry wants them. For a user
    other than root, all files belong to that user.
    """
    skopeo, umoci = real_part("skopeo"), real_part("umoci")
    directory.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=directory))
    layout, bundle = scratch / "layout", scratch / "bundle"
    login = ["--src-no-creds"]
    if registry is not None and registry.login is not None:
        login = ["--src-creds", f"{registry.username}:{registry.password}"]
    source = ["--src-tls-verify=false", *login, f"docker://{reference}"]
    _run(skopeo, "copy", "--quiet", *source, f"oci:{layout}:image")
    if _has_zstd(layout):
        # umoci 0.4 reads no zstd: let skopeo take the compression off first.
        plain, layout = scratch / "plain", scratch / "layout-gzip"
        _run(skopeo, "copy", "--quiet", "--dest-decompress", *source, f"dir:{plain}")
        _run(skopeo, "copy", "--quiet", f"dir:{plain}", f"oci:{layout}:image")
    rootless = [] if os.getuid() == 0 else ["--rootless"]
    _run(umoci, "unpack", *rootless, "--image", f"{layout}:image", str(bundle))
    return bundle / "rootfs"


def tree(root: Path | str | bytes) -> Tree:
    """Return every entry below `root`, but not `root` itself, by its path relative to `root`."""
    base = os.fsencode(root)
    found: Tree = {}
    same_file: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    inodes: dict[bytes, tuple[int, int]] = {}
    pending = [b""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(base, folder) if folder else base) as listing:
            for entry in listing:
                path = os.path.join(folder, entry.name)
                status = entry.stat(follow_symlinks=False)
                node = _node(entry.path, status)
                found[path] = node
                if node.kind == "directory":
                    pending.append(path)
                elif status.st_nlink > 1:
                    inodes[path] = (status.st_dev, status.st_ino)
                    same_file[inodes[path]].append(path)
    for path, inode in inodes.items():
        names = same_file[inode]
        if len(names) > 1:
            found[path] = replace(found[path], links=tuple(sorted(names)))
    return found


def as_store(source: Tree) -> Tree:
    """Return `source` with the metadata of the STORE profile (docs/internals/recipes.md).

    Everything belongs to root, set-id bits are cleared, group and others get the user's
    permissions without write, and hard links become files.
    """

    def normalised(node: Node) -> Node:
        user = (node.mode >> 6) & 7
        others = user & ~2
        mode = 0 if node.kind == "symlink" else user << 6 | others << 3 | others
        return replace(node, mode=mode, uid=0, gid=0, links=())

    return {path: normalised(node) for path, node in source.items()}


def without_owners(source: Tree) -> Tree:
    """Return `source` with every owner 0, as in trees unpacked by another user than root."""
    return {path: replace(node, uid=0, gid=0) for path, node in source.items()}


def assert_same_tree(actual: Tree, expected: Tree) -> None:
    """Fail where `actual` differs from `expected`, with the first ten paths that differ."""
    wrong = [
        f"{path!r}: {actual.get(path, 'missing')} instead of {expected.get(path, 'nothing')}"
        for path in sorted(actual.keys() | expected.keys())
        if actual.get(path) != expected.get(path)
    ]
    assert not wrong, f"{len(wrong)} paths differ:\n" + "\n".join(wrong[:10])


def _node(path: bytes, status: os.stat_result) -> Node:
    mode = stat.S_IMODE(status.st_mode)
    uid, gid = status.st_uid, status.st_gid
    if stat.S_ISDIR(status.st_mode):
        return Node(kind="directory", mode=mode, uid=uid, gid=gid)
    if stat.S_ISLNK(status.st_mode):
        return Node(kind="symlink", mode=0, uid=uid, gid=gid, target=os.readlink(path))
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return Node(kind="file", mode=mode, uid=uid, gid=gid, size=status.st_size, sha256=content)
    return Node(kind=f"other {stat.S_IFMT(status.st_mode):o}", mode=mode, uid=uid, gid=gid)


def _has_zstd(layout: Path) -> bool:
    index = json.loads((layout / "index.json").read_bytes())
    algorithm, _, digest = index["manifests"][0]["digest"].partition(":")
    manifest = json.loads((layout / "blobs" / algorithm / digest).read_bytes())
    return any(layer["mediaType"].endswith("zstd") for layer in manifest["layers"])


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
