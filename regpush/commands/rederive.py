"""Pack layers again from a target on this machine, to compare them with layers in a registry.

The recipe of a layer is computed from its items as they are now: from NAR hashes of store items, or
identities of a directory's items. If it equals the recipe in the registry, the items are packed:
the archive must have the diff ID that the image names for the layer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from regpush.closure import Closure, Item, Role
from regpush.concurrency import Cancellation
from regpush.entry import image_path
from regpush.errors import printable
from regpush.flow.image_options import customised
from regpush.image.image import Layer
from regpush.layering.plan import PlannedLayer
from regpush.options import Compression, ImageOptions, SourceOptions
from regpush.pack.packer import Packer
from regpush.pack.recipe import recipe
from regpush.pack.stream import LayerSource, LayerStream
from regpush.pack.tar import ArchiveOptions, Parents
from regpush.platform import Platform
from regpush.settings import StoreLocation
from regpush.sources.nar import hash_entries
from regpush.sources.surroundings import Surroundings
from regpush.sources.targets import resolve
from regpush.sources.tools import Workshop


@contextmanager
def from_targets(
    targets: Sequence[str],
    source: SourceOptions,
    image: ImageOptions,
    stores: tuple[StoreLocation, ...],
    platform: Platform,
    workshop: Workshop,
    surroundings: Surroundings | None = None,
) -> Iterator[Sources]:
    """Yield the items that a push of `targets` with these options would pack.

    Raises the errors of `sources.targets.resolve` and `flow.gather.customised`, but does not refuse
    files that look like secrets, since nothing is sent.
    """
    everything = replace(source, allow_secrets=("*",))
    closure = resolve(
        targets,
        everything,
        stores,
        platform=platform,
        workshop=workshop,
        surroundings=surroundings,
    )
    made = customised(closure, source, image)
    with Packer(Compression(), os.cpu_count() or 1) as packer:
        yield Sources(made.closure, closure, packer, workshop.cancel)


class Sources:
    """The items of the targets on this machine, to compare with layers. Thread-safe.

    `closure`: the items as a push packs them, with changes such as owners. `stored`: the items
    unchanged, as they are in their store.
    """

    def __init__(
        self, closure: Closure, stored: Closure, packer: Packer, cancel: Cancellation
    ) -> None:
        self._closure = closure
        self._stored = stored
        self._packer = packer
        self._cancel = cancel

    def missing(self, layers: Sequence[Layer]) -> list[str]:
        """Return the paths of the items of the targets that none of `layers` holds."""
        held = {path for layer in layers for path in layer.items}
        return [item.path for item in self._closure.items if item.path not in held]

    def compare(self, layer: Layer) -> Iterator[str]:
        """Pack the items of `layer` again, and yield each difference to `layer` as a sentence.

        Raises SourceError for an item that cannot be read, CancelledError.
        """
        if layer.recipe is None or not layer.items:
            yield "the layer's annotations have no recipe or no items: regpush did not make it"
            return
        unknown = [path for path in layer.items if path not in self._closure]
        if unknown:
            yield f"the layer holds {_named(unknown)}, which the target does not contain"
            return
        items = [self._closure[path] for path in layer.items]
        wrong = [item.path for item in items if item.in_store and not self._is_itself(item)]
        if wrong:
            yield (
                f"the files of {_named(wrong)} do not have the hash in the store's database; "
                "repair the store"
            )
        # A damaged item was reported above. Without `recorded`, packing it raises no error.
        yield from self._packed(layer, [replace(item, recorded=None) for item in items])

    def agrees(self, layer: Layer) -> bool:
        """Return whether the recipe of `layer` follows from the hashes in the store's database.

        Reads no files.
        """
        items = [self._closure[path] for path in layer.items if path in self._closure]
        known = [(item.path, item.identity) for item in items if item.identity]
        if len(known) < len(layer.items):
            return False
        return any(recipe(known, options) == layer.recipe for options in self._options())

    def _options(self) -> list[ArchiveOptions]:
        """Return the options with which a push may have packed the items.

        There are two: on a base, a push leaves out parent directories.
        """
        profile = self._closure.profile
        return [ArchiveOptions(profile=profile, parents=parents) for parents in Parents]

    def _is_itself(self, item: Item) -> bool:
        stored = self._stored[item.path]
        root = image_path(item.path)
        digest, _ = hash_entries(stored.entries(), root, self._cancel.check)
        return stored.identity is not None and stored.identity.digest == digest

    def _packed(self, layer: Layer, items: Sequence[Item]) -> Iterator[str]:
        """Pack `items`, and yield a sentence if recipe or diff ID differ from those of `layer`."""
        for options in self._options():
            stream = self._stream(items, options)
            if recipe(stream.identities, options) == layer.recipe:
                if stream.diff_id != layer.diff_id:
                    yield (
                        "the layer does not hold what its recipe says: packed again from the "
                        f"target, the items have the diff ID {stream.diff_id}"
                    )
                return
        hint = any(item.role is Role.GENERATED for item in items)
        yield (
            f"the layer's recipe is not that of {_named(layer.contents)} in the target now"
            f"{'; give -S, --chown and such flags as for the push' if hint else ''}"
        )

    def _stream(self, items: Sequence[Item], options: ArchiveOptions) -> LayerStream:
        source = LayerSource.of(0, PlannedLayer.of(items), options, Compression())
        stream = source.open(self._packer, lambda _read, _sent: self._cancel.check())
        stream.read()
        return stream


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{printable(paths[0])}{more}"
