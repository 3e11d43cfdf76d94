"""Who is measured: regpush, and what else people push images with.

A contender is its commands: what `ready` makes is there beforehand and not measured. Each
pushes what its user would: regpush the directory or store path, the others layers that
somebody has to draw up for them, which are the same for all.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.bench import layouts
from tests.bench.place import Place
from tests.bench.sources import Source

ROOT = Path(__file__).parents[2]
IMAGE = "bench/image"
Commands = list[list[str]]

_SKOPEO = ["skopeo", "--insecure-policy", "copy", "--quiet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """`commands(place, source, ready)` are run one after the other and measured together,
    after those of `before`, which are not.

    `ready` names what `make_ready` must have made of the source. `needs`: programs. `first`
    is who pushes the image that is there already, where that is not the contender itself.
    `sends` is false where nothing is pushed: a yardstick.
    """

    name: str
    needs: tuple[str, ...] = ()
    ready: str | None = None
    first: Contender | None = None
    sends: bool = True
    before: Callable[[Place, Source, Path], Commands] = lambda place, source, ready: []
    commands: Callable[[Place, Source, Path], Commands]

    def missing(self) -> list[str]:
        """The programs it needs that are not on the PATH."""
        return [program for program in self.needs if shutil.which(program) is None]


def regpush(*flags: str, name: str | None = None) -> Contender:
    """regpush with further flags."""

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        to = ["--to", f"{place.host}/{IMAGE}", "--progress", "none"]
        return [[*regpush_command(), str(source.target), *to, *source.flags, *flags]]

    return Contender(name=name or " ".join(["regpush", *flags]), commands=commands)


def regpush_command() -> list[str]:
    """The installed program, as its user would start it; without one, the module."""
    script = Path(sysconfig.get_path("scripts"), "regpush")
    module = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "regpush"]
    return [str(script)] if script.exists() else module


def version() -> Contender:
    """`regpush --version`: what every command costs at least."""

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        return [[*regpush_command(), "--version"]]

    return Contender(name="regpush --version", sends=False, commands=commands)


def skopeo(compression: str) -> Contender:
    """From a layout of uncompressed layers that is there already."""

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        return [_skopeo_copy(ready, place, compression)]

    return Contender(
        name=f"skopeo {compression}", needs=("skopeo",), ready="plain", commands=commands
    )


def skopeo_with_layout(compression: str) -> Contender:
    """The making of the layout counted."""

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        layout = place.work / "layout"
        return [_make_layout(source, layout, place), _skopeo_copy(layout, place, compression)]

    return Contender(name=f"layout + skopeo {compression}", needs=("skopeo",), commands=commands)


def skopeo_ready() -> Contender:
    """From a layout of gzipped layers: somebody has packed and compressed everything."""

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        return [[*_SKOPEO, "--dest-tls-verify=false", f"oci:{ready}:{layouts.TAG}", _docker(place)]]

    return Contender(
        name="skopeo, compressed layout", needs=("skopeo",), ready="gzip", commands=commands
    )


def crane_ready() -> Contender:
    """From a layout of gzipped layers, likewise."""

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        return [["crane", "push", "--insecure", str(ready), f"{place.host}/{IMAGE}:latest"]]

    return Contender(
        name="crane, compressed layout",
        needs=("crane", "skopeo"),
        ready="gzip",
        commands=commands,
    )


def crane_append() -> Contender:
    """`tar | gzip`, and the layer put on what is below it: its user knows what changed."""

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        to = f"{place.host}/{IMAGE}:latest"
        layer = place.work / "layer.tar.gz"
        pack = f"{shlex.join(layouts.tar_command(source.parts[-1]))} | gzip > {layer}"
        return [
            ["bash", "-o", "pipefail", "-c", pack],
            ["crane", "append", "--insecure", "-b", to, "-f", str(layer), "-t", to],
        ]

    return Contender(
        name="tar | gzip, crane append", needs=("crane",), first=regpush(), commands=commands
    )


def buildah() -> Contender:
    """From scratch, a copy and a commit for each layer, and the push."""

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        return [*_build(place, source), _buildah_push(place)]

    return Contender(name="buildah copy, commit, push", needs=("buildah",), commands=commands)


def buildah_push() -> Contender:
    """The image lies in its storage already."""

    def before(place: Place, source: Source, ready: Path) -> Commands:
        return _build(place, source)

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        return [_buildah_push(place)]

    return Contender(name="buildah push", needs=("buildah",), before=before, commands=commands)


def stream_and_skopeo(script: Path) -> Contender:
    """nixpkgs' `streamLayeredImage`, whose `script` it is, and skopeo.

    By way of a file: given a pipe, skopeo copies it to one before it begins, and Debian's
    (1.9.3) fails to read that copy.
    """

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        archive = place.work / "image.tar"
        stream = shlex.join([sys.executable, str(script), str(ready / "stream.json")])
        copy = [*_SKOPEO, "--dest-tls-verify=false", f"docker-archive:{archive}", _docker(place)]
        return [["sh", "-c", f"{stream} > {archive}"], copy]

    return Contender(
        name="nixpkgs' script, skopeo", needs=("skopeo",), ready="stream", commands=commands
    )


def buildkit() -> Contender:
    """A buildkitd that is running (BUILDKIT_HOST). Its cache is the daemon's own: it is never
    empty again, whatever the case says of the home, and its CPU is not counted."""

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        file = _containerfile(place, source)
        image = f"type=image,name={place.host}/{IMAGE}:latest,push=true,registry.insecure=true"
        return [
            [
                *("buildctl", "build", "--frontend", "dockerfile.v0", "--progress", "plain"),
                *(
                    "--local",
                    f"context={source.parts[0].base}",
                    "--local",
                    f"dockerfile={file.parent}",
                ),
                *("--output", image),
            ]
        ]

    return Contender(name="BuildKit", needs=("buildctl", "buildkitd"), commands=commands)


def tar_and(compressor: Sequence[str]) -> Contender:
    """Packing and compressing alone: nothing is hashed and nothing is sent."""

    def commands(place: Place, source: Source, ready: Path) -> Commands:
        pipe = f"| {shlex.join(compressor)} > /dev/null"
        lines = [f"{shlex.join(layouts.tar_command(part))} {pipe}" for part in source.parts]
        return [["bash", "-o", "pipefail", "-c", " && ".join(lines)]]

    name = f"tar | {' '.join(compressor)}"
    return Contender(name=name, needs=(compressor[0],), sends=False, commands=commands)


def make_ready(kind: str, source: Source, folder_of_all: Path) -> Path:
    """What contenders find ready of `source`, kept below
    `folder_of_all`: a `plain` layout, a `gzip`ped
    one as skopeo makes it, or the settings of a `stream`."""
    folder = folder_of_all / "ready" / f"{source.name}-{layouts.key(source.parts)}-{kind}"
    if folder.exists():
        return folder
    unfinished = folder.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    if kind == "plain":
        layouts.make(source.parts, unfinished)
    elif kind == "gzip":
        plain = make_ready("plain", source, folder_of_all)
        tag = layouts.TAG
        copy = [*_SKOPEO, f"oci:{plain}:{tag}", f"oci:{unfinished}:{tag}"]
        subprocess.run(copy, check=True)
    else:
        layouts.write_stream(source.parts, unfinished, folder)
    unfinished.rename(folder)
    return folder


def _make_layout(source: Source, layout: Path, place: Place) -> list[str]:
    order = place.work / "parts.json"
    layouts.write_order(source.parts, order)
    python = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-S", "-m", layouts.__name__]
    return [*python, str(layout), str(order)]


def _skopeo_copy(layout: Path, place: Place, compression: str) -> list[str]:
    flags = ["--dest-tls-verify=false", "--dest-compress-format", compression]
    return [*_SKOPEO, *flags, f"oci:{layout}:{layouts.TAG}", _docker(place)]


def _docker(place: Place) -> str:
    return f"docker://{place.host}/{IMAGE}:latest"


def _buildah(place: Place) -> list[str]:
    storage = place.home / "containers"
    where = ["--root", str(storage / "root"), "--runroot", str(storage / "run")]
    return ["buildah", *where, "--storage-driver", _storage_driver()]


def _build(place: Place, source: Source) -> Commands:
    base = source.parts[0].base
    buildah = _buildah(place)
    if len(source.parts) == 1:
        (member,) = source.parts[0].members
        return [
            [*buildah, "from", "--name", "work", "scratch"],
            [*buildah, "copy", "--quiet", "work", str(base / member), f"/{member}"],
            [*buildah, "commit", "--quiet", "--rm", "work", "image"],
        ]
    file = _containerfile(place, source)
    build = ["build", "--quiet", "--layers", "--tag", "image", "--file", str(file), str(base)]
    return [[*buildah, *build]]


def _containerfile(place: Place, source: Source) -> Path:
    """A COPY, and so a layer, for each part: parts of directories have one member."""
    file = place.work / "Dockerfile"
    copies = [f"COPY {member} /{member}" for part in source.parts for member in part.members]
    file.write_text("\n".join(["FROM scratch", *copies]))
    return file


@cache
def _storage_driver() -> str:
    """overlay where this user may mount one, else vfs, which copies every layer below."""
    with tempfile.TemporaryDirectory() as scratch:
        where = ["--root", f"{scratch}/root", "--runroot", f"{scratch}/run"]
        trial = ["buildah", *where, "--storage-driver", "overlay", "from", "scratch"]
        done = subprocess.run(trial, capture_output=True)
    return "overlay" if done.returncode == 0 else "vfs"


def _buildah_push(place: Place) -> list[str]:
    return [*_buildah(place), "push", "--quiet", "--tls-verify=false", "image", _docker(place)]
