"""The base of an image: reading it for a platform, and bringing its layers along."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from regpush.concurrency import Cancellation, parallel
from regpush.digest import Descriptor, Digest
from regpush.errors import RefusedError, UsageError, VerificationError
from regpush.events import Action, LayerDone, LayerSent, Listener
from regpush.history.configs import NO_CONFIGS, Configs
from regpush.history.previous import Seen
from regpush.image.image import Base
from regpush.options import MAX_LAYERS
from regpush.pack.recipe import Placed
from regpush.platform import Platform
from regpush.reference import Reference
from regpush.registry.client import Client
from regpush.registry.images import Holder, read_image
from regpush.registry.repository import Access, Repository
from regpush.sources.surroundings import BaseFacts
from regpush.transfer.blobs import Passage, bring, check_distributable, send
from regpush.transfer.choice import check_platform, choose, find
from regpush.transfer.graph import check_schema

_AT_ONCE = 12
_DEAREST = (Action.UPLOADED, Action.MOUNTED, Action.REUSED)


class BaseRepository(Struct, frozen=True, kw_only=True, eq=False):
    """A base image in its repository; `seen` reads each of its manifests once.

    `called`: the flag that names the base, for messages.
    """

    reference: Reference
    repository: Repository
    seen: Holder
    called: str = "--from"

    @classmethod
    def of(
        cls,
        base: str,
        client: Client,
        configs: Configs = NO_CONFIGS,
        *,
        called: str = "--from",
    ) -> BaseRepository:
        """Find the repository of the image `base`, named by the flag `called`.

        `configs`: those that need not be read from it. Raises UsageError for a malformed reference.
        """
        reference = Reference.parse(base)
        repository = client.repository(reference, Access.PULL)
        seen = Seen(repository, configs)
        return cls(reference=reference, repository=repository, seen=seen, called=called)

    def read(self, platform: Platform) -> Base:
        """Read the base for `platform`.

        Raises RefusedError where it does not exist, UsageError where it is for other platforms or
        cannot be a base, VerificationError for anything but an image.
        """
        reference = self.reference
        try:
            found = choose(find(reference, self.seen), reference, platform, self.seen)
            check_schema(found, self.repository.name)
            image = read_image(found, self.seen)
            check_platform(image, reference, platform)
            check_distributable([layer.descriptor for layer in image.layers], "it")
        except (RefusedError, UsageError, VerificationError) as error:
            raise type(error)(f"{self.called} {reference}: {error}") from error
        if len(image.layers) >= MAX_LAYERS:
            raise UsageError(
                f"{self.called} {reference}: it has {len(image.layers)} layers, and an image may "
                f"have {MAX_LAYERS}; no layer is left for the app"
            )
        return Base(name=_name(reference), image=image)


def _name(reference: Reference) -> str:
    """Return the reference by which tools pull the base.

    A base with a tag is called by it: its digest is recorded apart.
    """
    return f"{reference.name}:{reference.tag}" if reference.tag else str(reference)


class Bases:
    """The base images of one run. Thread-safe.

    `asked`: the base that the user names, if any. `configs`: those that need not be read.
    """

    def __init__(self, client: Client, asked: str | None, configs: Configs = NO_CONFIGS) -> None:
        self._client = client
        self._configs = configs
        self._asked = asked
        self._lock = threading.Lock()
        self._read: dict[tuple[str, Platform], Base] = {}
        self._repositories: dict[str, BaseRepository] = {}

    def base_repository(self, reference: str) -> BaseRepository:
        """Return the repository and reference of the base image `reference`.

        Raises UsageError for a malformed reference.
        """
        with self._lock:
            if reference not in self._repositories:
                called = "--from" if self._asked == reference else "the base image"
                found = BaseRepository.of(reference, self._client, self._configs, called=called)
                self._repositories[reference] = found
            return self._repositories[reference]

    def read(self, at: BaseRepository, platform: Platform) -> Base:
        """Read the base for `platform`, once. Raises the errors of `BaseRepository.read`."""
        with self._lock:
            key = str(at.reference), platform
            if key not in self._read:
                self._read[key] = at.read(platform)
            return self._read[key]

    def facts(self, reference: str, platform: Platform) -> BaseFacts:
        """Return facts from the config of the image `reference`. Raises the errors of `read`."""
        config = json.loads(self.read(self.base_repository(reference), platform).image.config)
        run = config.get("config")
        listed = run.get("Env") if isinstance(run, Mapping) else None
        labels = run.get("Labels") if isinstance(run, Mapping) else None
        history = config.get("history")
        return BaseFacts(
            reference=reference,
            env={
                name: value
                for text in (listed if isinstance(listed, list) else ())
                if isinstance(text, str)
                for name, _, value in (text.partition("="),)
            },
            labels={
                key: value
                for key, value in (labels if isinstance(labels, Mapping) else {}).items()
                if isinstance(value, str)
            },
            history=tuple(
                one["created_by"]
                for one in (history if isinstance(history, list) else ())
                if isinstance(one, Mapping) and isinstance(one.get("created_by"), str)
            ),
        )


class BaseLayers(Struct, frozen=True, kw_only=True, eq=False):
    """The layers of a base, to be brought to the repositories of the image.

    `targets`: all these repositories. `first`: the number of the lowest layer in events.
    """

    base: Base
    source: Repository
    targets: Sequence[Repository]
    first: int
    slots: threading.Semaphore
    notify: Listener
    cancel: Cancellation

    def bring(self, lost: Collection[Digest] = ()) -> tuple[Placed, ...]:
        """Bring every layer to every target: found in the target, mounted, or passed through.

        Layers that are `lost` are sent even where a target says that it has them. Raises the errors
        of `blobs.bring`; the first failure ends all transfers.
        """
        layers = self.base.to_inherit().layers
        numbers = {layer.descriptor.digest: self.first + n for n, layer in enumerate(layers)}

        def progress(blob: Descriptor, passed: int) -> None:
            number = numbers[blob.digest]
            self.notify(LayerSent(index=number, sent=passed, size=blob.size))

        passages = [
            Passage(
                source=self.source,
                target=target,
                slots=self.slots,
                cancel=self.cancel,
                progress=progress,
            )
            for target in self.targets
        ]

        def place(blob: Descriptor) -> Action:
            way = send if blob.digest in lost else bring
            action = min((way(blob, one) for one in passages), key=_DEAREST.index)
            self.notify(
                LayerDone(
                    index=numbers[blob.digest],
                    action=action,
                    size=blob.size,
                    why=self._why,
                )
            )
            return action

        blobs = {layer.descriptor.digest: layer.descriptor for layer in layers}
        actions = parallel(_AT_ONCE, list(blobs.values()), place, self.cancel) if blobs else []
        return self._placed(dict(zip(blobs, actions, strict=True)))

    def foresee(self) -> tuple[Placed, ...]:
        """Predict what `bring` would do, as far as HEAD requests tell; sends nothing."""

        def look(blob: Descriptor) -> Action:
            lacking = [one for one in self.targets if not one.has_blob(blob)]
            if not lacking:
                return Action.REUSED
            here = all(one.name.is_beside(self.source.name) for one in lacking)
            return Action.MOUNTED if here else Action.UPLOADED

        blobs = {layer.descriptor.digest: layer.descriptor for layer in self.base.image.layers}
        actions = parallel(_AT_ONCE, list(blobs.values()), look, self.cancel) if blobs else []
        return self._placed(dict(zip(blobs, actions, strict=True)))

    def standing(self) -> tuple[Placed, ...]:
        """Return all layers as reused, for targets that are known to hold the image."""
        layers = self.base.image.layers
        return self._placed({layer.descriptor.digest: Action.REUSED for layer in layers})

    @property
    def _why(self) -> str:
        return f"part of {self.base.name}"

    def _placed(self, actions: dict[Digest, Action]) -> tuple[Placed, ...]:
        return tuple(
            Placed(layer=layer, action=actions[layer.descriptor.digest], why=self._why)
            for layer in self.base.to_inherit().layers
        )
