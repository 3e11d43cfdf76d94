"""What splicing the deflate streams of wheels costs and saves: `python -m tests.bench.splicing`.

    python -m tests.bench.splicing ten/*.whl            the layer of each wheel
    python -m tests.bench.splicing --kind text --kind json --size-kib 512 --size-kib 1024

Each layer is packed by the splicing that regpush has, and with every file compressed anew; both are
unpacked by `unpigz`, which container engines call, and by `gzip -t`. They take turns; a table shows
the least of several runs, because other work of the machine only adds to a time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from packaging.utils import parse_wheel_filename

from regpush.closure import Item, LockedPackage
from regpush.layering.plan import PlannedLayer
from regpush.options import Compression
from regpush.pack import tar
from regpush.pack.packer import Packer
from regpush.pack.stream import LayerSource
from regpush.pack.tar import ArchiveOptions
from regpush.sources.lock.overlaps import Overlaps
from regpush.sources.python import wheel
from regpush.sources.python.venv import Environment
from tests.packing import members
from tests.registry.parts import real_part
from tests.wheels import make_wheel

_MIB = 1 << 20
_TOTAL = 24 * _MIB  # bytes of the files of a made wheel
_ENVIRONMENT = Environment(prefix="/app/.venv", version="3.13")
_HEAD = (
    "wheel",
    "MB",
    "bytes x",
    "CPU s",
    "CPU x",
    "members/MiB",
    "unpigz x",
    "unpigz CPU x",
    "gzip -t CPU x",
)


def _code(size: int) -> bytes:
    """Machine code: the extension modules of the standard library, over and over."""
    folder = Path(sysconfig.get_config_var("DESTSHARED"))
    whole = b"".join(path.read_bytes() for path in sorted(folder.glob("*.so")))
    return (whole * (size // len(whole) + 1))[:size]


def _text(size: int) -> bytes:
    """Source code: the modules of the standard library, over and over."""
    whole = b"".join(path.read_bytes() for path in sorted(Path(os.__file__).parent.glob("*.py")))
    return (whole * (size // len(whole) + 1))[:size]


def _json(size: int) -> bytes:
    chance = random.Random(1)
    rows = ({"id": n, "kind": "default", "value": chance.randrange(9)} for n in range(size // 40))
    return "\n".join(map(json.dumps, rows)).encode()[:size]


def _noise(size: int) -> bytes:
    return random.Random(1).randbytes(size)


_KINDS: dict[str, Callable[[int], bytes]] = {
    "code": _code,
    "text": _text,
    "json": _json,
    "noise": _noise,
    "zeros": bytes,
}


@dataclass
class _Measured:
    """The least that the layer of a wheel took: seconds, and what it is."""

    cpu_s: float = float("inf")
    unpigz_s: float = float("inf")
    unpigz_cpu_s: float = float("inf")
    gzip_s: float = float("inf")
    size: int = 0
    unpacked: int = 0


def main() -> int:
    """Print a row for each wheel. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.splicing")
    parser.add_argument("wheels", nargs="*", type=Path, metavar="WHEEL")
    parser.add_argument(
        "--kind", action="append", choices=_KINDS, help="a made wheel of such files"
    )
    parser.add_argument("--size-kib", action="append", type=int, help="of each of these files")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    print(f"| {' | '.join(_HEAD)} |\n|{'---|' * len(_HEAD)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        made = (
            _made(Path(scratch), kind, size << 10)
            for kind in arguments.kind or ()
            for size in arguments.size_kib or (512,)
        )
        for label, path in (*((one.name.split("-")[0], one) for one in arguments.wheels), *made):
            cells = _row(path, Path(scratch), arguments.runs)
            print(f"| {' | '.join((label, *cells))} |", flush=True)
    return 0


def _made(folder: Path, kind: str, size: int) -> tuple[str, Path]:
    data = _KINDS[kind](_TOTAL)
    files = {f"made/{at:09}": data[at : at + size] for at in range(0, len(data) - size + 1, size)}
    path = make_wheel(folder / f"{kind}-{size}", "made", files=files).path
    return f"{kind}, files of {size >> 10} KiB", path


def _row(path: Path, scratch: Path, runs: int) -> Iterator[str]:
    packed, spliced = _Measured(), _Measured()
    for _ in range(runs):
        with mock.patch.object(tar, "SPLICED", sys.maxsize):
            _measure(path, scratch / "packed.gz", packed)
        _measure(path, scratch / "spliced.gz", spliced)
    count = members((scratch / "spliced.gz").read_bytes())
    yield f"{spliced.unpacked / 1e6:.1f}"
    yield f"{spliced.size / packed.size:.3f}"
    yield f"{spliced.cpu_s:.2f}"
    yield f"{spliced.cpu_s / packed.cpu_s:.2f}"
    yield f"{count / (spliced.unpacked / _MIB):.1f}"
    yield f"{spliced.unpigz_s / packed.unpigz_s:.2f}"
    yield f"{spliced.unpigz_cpu_s / packed.unpigz_cpu_s:.2f}"
    yield f"{spliced.gzip_s / packed.gzip_s:.2f}"


def _measure(path: Path, blob: Path, measured: _Measured) -> None:
    """Pack the layer of a wheel into `blob`, unpack it, and keep what was less than before."""
    compression = Compression.parse("gzip")
    planned = PlannedLayer(items=(_item(path),), label=path.name)
    begin_s = time.process_time()
    with Packer(compression, 2) as packer, blob.open("wb") as file:
        source = LayerSource.of(0, planned, ArchiveOptions(), compression)
        stream = source.open(packer, lambda *_: None)
        for chunk in stream:
            file.write(chunk)
    measured.cpu_s = min(measured.cpu_s, time.process_time() - begin_s)
    measured.size, measured.unpacked = stream.size, stream.uncompressed_size
    wall_s, cpu_s = _seconds([real_part("unpigz"), "-c", str(blob)])
    measured.unpigz_s = min(measured.unpigz_s, wall_s)
    measured.unpigz_cpu_s = min(measured.unpigz_cpu_s, cpu_s)
    measured.gzip_s = min(measured.gzip_s, _seconds([real_part("gzip"), "-t", str(blob)])[1])


def _seconds(command: Sequence[str]) -> tuple[float, float]:
    """Wall and CPU time of a command."""
    begin_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took_s = time.perf_counter() - begin_s
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return took_s, usage.ru_utime + usage.ru_stime


def _item(path: Path) -> Item:
    name, version, _, _ = parse_wheel_filename(path.name)
    package = LockedPackage(kind="pypi", name=name, version=str(version))
    return Item(
        path=f"{_ENVIRONMENT.site}/{name}-{version}.dist-info", name=name, origin=name,
        identity=None, size=1, references=(), locked=package, folder=_ENVIRONMENT.prefix,
        entries=lambda: wheel.entries(
            str(path), package, _ENVIRONMENT, Overlaps(lambda event: None)
        ),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
