"""OCI layouts of uncompressed layers, for the peers that push what another program made.

`python -m tests.bench.layouts DIR PARTS.json` is what a peer's user would have to run first:
GNU tar for each layer, hashed on its way to the disk, in one pass.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.sources import Part

_BLOCK = 1 << 20
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_TAR = (
    *("tar", "--create", "--format=gnu", "--sort=name", "--mtime=@1"),
    *("--owner=0", "--group=0", "--numeric-owner", "--hard-dereference"),
)
TAG = "image"
"""The name of the one image in a layout."""


def tar_command(part: Part) -> list[str]:
    """What writes the layer of `part` to its standard output."""
    return [*_TAR, "-C", str(part.base), *part.members]


def key(parts: Sequence[Part]) -> str:
    """What changes when the layers of `parts` would be written in another way."""
    commands = json.dumps([tar_command(part) for part in parts])
    return hashlib.sha256(commands.encode()).hexdigest()[:12]


def write_order(parts: Sequence[Part], file: Path) -> None:
    """Write what `python -m tests.bench.layouts` reads."""
    text = [{**asdict(part), "base": str(part.base)} for part in parts]
    file.write_text(json.dumps(text))


def make(parts: Sequence[Part], layout: Path) -> None:
    """An image of a layer for each of `parts` in `layout`, which is replaced."""
    shutil.rmtree(layout, ignore_errors=True)
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def add_json(value: object, media_type: str) -> dict[str, object]:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layers = [_add_layer(part, blobs) for part in parts]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": add_json(config, _CONFIG),
        "layers": layers,
    }
    described = add_json(manifest, _MANIFEST)
    described["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))


def write_stream(parts: Sequence[Part], folder: Path, final: Path) -> None:
    """Write `stream.json` into `folder`, which will be called `final`: what nixpkgs'
    stream_layered_image.py reads. The last layer, of links and settings there, is empty."""
    empty = bytes(10240)  # the archive that tar makes of nothing
    (folder / "layer.tar").write_bytes(empty)
    (folder / "checksum").write_text(hashlib.sha256(empty).hexdigest())
    layers = [[str(part.base / member) for member in part.members] for part in parts]
    settings: dict[str, object] = {
        "architecture": "amd64",
        "config": {},
        "created": "1970-01-01T00:00:01+00:00",
        "mtime": "1970-01-01T00:00:01+00:00",
        "customisation_layer": str(final),
        "from_image": None,
        "repo_tag": "image:latest",
        "store_dir": str(Path(layers[0][0]).parent),
        "store_layers": layers,
        "uid": "0",
        "gid": "0",
        "uname": "root",
        "gname": "root",
    }
    (folder / "stream.json").write_text(json.dumps(settings))


def _add_layer(part: Part, blobs: Path) -> dict[str, object]:
    digest, size = hashlib.sha256(), 0
    unnamed = blobs / "unnamed"
    with subprocess.Popen(tar_command(part), stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        with unnamed.open("wb") as blob:
            while block := tar.stdout.read(_BLOCK):
                digest.update(block)
                size += blob.write(block)
    if tar.returncode != 0:
        raise RuntimeError(f"tar ended with {tar.returncode}")
    unnamed.rename(blobs / digest.hexdigest())
    return {"mediaType": _LAYER, "digest": f"sha256:{digest.hexdigest()}", "size": size}


if __name__ == "__main__":
    target, order = map(Path, sys.argv[1:])
    make(
        [Part(base=Path(one["base"]), members=tuple(one["members"]))
         for one in json.loads(order.read_text())],
        target,
    )  # fmt: skip
