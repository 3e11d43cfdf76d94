"""A process that swaps pairs of names again and again: `python tests/flip.py A B …`.

Each pair of paths is exchanged by renameat2(2) with RENAME_EXCHANGE, so that both always exist. It
uses only the standard library and ends when its stdin is closed.
"""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_PAUSE_S = 0.003


def exchange(one: Path, other: Path) -> None:
    """Exchange two names in one step. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(one))


@contextmanager
def flipping(pairs: Sequence[tuple[Path, Path]]) -> Iterator[None]:
    """Swap the two paths of each of `pairs` every few milliseconds, in a process of its own."""
    words = [str(path) for pair in pairs for path in pair]
    with subprocess.Popen([sys.executable, __file__, *words], stdin=subprocess.PIPE) as process:
        yield
        assert process.poll() is None, "nothing was swapped any more"
        process.communicate()


def _flip_for_ever(paths: Sequence[str]) -> None:
    pairs = [(Path(paths[i]), Path(paths[i + 1])) for i in range(0, len(paths), 2)]
    while True:
        for one, other in pairs:
            exchange(one, other)
            if select.select([sys.stdin], [], [], _PAUSE_S / len(pairs))[0]:
                return


if __name__ == "__main__":
    _flip_for_ever(sys.argv[1:])
