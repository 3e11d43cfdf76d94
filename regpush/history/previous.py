"""Find the images that earlier pushes left in the registry, by the tags of a repository.

A push learns from these images and reuses their layers, and so needs no cache on its machine. An
earlier image that cannot be used (another artifact, damaged, for another platform) is a note in the
report, never an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import takewhile
from typing import TypeVar

from msgspec import Struct

from regpush.digest import INDEXES, Descriptor, Digest
from regpush.errors import RefusedError, TransientError, VerificationError
from regpush.events import Event, Listener, Note
from regpush.history.configs import NO_CONFIGS, Configs
from regpush.history.layout import read_of
from regpush.image.image import Image
from regpush.pack.recipe import PreviousImage
from regpush.platform import Platform
from regpush.registry.images import best, read_image
from regpush.registry.repository import Manifest, Repository

LISTED = 8
"""Tags that are read where the given tags, and `latest`, lead to nothing."""

_CONNECTIONS = 8

_ANY_VARIANT = 100

T = TypeVar("T")


class Seen:
    """A repository that is read from: each manifest once for all platforms. Thread-safe.

    `configs`: the configs that are stored on this machine, which are not read again.
    """

    def __init__(self, repository: Repository, configs: Configs = NO_CONFIGS) -> None:
        self._repository = repository
        self._configs = configs
        self._served: set[Digest] = set()
        self._lock = threading.Lock()
        self._manifests: dict[str, Future[Manifest | None]] = {}
        self._tags: dict[str, Future[tuple[str, ...]]] = {}
        self._blobs: dict[str, Future[bytes]] = {}
        self.name = repository.name

    def get_manifest(self, reference: str) -> Manifest | None:
        """Return the manifest at a tag or digest, read once by `Repository.get_manifest`."""
        return self._once(
            self._manifests, reference, lambda: self._repository.get_manifest(reference)
        )

    def get_blob(self, descriptor: Descriptor) -> bytes:
        """Return the config of an image, from this machine or by `Repository.get_blob`."""

        def ask() -> bytes:
            if stored := self._configs.recall(descriptor):
                return stored
            config = self._repository.get_blob(descriptor)
            self._served.add(descriptor.digest)
            self._configs.remember(config)
            return config

        return self._once(self._blobs, f"{descriptor.digest} {descriptor.size}", ask)

    def served(self, blob: Digest) -> bool:
        """Whether `get_blob` has read the blob from the repository; sends no request."""
        return blob in self._served

    def list_tags(self) -> tuple[str, ...]:
        """List the tags by `Repository.list_tags`."""
        return self._once(self._tags, str(self.name), self._repository.list_tags)

    def _once(self, asked: dict[str, Future[T]], key: str, ask: Callable[[], T]) -> T:
        with self._lock:
            if first := key not in asked:
                asked[key] = Future()
            answer = asked[key]
        if first:
            try:
                answer.set_result(ask())
            except BaseException as error:
                answer.set_exception(error)
        return answer.result()


class Past(Struct, frozen=True, kw_only=True, eq=False):
    """The result of a search: manifests by tag, and their images, nearest first.

    `whole` is False where only the tags to be moved were read.
    """

    manifests: dict[str, Manifest]
    images: tuple[PreviousImage, ...]
    whole: bool = True


def look_back(
    repository: Seen,
    tags: Sequence[str],
    others: Sequence[tuple[Seen, str]],
    platform: Callable[[], Platform],
    notify: Listener,
) -> Past:
    """Read the images that `tags`, `latest` and `others` name, and some of the listed tags.

    Tags are listed where no image was found, and where all `tags` are new: `latest`, which does not
    move with them, may be long out of date. `tags`: those about to be moved; `others`: (repository,
    tag or digest) pairs that the user named. `platform` may block: it is called last. Raises only
    errors that would end the push anyway: AuthError and TransientError.
    """
    asked = list(dict.fromkeys([*tags, "latest"]))
    with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="regpush") as pool:
        look = _Look(
            repository=repository, tags=tags, platform=platform, notify=notify, read_in=pool
        )
        # A tag that is not `latest` is likely new, one of a commit: then this is needed.
        listing = pool.submit(_listed, repository, notify) if set(asked) - {"latest"} else None
        found = look.at([*others, *((repository, tag) for tag in asked)])
        own = found[len(others) :]
        images = _images_of(found)
        if not images or (tags and not _images_of(own[: len(tags)])):
            names = listing.result() if listing else _listed(repository, notify)
            images += look.at_listed([tag for tag in names if tag not in asked])
        if not any(image.repository == repository.name for image in images):
            images += look.behind([manifest for manifest, image in own if manifest and not image])
    manifests = {tag: got for tag, (got, _) in zip(asked, own, strict=True) if got}
    fitting = [image for image in images if _fits(image, platform, notify)]
    return Past(manifests=manifests, images=_distinct(fitting))


_Found = tuple[Manifest | None, PreviousImage | None]
"""The manifest at a place, and the image found there or in the index there; None for a lack."""


def _images_of(found: Sequence[_Found]) -> list[PreviousImage]:
    return [image for _, image in found if image]


class _Look(Struct, frozen=True, kw_only=True, eq=False):
    """One look back at `repository`, whose `tags` are about to be moved.

    `read_in`: the threads that read. A place that cannot be read now is a note, unless it is
    one of `tags`.
    """

    repository: Seen
    tags: Sequence[str]
    platform: Callable[[], Platform]
    notify: Listener
    read_in: ThreadPoolExecutor

    def at(self, places: Sequence[tuple[Seen, str]]) -> list[_Found]:
        """Read all `places` in parallel, each a repository with a tag or digest in it.

        The results are in the order of `places`.
        """
        return list(self.read_in.map(self._read, places))

    def at_listed(self, tags: Sequence[str]) -> list[PreviousImage]:
        """Read the images at the few of the listed `tags` that are most likely recent."""
        return self._own(nearest(tags, self.tags))

    def behind(self, damaged: Sequence[Manifest]) -> list[PreviousImage]:
        """Read the images from which the images of the `damaged` manifests were planned.

        The configs of these images cannot be read, but each manifest names the manifests that its
        plan used.
        """
        digests = [str(one) for manifest in damaged for one in read_of(manifest.data)]
        return self._own(list(dict.fromkeys(digests)))

    def _own(self, references: Sequence[str]) -> list[PreviousImage]:
        return _images_of(self.at([(self.repository, one) for one in references]))

    def _read(self, place: tuple[Seen, str]) -> _Found:
        try:
            return _read(*place, self.platform, self.notify)
        except TransientError as error:
            if place[0] is self.repository and place[1] in self.tags:
                raise
            self.notify(Note(message=f"{place[0].name} gives nothing to reuse: {error}"))
            return None, None


def look_near(
    repository: Seen, tags: Sequence[str], platform: Callable[[], Platform], notify: Listener
) -> Past | None:
    """Read the images that `tags` name and no others; None unless each tag names a usable image.

    An unchanged push needs no more: a request for the manifest and one for its config. Raises only
    errors that would end the push anyway: AuthError and TransientError.
    """
    if not tags:
        return None
    said: list[Event] = []
    with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="regpush") as pool:
        found = list(pool.map(lambda tag: _read(repository, tag, platform, said.append), tags))
    images = [image for _, image in found if image and _fits(image, platform, said.append)]
    if len(images) < len(tags):
        return None
    for event in said:
        notify(event)
    manifests = {tag: got for tag, (got, _) in zip(tags, found, strict=True) if got}
    return Past(manifests=manifests, images=_distinct(images), whole=False)


def look_at_tags(repository: Seen, tags: Sequence[str]) -> Past:
    """Read only the manifests that `tags` name, for a push without history."""
    with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="regpush") as pool:
        manifests = dict(zip(tags, pool.map(repository.get_manifest, tags), strict=True))
    return Past(manifests={tag: got for tag, got in manifests.items() if got}, images=())


def _listed(repository: Seen, notify: Listener) -> tuple[str, ...]:
    """List all tags; empty where the registry cannot list them, since this only saves work."""
    try:
        return repository.list_tags()
    except TransientError as error:
        notify(Note(message=f"the tags of {repository.name} cannot be listed: {error}"))
        return ()


def nearest(listed: Sequence[str], tags: Sequence[str]) -> list[str]:
    """Return the tags in `listed` that are probably recent.

    First those similar to `tags`, then the highest: lists hold no times. Tags of referrers and
    signatures are skipped.
    """
    images = [tag for tag in listed if not tag.startswith(("sha256-", "sha512-"))]

    def likeness(tag: str) -> int:
        return max((_common(tag, other) for other in tags), default=0)

    return sorted(images, key=lambda tag: (likeness(tag), natural(tag)), reverse=True)[:LISTED]


def _common(one: str, other: str) -> int:
    """Return the length of the common prefix of two tags."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def natural(tag: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which 1.10 follows 1.9."""
    key: list[tuple[int, int, str]] = []
    while tag:
        digits = "".join(takewhile(lambda c: "0" <= c <= "9", tag))
        letters = "" if digits else "".join(takewhile(lambda c: not "0" <= c <= "9", tag))
        key.append((1, int(digits), "") if digits else (0, 0, letters))
        tag = tag[len(digits or letters) :]
    return key


def _read(
    repository: Seen, reference: str, platform: Callable[[], Platform], notify: Listener
) -> _Found:
    separator = "@" if ":" in reference else ":"
    name = f"{repository.name}{separator}{reference}"
    manifest = None
    try:
        manifest = repository.get_manifest(reference)
        if manifest is None:
            return None, None
        image = _image(repository, manifest, platform)
    except (VerificationError, RefusedError) as error:
        notify(Note(message=f"{name} gives nothing to reuse: {error}"))
        return manifest, None
    if image is None:
        notify(Note(message=f"{name} has no image for {platform()}; nothing to reuse there"))
        return manifest, None
    return manifest, PreviousImage(name=name, repository=repository.name, image=image)


def _image(repository: Seen, manifest: Manifest, platform: Callable[[], Platform]) -> Image | None:
    if manifest.media_type in INDEXES:
        found = best(manifest, partial(_nearness, platform()), repository)
        return read_image(found, repository) if found else None
    return read_image(manifest, repository)


def _nearness(wanted: Platform, one: Platform) -> int | None:
    """Return how near the platform `one` is to `wanted`, 0 for equal; None if unrelated.

    Layers are often equal for all variants, so an image for any variant is used, the wanted variant
    first.
    """
    if (rank := one.rank(wanted)) is not None:
        return rank
    return _ANY_VARIANT if one.akin(wanted) else None


def _fits(before: PreviousImage, platform: Callable[[], Platform], notify: Listener) -> bool:
    got, wanted = before.image.platform, platform()
    if got.akin(wanted):
        return True
    notify(Note(message=f"{before.name} is for {got}, not {wanted}; nothing to reuse there"))
    return False


def _distinct(images: Sequence[PreviousImage]) -> tuple[PreviousImage, ...]:
    by_digest = {
        (before.repository, before.image.descriptor.digest): before for before in reversed(images)
    }
    return tuple(reversed(by_digest.values()))
