"""The size of a source's layers as Go's compress/gzip makes them, level 6."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.bench import layouts
from tests.bench.sources import Source

_PROGRAM = Path(__file__).with_name("gzip_size.go")


def size(source: Source, cache: Path) -> int | None:
    """Bytes of all layers together; None without Go. It takes half a minute a GB, once."""
    if shutil.which("go") is None:
        return None
    known = cache / "ready" / f"{source.name}-{layouts.key(source.parts)}-go.json"
    if known.exists():
        found: int = json.loads(known.read_text())
        return found
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch, "gzip_size")
        environment = {"GOCACHE": f"{scratch}/cache", "GO111MODULE": "off", **os.environ}
        build = ["go", "build", "-o", str(program), str(_PROGRAM)]
        subprocess.run(build, check=True, env=environment)
        total = sum(
            int(
                subprocess.run(
                    ["sh", "-c", f"{shlex.join(layouts.tar_command(part))} | {program}"],
                    check=True,
                    capture_output=True,
                ).stdout
            )
            for part in source.parts
        )
    known.parent.mkdir(exist_ok=True)
    known.write_text(json.dumps(total))
    return total
