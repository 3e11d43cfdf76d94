"""Read the platform that a program was built for from its ELF header.

System V ABI, chapter 4, and its processor supplements; ARM's is IHI 0044.
"""

from __future__ import annotations

import struct

from regpush.platform import Platform

HEADER = 52
"""Bytes of a file that `platform_of` needs: the size of a 32-bit ELF header."""

_SYSTEMS = {0: "linux", 3: "linux", 9: "freebsd"}
"""Operating systems by the header's EI_OSABI; most programs for Linux have 0."""
_RUNNABLE = (2, 3)
"""The ELF types of programs, ET_EXEC and ET_DYN; object files and kernel modules have others."""

# Keys: e_machine, whether the file is 64-bit, whether it is little-endian.
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
    """Return the platform of a program, given its first bytes (`HEADER` or more).

    None for a file that is not an ELF program, and for an unknown processor or system. A 32-bit ARM
    program that passes floats in registers gets the variant v7, for which distributions build such
    programs; for other ARM programs the header does not tell the variant.
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
