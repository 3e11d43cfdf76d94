"""Reads and compresses archives ahead of the thread that sends them, in bounded memory.

One thread for each layer reads, all cores compress, and the thread that iterates hashes and sends.
So these steps overlap within a single large layer, and small layers fill each other's gaps.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from msgspec import Struct

from regpush.options import Compression
from regpush.pack.compression import codec
from regpush.pack.page import Filled
from regpush.pack.tar import Archive


class Piece(Struct, frozen=True, eq=False):
    """A block of an archive, valid until the next piece is asked for.

    `chunk` returns the compressed block; it waits until that is ready.
    """

    block: memoryview
    chunk: Callable[[], bytes]


class Packer:
    """The threads and the memory that all layers of a push share. A context manager.

    `cores` threads compress. A layer always has one block of memory to itself, so that it never
    waits for another layer, and may take free ones of the shared `spare` blocks: `SPARE` bytes of
    them, or one for each core if that is more. `OWN`: bytes of the own blocks of layers that are
    longer than a block.
    """

    # 12 and 24 MiB were not faster, on two cores, and zstd used 25 MB more with them.
    SPARE = 8 << 20
    OWN = 16 << 20

    # Compressed blocks are freed as they are sent. By default glibc returns the memory at the end
    # of a heap to the kernel above 128 KiB to 2 MiB, and to take it back costs a page fault for
    # every 4 KiB, 3 µs each.
    KEPT = 4 << 20
    """Twice as many bytes of freed memory stay with the process."""

    def __init__(self, compression: Compression, cores: int) -> None:
        self.codec = codec(compression)
        # glibc takes the size of a mapping that is freed as the size from which it maps blocks, and
        # twice that as the size from which it returns them: mallopt(3), M_MMAP_THRESHOLD. These
        # zeros are never touched, so they take no memory.
        bytes(self.KEPT)
        self.spare = threading.Semaphore(max(self.SPARE // self.codec.block, cores))
        self._long = threading.Semaphore(max(self.OWN // self.codec.block, 2))
        self._cores = ThreadPoolExecutor(cores, thread_name_prefix="regpush-core")
        # Reading many small files is work of the interpreter, which runs one thread at a time;
        # several threads only take its lock from each other at every system call. So they take
        # turns, one block each, and no layer waits for another's network. Reading and hashing
        # large files does not hold the lock, and half the cores may do it.
        self._turns = _Turns(max(cores // 2, 1))
        self._ranks = itertools.count()
        self._idle: SimpleQueue[bytearray] = SimpleQueue()
        self._readers: set[_ReadAhead] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for reader in tuple(self._readers):
            reader.stop()
        self._cores.shutdown(cancel_futures=True)

    def room(self, size: int) -> AbstractContextManager[object]:
        """Return a context that begins when there is memory for a layer of `size` bytes.

        Of layers that are longer than a block, only as many are packed at a time as have their own
        blocks in `OWN` bytes, two at least. Shorter layers never wait. A layer must enter this
        context before it takes anything else that others wait for.
        """
        return self._long if size > self.codec.block else nullcontext()

    def rank(self) -> int:
        """Return the rank of the next archive; archives of lower ranks are read first."""
        return next(self._ranks)

    def pieces(self, archive: Archive, rank: int) -> Generator[Piece, None, None]:
        """Read and compress `archive`, which has the rank `rank`; yields all its pieces.

        Raises any error that reading the archive raises. To stop early, close the iterator: this
        ends the work in other threads.
        """
        block = self.borrow()
        filled = self.read(archive, block, rank)
        first = memoryview(block)[: filled.used]
        if not filled.is_last:
            reader = _ReadAhead(self, archive, (block, first, self.packed(first, filled)), rank)
            self._readers.add(reader)
            try:
                yield from reader
            finally:
                self._readers.discard(reader)
            return
        # Most layers are no longer than one block, so a thread that reads ahead would save nothing.
        yield Piece(first, self.packed(first, filled).result)
        self.give_back(block)

    def blocks(self, archive: Archive, rank: int) -> Iterator[memoryview]:
        """Read `archive` without compressing; yields blocks, each valid until the next.

        Raises any error that reading the archive raises.
        """
        block = self.borrow()
        is_last = False
        while not is_last:
            count, _, is_last = self.read(archive, block, rank)
            yield memoryview(block)[:count]
        self.give_back(block)

    def borrow(self) -> bytearray:
        """Return a block of memory to read into, an idle one or a new one."""
        try:
            return self._idle.get_nowait()
        except Empty:
            return bytearray(self.codec.block)

    def give_back(self, block: bytearray) -> None:
        """Return `block` to the idle ones, so that another layer can use it."""
        self._idle.put(block)

    def read(self, archive: Archive, block: bytearray, rank: int) -> Filled:
        """Read the next part of `archive` into `block`. Returns how much of it was filled.

        Of archives that are read at the same time, those of a lower `rank` are read first.
        """
        with self._turns.of(rank):
            return archive.readinto(block)

    def packed(self, block: memoryview, filled: Filled) -> Future[bytes]:
        """Compress `block` on another core; returns a future of the compressed bytes.

        If `filled.packed` has these bytes, because the block is copied from an existing compressed
        stream, nothing is compressed.
        """
        if filled.packed is None:
            return self._cores.submit(self.codec.compress, block)
        known: Future[bytes] = Future()
        known.set_result(filled.packed)
        return known


class _Turns:
    """Lets `count` threads work at a time; of those that wait, the lowest rank is next.

    With equal ranks, all layers would be packed at the same pace, and a slow link would be idle
    until, much later, all of them were ready to be sent at once.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._waiting: list[tuple[int, int, threading.Lock]] = []
        self._came = itertools.count()

    @contextmanager
    def of(self, rank: int) -> Iterator[None]:
        """Wait for a turn, which lasts until the `with` block ends.

        Of the threads that wait, the one with the lowest `rank` is next.
        """
        with self._lock:
            gate = None if self._free else threading.Lock()
            if gate:
                gate.acquire()
                heapq.heappush(self._waiting, (rank, next(self._came), gate))
            else:
                self._free -= 1
        if gate:
            gate.acquire()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    heapq.heappop(self._waiting)[2].release()
                else:
                    self._free += 1


class _Ready(Struct, frozen=True, eq=False):
    """A block that was read, and the future of its compressed form.

    `block`: the filled part of `memory`. `room`: the semaphore that counts the memory.
    """

    memory: bytearray
    block: memoryview
    compressed: Future[bytes]
    room: threading.Semaphore


class _ReadAhead:
    """A thread that reads one archive and has its blocks compressed, as far as memory allows."""

    def __init__(
        self,
        packer: Packer,
        archive: Archive,
        first: tuple[bytearray, memoryview, Future[bytes]],
        rank: int,
    ) -> None:
        self._packer = packer
        self._archive = archive
        self._rank = rank
        self._own = threading.Semaphore(0)
        self._ready: SimpleQueue[_Ready | BaseException | None] = SimpleQueue()
        self._ready.put(_Ready(*first, self._own))
        self._stopped = False

    def __iter__(self) -> Iterator[Piece]:
        thread = threading.Thread(target=self._read, name="regpush-read", daemon=True)
        thread.start()
        try:
            while (ready := self._ready.get()) is not None:
                if isinstance(ready, BaseException):
                    raise ready
                try:
                    yield Piece(ready.block, ready.compressed.result)
                    self._packer.give_back(ready.memory)
                finally:
                    ready.room.release()
        finally:
            self.stop()
            thread.join()
            self._let_go()

    def stop(self) -> None:
        """Tell the thread that reads to end; it may have ended already."""
        self._stopped = True
        self._own.release()

    def _read(self) -> None:
        packer = self._packer
        try:
            is_last = False
            while not is_last:
                room = self._room()
                if self._stopped:
                    room.release()
                    return
                block = packer.borrow()
                filled = packer.read(self._archive, block, self._rank)
                is_last = filled.is_last
                read = memoryview(block)[: filled.used]
                self._ready.put(_Ready(block, read, packer.packed(read, filled), room))
            self._ready.put(None)
        except BaseException as error:  # raised again in the thread that iterates
            self._ready.put(error)

    def _let_go(self) -> None:
        """Release the memory of blocks that were read and will not be used."""
        with suppress(Empty):
            while True:
                if isinstance(ready := self._ready.get_nowait(), _Ready):
                    ready.compressed.cancel()
                    ready.room.release()

    def _room(self) -> threading.Semaphore:
        """Take memory for a block; returns the semaphore to release afterwards.

        It is the layer's own memory, else a spare block; where neither is free, waits for the
        layer's own.
        """
        for room in (self._own, self._packer.spare):
            if room.acquire(blocking=False):
                return room
        self._own.acquire()
        return self._own
