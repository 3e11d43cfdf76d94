"""What a program runs on, by its first bytes: the ELF header.

System V ABI, chapter 4, and its processor supplements; ARM's is IHI 0044.
"""

from __future__ import annotations

import struct

from regpush.platform import Platform

HEADER = 52
"""Bytes that are enough; 32-bit files have no more."""

_SYSTEMS = {0: "linux", 3: "linux", 9: "freebsd"}
"""By EI_OSABI; programs of Linux mostly have none (0)."""
_RUNNABLE = (2, 3)
"""ET_EXEC and ET_DYN; objects, kernel modules and programs for BPF are neither."""

# By e_machine, whether it is a 64-bit file, and whether it is little-endian.
_ARCHITECTURES = {
    (3, False, True): "386",
    (6, False, True): "386",
    (8, False, False): "mips",
    (8, False, True): "mipsle",
    (8, True, False): "mips64",
    (8, True, True): "mips64le",
    (21, True, False): "ppc64",
    (21, True, True): "ppc64le",
    (22, True, False): "s390x",
    (40, False, True): "arm",
    (62, True, True): "amd64",
    (183, True, True): "arm64",
    (243, True, True): "riscv64",
    (258, True, True): "loong64",
}
_ARM, _HARD_FLOAT = 40, 0x400


def platform_of(header: bytes) -> Platform | None:
    """What a file with these first bytes runs on; None where it is no program, or an unknown one.

    Of 32-bit ARM what passes floats in registers is for v7, as distributions build it; of the
    rest the header does not say.
    """
    if len(header) < HEADER or header[:4] != b"\x7fELF" or header[6] != 1:
        return None
    wide, little = header[4] == 2, header[5] == 1
    order = "<" if little else ">"
    kind, machine = struct.unpack_from(f"{order}HH", header, 16)
    (flags,) = struct.unpack_from(f"{order}I", header, 48 if wide else 36)
    system = _SYSTEMS.get(header[7])
    architecture = _ARCHITECTURES.get((machine, wide, little))
    if kind not in _RUNNABLE or system is None or architecture is None:
        return None
    variant = "v7" if machine == _ARM and flags & _HARD_FLOAT else ""
    return Platform(system, architecture, variant)
