"""Find the platforms of the programs in a directory: of its own code, else of its dependencies.

Of at most 32 files, the largest that may be programs, the first `elf.HEADER` bytes are read. The
result is stored; no file is opened while the lstat data of these files stays equal.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from regpush.closure import Closure, Programs
from regpush.files.filesystem import read_start
from regpush.files.listing import ByFolder, Names, Row, join
from regpush.platform import Platform
from regpush.sources.elf import HEADER, platform_of
from regpush.sources.stats import Stats
from regpush.sources.tree import Tree

_LIBRARY = re.compile(rb"\.so(?:\.[0-9.]+)?$|\.node$")

LOOKED_AT = 32
"""Maximum number of files that are opened. The largest are chosen, because programs are larger than
the scripts that start them."""


def programs(tree: Tree, tops: ByFolder, stop_at: ByFolder) -> Programs:
    """Choose the files at and below `tops`, except `stop_at`, that are most likely programs.

    They are not opened before `Programs.read` is called.
    """
    chosen = sorted(_largest(tree.listing.below(tops, stop_at)), key=lambda one: one.path)
    stamp, newest_ns = hashlib.sha256(), 0
    for one in chosen:
        stamp.update(b"%d:%b%b" % (len(one.path), one.path, one.row))
        (row,) = Row.unpack(one.row)
        newest_ns = max(newest_ns, row.mtime_ns, row.ctime_ns)

    def read() -> dict[Platform, str]:
        found: dict[Platform, str] = {}
        for one in chosen:
            if platform := platform_of(read_start(tree.listing.root, one.path, HEADER)):
                found.setdefault(platform, os.fsdecode(one.path))
        return found

    return Programs(stamp=stamp.digest(), newest_ns=newest_ns, read=read)


class _Likely(NamedTuple):
    size: int
    path: bytes
    row: bytes


def _largest(selected: Iterable[Names]) -> list[_Likely]:
    """Return the largest files that are executable or named like libraries, `LOOKED_AT` at most."""
    heap: list[_Likely] = []
    smallest = HEADER
    for names in selected:
        likely: Collection[int] = names.executable()
        joined = b"\0".join(names.names)
        if b".so" in joined or b".node" in joined:
            libraries = (i for i, name in enumerate(names.names) if _LIBRARY.search(name))
            likely = {*likely, *libraries}
        if not likely:
            continue
        sizes = names.sizes()
        for index in likely:
            if sizes[index] < smallest:
                continue
            path = join(names.folder, names.names[index])
            heapq.heappush(heap, _Likely(sizes[index], path, names.row(index)))
            if len(heap) > LOOKED_AT:
                heapq.heappop(heap)
                smallest = heap[0].size
    return heap


def run_on(closure: Closure, stats: Stats, *, now_ns: int) -> Mapping[Platform, str]:
    """Return the platforms of a directory's programs, each with the path of one program.

    They are recalled from `stats`, else read and stored there. Empty for a closure of store items.
    `now_ns`: the present time, in nanoseconds since the epoch.
    """
    for some in closure.programs:
        listed = some()
        known = stats.recall_programs(listed)
        found = listed.read() if known is None else known
        if known is None:
            stats.remember_programs(listed, found, read_ns=now_ns)
        if found:
            return found
    return {}
