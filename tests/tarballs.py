"""Makes npm tarballs, and lock files that name them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def make_tarball(
    folder: Path,
    name: str,
    version: str = "1.0.0",
    files: Mapping[str, bytes | str] | None = None,
    *,
    modes: Mapping[str, int] | None = None,
    top: str = "package",
    extra: Sequence[tarfile.TarInfo] = (),
) -> Path:
    """Write the tarball of a package with `files` by name and a `package.json`; returns its path.

    No code of regpush is used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"package.json": json.dumps({"name": name, "version": version}), **(files or {})}
    path = folder / f"{name.replace('/', '-').lstrip('@')}-{version}.tgz"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for key, value in contents.items():
            data = value.encode() if isinstance(value, str) else value
            info = tarfile.TarInfo(f"{top}/{key}")
            info.size, info.mode = len(data), (modes or {}).get(key, 0o644)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
    return path


def integrity(path: Path, algorithm: str = "sha512") -> str:
    """Return the hash of the file at `path` as npm writes it (W3C, "Subresource Integrity")."""
    digest = hashlib.new(algorithm, path.read_bytes()).digest()
    return f"{algorithm}-{base64.b64encode(digest).decode()}"


def locked(path: Path, url: str, version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    """Return the entry of a lock file for the tarball at `path`."""
    return {
        "version": version,
        "resolved": f"{url}/packages/{path.name}",
        "integrity": integrity(path),
        **more,
    }


def write_lock(
    project: Path, packages: Mapping[str, Any], needs: Mapping[str, str], **more: Any
) -> Path:
    """Write `package.json` and a `package-lock.json` (version 3) that agree.

    Returns the lock's path.
    """
    root = {"name": "shop", "version": "1.0.0", "dependencies": dict(needs), **more}
    (project / "package.json").write_text(json.dumps(root))
    path = project / "package-lock.json"
    value = {"lockfileVersion": 3, "packages": {"": root, **packages}}
    path.write_text(json.dumps(value, indent=2))
    return path
