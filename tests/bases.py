"""Base images made of programs of this machine, in place of the official images in tests."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.registry.api import Api, descriptor, sha256
from tests.registry.parts import real_part
from tests.registry.servers import Registry

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNNEEDED = re.compile(r"/(site-packages|dist-packages|__pycache__|test|idlelib|ensurepip|config-)")

_NGINX_CONF = """
user root;
error_log stderr;
events {}
http {
    access_log off;
    server { listen 80; root /usr/share/nginx/html; }
}
"""


@dataclass(slots=True, kw_only=True)
class _Files:
    """Files of an image by their path in it: `copied` from a path here, or `written`."""

    copied: dict[str, str] = field(default_factory=dict)
    written: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"/tmp", "/run", "/proc", "/sys", "/dev"})

    def add_program(self, name: str, here: str) -> None:
        """Add the program or library `here` at the image path `name`, and the libraries it needs.

        ldd lists these libraries.
        """
        self.copied[name] = here
        done = subprocess.run(["ldd", here], capture_output=True, text=True)
        for path in re.findall(r"(/\S+) \(0x", done.stdout):
            self.copied[path] = path

    def layer(self) -> bytes:
        """Return a gzip-compressed tar archive of the files; everything belongs to root."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(self.folders):
                info = tarfile.TarInfo(name.lstrip("/"))
                info.type, info.mode = tarfile.DIRTYPE, 0o777
                tar.addfile(info)
            for name, here in sorted(self.copied.items()):
                self._put(tar, name, Path(here).read_bytes(), 0o755)
            for name, data in sorted(self.written.items()):
                self._put(tar, name, data, 0o644)
        return gzip.compress(archive.getvalue(), compresslevel=1, mtime=0)

    @staticmethod
    def _put(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
        info = tarfile.TarInfo(name.lstrip("/"))
        info.mode, info.size = mode, len(data)
        tar.addfile(info, io.BytesIO(data))


def _python() -> tuple[bytes, dict[str, Any]]:
    """Return layer and config of an image with the Python of this machine below /usr/local.

    Packages that are installed in that Python are left out.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    files, library = _Files(), sysconfig.get_path("stdlib")
    program = os.path.join(sysconfig.get_config_var("BINDIR"), f"python{version}")
    for name in ("python", "python3", f"python{version}"):
        files.add_program(f"/usr/local/bin/{name}", os.path.realpath(program))
    for folder, _, names in os.walk(library):
        for name in names:
            here = os.path.join(folder, name)
            inside = here.removeprefix(library)
            if _UNNEEDED.search(inside) or not os.path.isfile(here):
                continue
            at = f"/usr/local/lib/python{version}{inside}"
            if name.endswith(".so"):
                files.add_program(at, here)
            else:
                files.copied[at] = here
    _add_system(files)
    full = ".".join(map(str, sys.version_info[:3]))
    return files.layer(), {"Env": [_PATH, f"PYTHON_VERSION={full}"], "Cmd": ["python3"]}


def _node() -> tuple[bytes, dict[str, Any]]:
    files = _Files()
    files.add_program("/usr/local/bin/node", os.path.realpath(real_part("node")))
    # Debian's Node.js loads parts of itself from there.
    for here in Path("/usr/share/nodejs").rglob("*"):
        if here.is_file():
            files.copied[str(here)] = str(here)
    return files.layer(), {"Env": [_PATH], "Cmd": ["node"]}


def _nginx() -> tuple[bytes, dict[str, Any]]:
    files = _Files(written={"/etc/nginx/nginx.conf": _NGINX_CONF.encode()})
    files.folders |= {"/var/lib/nginx", "/var/log/nginx"}
    files.add_program("/usr/sbin/nginx", os.path.realpath(real_part("nginx")))
    files.written["/etc/passwd"] = b"root:x:0:0:root:/root:/bin/sh\n"
    files.written["/etc/group"] = b"root:x:0:\n"
    return files.layer(), {"Env": [_PATH], "Cmd": ["nginx", "-g", "daemon off;"]}


_SYSTEM = ("libgcc_s.so.1", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1")
"""Libraries that wheels and programs of Rust are linked with; Debian's images have them."""


def _add_system(files: _Files) -> None:
    folders = (f"/lib/{os.uname().machine}-linux-gnu", "/usr/lib64", "/usr/lib")
    for name in _SYSTEM:
        places = (os.path.join(folder, name) for folder in folders)
        here = next(filter(os.path.exists, places), None)
        if here:
            files.add_program(here, os.path.realpath(here))


def _debian() -> tuple[bytes, dict[str, Any]]:
    """Return layer and config of an image with a shell and the libraries of C and Rust programs."""
    files = _Files()
    files.add_program("/bin/sh", os.path.realpath(real_part("sh")))
    _add_system(files)
    return files.layer(), {"Env": [_PATH], "Cmd": ["sh"]}


def _java() -> tuple[bytes, dict[str, Any]]:
    """Return layer and config of an image with a runtime of this machine's JDK.

    It has the modules that serve HTTP.
    """
    files, home = _Files(), "/opt/java/openjdk"
    with tempfile.TemporaryDirectory() as scratch:
        made = os.path.join(scratch, "java")
        subprocess.run(
            [real_part("jlink"), "--add-modules", "java.base,jdk.httpserver", "--strip-debug",
             "--no-header-files", "--no-man-pages", "--output", made],
            check=True, capture_output=True,
        )  # fmt: skip
        for folder, _, names in os.walk(made):
            for name in names:
                here = os.path.join(folder, name)
                at = home + here.removeprefix(made)
                if name.endswith(".so") or os.path.basename(folder) == "bin":
                    files.add_program(at, here)
                else:
                    files.copied[at] = here
        layer = files.layer()
    path = f"PATH={home}/bin:{_PATH.removeprefix('PATH=')}"
    return layer, {"Env": [path, f"JAVA_HOME={home}"]}


OFFICIAL: Mapping[str, Callable[[], tuple[bytes, dict[str, Any]]]] = {
    "docker.io/library/python:3.12-slim": _python,
    "docker.io/library/node:22-slim": _node,
    "docker.io/library/nginx:alpine": _nginx,
    "docker.io/library/debian:stable-slim": _debian,
    "docker.io/library/eclipse-temurin:21-jre": _java,
}
"""For each official image that the documents name, the function that makes its stand-in: it returns
a layer and a config."""


def put_stand_in(registry: Registry, official: str) -> str:
    """Push the stand-in for the image `official` to `registry`; returns its reference there."""
    layer, config = OFFICIAL[official]()
    name, _, tag = official.rpartition("/")[2].partition(":")
    at = Api(registry.host, f"stand-ins/{name}")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    body = json.dumps({
        "os": "linux",
        "architecture": machine,
        "config": config,
        "history": [{"created_by": "a stand-in"}],  # buildah refuses a base without
        "rootfs": {"type": "layers", "diff_ids": [sha256(gzip.decompress(layer))]},
    }).encode()  # fmt: skip
    for blob in (body, layer):
        at.put_blob(blob)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": descriptor(body, _CONFIG),
        "layers": [descriptor(layer, _LAYER)],
    }
    assert at.put_manifest(tag, json.dumps(manifest).encode()).status == 201
    return f"{registry.host}/stand-ins/{name}:{tag}"
