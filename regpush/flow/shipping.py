"""Send layers of an archive before the plan is made, because the spool cannot hold them all."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from contextlib import ExitStack

from msgspec.structs import replace

from regpush.closure import Item
from regpush.concurrency import workers
from regpush.events import LayersPlanned, Note
from regpush.flow.context import Run
from regpush.flow.gather import Overflow
from regpush.flow.transaction import TagTransaction
from regpush.layering.plan import PlannedLayer
from regpush.options import Compression
from regpush.pack.packer import Packer
from regpush.pack.recipe import Placed
from regpush.pack.stream import LayerSource, Spool
from regpush.pack.tar import ArchiveOptions
from regpush.sources.surroundings import not_kept
from regpush.transfer.schedule import Naming, Transfer, place_alone


class Shipping:
    """Sends layers one by one. `placed` gets the layers that were sent, by their items' paths."""

    def __init__(
        self, run: Run, archive: ArchiveOptions, overflow: Overflow, placed: dict[str, Placed]
    ) -> None:
        self._run, self._archive, self._overflow = run, archive, overflow
        self._placed = placed
        self._labels: list[tuple[str, int]] = []
        self._open = ExitStack()
        self._begun: Transfer | None = None
        self._nothing_moves: bool | None = None

    def ship(self, number: int, item: Item) -> Future[None]:
        """Send `item` as the layer `number`, counted from below; returns a future of its end.

        Nothing is sent where the rule about existing tags leaves nothing to do. Raises
        TagConflictError where that rule permits no image.
        """
        if self._overflow is Overflow.REFUSED:
            raise not_kept()
        if self._overflow is Overflow.FORGOTTEN or self._no_tag_would_move():
            done: Future[None] = Future()
            done.set_result(None)
            return done
        planned = PlannedLayer.of((item,))
        wanted = self._run.options.layers.compression
        source = LayerSource.of(number, planned, self._archive, wanted or Compression())
        self._labels.append((planned.label, source.size))
        labels, sizes = zip(*self._labels, strict=True)
        self._run.notify(LayersPlanned(labels=labels, sizes=sizes))
        recalled = (
            self._run.index.recall(source.recipe, self._run.main.name, wanted)
            if source.recipe
            else []
        )
        layer = replace(source, candidates=recalled, why="sent while it was read")
        transfer = self._transfer()

        def place() -> None:
            self._placed[item.path] = place_alone(layer, transfer)

        return self._pool.submit(place)

    def _no_tag_would_move(self) -> bool:
        """Whether all tags exist and stay (`--if-exists skip`); they are read once, at the start.

        Raises TagConflictError where one exists and `--if-exists fail` was said.
        """
        if self._nothing_moves is None:
            conditional = self._run.rule.conditional
            self._nothing_moves = conditional and TagTransaction.begin(self._run).skips()
        return self._nothing_moves

    def _transfer(self) -> Transfer:
        if self._begun is None:
            run, layers = self._run, self._run.options.layers
            run.notify(
                Note(
                    message="the archive is larger than its spool: layers are sent while it is read"
                )
            )
            jobs = run.options.registry.jobs
            packer = Packer(layers.compression or Compression(), os.cpu_count() or 1)
            self._pool = self._open.enter_context(workers(jobs + 1, run.cancel))
            self._begun = Transfer(
                fan=run.fan,
                stores=run.fan.shelves,
                content=(),
                compression=layers.compression,
                jobs=jobs,
                packer=self._open.enter_context(packer),
                naming=Naming.ALWAYS,
                slots=threading.Semaphore(jobs),
                # An earlier push has probably sent the layer: the registry is asked by its digest.
                spool=Spool(rush=None),
                identities={},
                notify=run.notify,
                cancel=run.cancel,
            )
        return self._begun

    def close(self) -> None:
        """Wait until all layers have been sent."""
        self._open.close()
