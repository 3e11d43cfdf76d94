"""Makes programs for other machines: files with an ELF header and nothing to run.

The header is written from the System V ABI and its processor supplements, not from our reader.
"""

from __future__ import annotations

import struct
from pathlib import Path

# By Go's architecture: class, data encoding, e_machine, e_flags.
_KINDS = {
    "amd64": (2, 1, 62, 0),
    "arm64": (2, 1, 183, 0),
    "386": (1, 1, 3, 0),
    "armv7": (1, 1, 40, 0x0500_0400),
    "ppc64le": (2, 1, 21, 2),
    "s390x": (2, 2, 22, 0),
    "riscv64": (2, 1, 243, 5),
    "loong64": (2, 1, 258, 0x43),
}


def elf(architecture: str, salt: bytes = b"") -> bytes:
    """Return an executable for `architecture`; `salt` follows the header, to tell files apart."""
    bits, order, machine, flags = _KINDS[architecture]
    ident = b"\x7fELF" + bytes([bits, order, 1]) + bytes(9)
    layout = ("<" if order == 1 else ">") + ("HHIQQQIHHHHHH" if bits == 2 else "HHIIIIIHHHHHH")
    size = 64 if bits == 2 else 52
    return (
        ident + struct.pack(layout, 2, machine, 1, 0, size, 0, flags, size, 56, 0, 64, 0, 0) + salt
    )


def program(path: Path, architecture: str, salt: bytes = b"") -> Path:
    """Write an executable file for `architecture` at `path`; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(elf(architecture, salt))
    path.chmod(0o755)
    return path


def builds(root: Path, *architectures: str) -> str:
    """Write a build for each of `architectures` below `root`.

    Returns the target with the placeholder `{arch}` that names them all.
    """
    for one in architectures:
        program(root / one / "bin/app", one, one.encode() * 50)
        (root / one / "node_modules/same").mkdir(parents=True)
        (root / one / "node_modules/same/index.js").write_text("of every architecture\n" * 40)
        (root / one / "start.sh").write_text(f"exec /app/bin/app # {one}\n")
    return str(root / "{arch}")
