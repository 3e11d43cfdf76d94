"""The sha256 of many files' contents, read once each and by several threads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from regpush.cancel import Cancellation
from regpush.entry import Entry, OnDisk
from regpush.filesystem import GuardedFile

_BLOCK = 1 << 20
# What a thread takes at a time: enough files that taking costs nothing, few enough bytes that
# large files spread over the threads.
_BATCH_FILES = 256
_BATCH_BYTES = 16 << 20

Look = Callable[[Entry, bytes], None]
"""Called with each file and the first bytes of it (`HEAD` at most), from several threads."""

HEAD = 1 << 16


def digests(entries: list[Entry], cancel: Cancellation, look: Look | None = None) -> list[bytes]:
    """The raw digest (32 bytes) of each entry's content, empty for all but files, in order.

    Raises SourceError for a file that cannot be read or changed since it was listed.
    """
    found: list[bytes] = []
    # Small files keep the interpreter busy, not the cores: more threads only get in their way.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(lambda batch: _batch(batch, cancel, look), _batches(entries)):
            found += part
    return found


def _batches(entries: list[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += entry.size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def _batch(batch: list[Entry], cancel: Cancellation, look: Look | None) -> list[bytes]:
    memory = memoryview(bytearray(min(_BLOCK, max((entry.size for entry in batch), default=0))))
    return [
        _digest(entry, entry.content, memory, cancel, look)
        if isinstance(entry.content, OnDisk)
        else b""
        for entry in batch
    ]


def _digest(
    entry: Entry, content: OnDisk, memory: memoryview, cancel: Cancellation, look: Look | None
) -> bytes:
    digest = hashlib.sha256()
    with GuardedFile(entry, content) as file:
        # A file is empty, or its first read gives bytes; either way it is looked at once.
        count = file.readinto(memory)
        if look:
            look(entry, bytes(memory[: min(count, HEAD)]))
        while count:
            cancel.check()
            digest.update(memory[:count])
            count = file.readinto(memory)
        file.finish()
    return digest.digest()
