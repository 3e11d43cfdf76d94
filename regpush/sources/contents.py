"""Hash the contents of many files, each read once, in several threads and a second process."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from regpush.closure import Item
from regpush.concurrency import Cancellation
from regpush.entry import HEAD, LOOK_AT, Entry, OnDisk
from regpush.files.content_hash import ContentHash
from regpush.files.filesystem import GuardedFile, read_listed
from regpush.files.scan_ahead import ScanAhead

_BLOCK = 1 << 20
# Limits of one thread's task: many files, so that starting tasks costs little; few bytes, so that
# large files are spread over the threads.
_BATCH_FILES = 64
_BATCH_BYTES = 16 << 20
_AHEAD = 4  # maximum waiting tasks for each thread, so that memory is bounded for any tree

Member: TypeAlias = tuple[Item, Entry]

Look: TypeAlias = Callable[[Item, Entry, bytes | bytearray, int, int], None]
"""A function that is called, in several threads, with each file's item and what `closure.Look`
describes: its entry, and where in a buffer its first bytes are."""


def digests(
    members: Iterable[Member], look: Look, ahead: ScanAhead | None, cancel: Cancellation
) -> Iterator[tuple[Member, bytes]]:
    """Hash the content of each member; yield the member and its `ContentHash` (32 bytes), in order.

    The digest is empty for a member that is not a file on disk. `members` is read as far as the
    work has advanced. `look`: called with each file before its digest is yielded; may raise.
    `ahead`: a second process that hashes files; those that it has hashed are not read again, and
    `look` is called with none of them, because they hold no secrets. Raises SourceError for a file
    that cannot be read or was changed since it was listed, CancelledError.
    """
    threads = max((os.cpu_count() or 1) - bool(ahead), 1)
    waiting: deque[Future[list[tuple[Member, bytes]]]] = deque()
    # More threads would not help: with small files the interpreter, which runs one thread at a
    # time, is the limit.
    with ThreadPoolExecutor(threads) as pool:
        for batch in _batches(members):
            waiting.append(pool.submit(_batch, batch, look, ahead, cancel))
            if len(waiting) > threads * _AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _batches(members: Iterable[Member]) -> Iterator[list[Member]]:
    batch: list[Member] = []
    size = 0
    for member in members:
        batch.append(member)
        size += member[1].size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def _batch(
    batch: list[Member], look: Look, ahead: ScanAhead | None, cancel: Cancellation
) -> list[tuple[Member, bytes]]:
    cancel.check()
    if ahead:
        ahead.catch_up()
    return [
        (member, (ahead and ahead.digest(content)) or _digest(member, content, look, cancel))
        if isinstance(content := member[1].content, OnDisk)
        else (member, b"")
        for member in batch
    ]


def _digest(member: Member, content: OnDisk, look: Look, cancel: Cancellation) -> bytes:
    item, entry = member
    if entry.size <= HEAD:
        data = read_listed(entry, content)
        look(item, entry, data, 0, len(data))
        return ContentHash(data).digest()
    digest = ContentHash()
    block = bytearray(min(_BLOCK, entry.size))
    memory = memoryview(block)
    with GuardedFile(entry, content) as file:
        count = file.readinto(memory)
        look(item, entry, block, 0, min(count, LOOK_AT))
        while count:
            cancel.check()
            digest.update(memory[:count])
            count = file.readinto(memory)
        file.finish()
    return digest.digest()
