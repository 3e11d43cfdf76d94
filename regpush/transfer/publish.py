"""The end of a push: config, manifest by digest, and last the tags, as far as rules permit.

No tag moves before the registry holds every blob and has confirmed the manifest. A registry has no
transaction over several tags, and no compare-and-swap. So the rule judges all tags before the first
is moved, and each is read back (docs/internals/registries.md, section 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from enum import Enum, auto

from msgspec import Struct

from regpush.digest import INDEXES, Digest
from regpush.errors import (
    AuthError,
    CancelledError,
    RefusedError,
    RegpushError,
    TagConflictError,
    TransientError,
    UsageError,
    VerificationError,
)
from regpush.events import InputWarned, Listener, Note, TagMoved, Warned
from regpush.image.image import Image
from regpush.image.index import platforms_said
from regpush.options import IfExists, RegistryOptions
from regpush.platform import Platform
from regpush.reference import RepositoryName
from regpush.registry.api import MissingBlobsError
from regpush.registry.repository import Manifest, Repository

_LOOKERS = 8
_MOVES = 3
"""How many times at most a tag is put while the registry still answers with the old digest."""


def push_config(image: Image, repository: Repository) -> None:
    """Send the config of `image` unless the registry holds it."""
    config = image.config_descriptor
    with repository.upload() as upload:
        if not repository.has_blob(config):
            upload.put(config, lambda: iter((image.config,)))


def send_config(image: Image, repository: Repository) -> None:
    """Send the config of `image`, even where the registry says that it holds it."""
    repository.put_blob(image.config_descriptor, lambda: iter((image.config,)))


def manifest_of(image: Image) -> Manifest:
    """Return the manifest of `image` in the form in which a registry will hold it."""
    descriptor = image.descriptor
    return Manifest(media_type=descriptor.media_type, data=image.manifest, digest=descriptor.digest)


def push_manifest(manifest: Manifest, repository: Repository) -> None:
    """Send a manifest or index by its digest; the registry's reply, or a request, confirms it.

    Raises VerificationError where the registry then holds anything else.
    """
    digest = manifest.digest
    told = repository.put_manifest(manifest.data, manifest.media_type, str(digest))
    if told != digest:
        verify(repository, str(digest), digest)


class TagVerdict(Enum):
    """The decision about a tag."""

    MOVE = auto()
    THERE = auto()
    """The tag names the image already."""
    LEAVE = auto()
    """The tag names another image, and does not move."""


class TagRule(Struct, frozen=True):
    """The options about existing tags; `current`: the only digest that may be replaced."""

    if_exists: IfExists = IfExists.REPLACE
    current: Digest | None = None

    @classmethod
    def of(cls, options: RegistryOptions) -> TagRule:
        """Read the rule from `options`. Raises UsageError if `--if-current` is no digest."""
        if options.if_current is None:
            return cls(options.if_exists)
        try:
            return cls(options.if_exists, Digest.parse(options.if_current))
        except VerificationError as error:
            raise UsageError(f"bad --if-current: {error}") from error

    @property
    def conditional(self) -> bool:
        """Whether the decision depends on what a tag names."""
        return self.if_exists is not IfExists.REPLACE or self.current is not None

    def admit(self, image: RepositoryName, held: Mapping[str, Digest | None]) -> None:
        """Raise TagConflictError where no image may get the tags: one exists, with `fail`."""
        taken = [tag for tag, digest in held.items() if digest]
        if self.if_exists is IfExists.FAIL and taken:
            raise TagConflictError(
                f"{image}:{taken[0]} exists and names {held[taken[0]]}; no tag was moved "
                "(--if-exists fail)"
            )

    def skips(self, held: Mapping[str, Digest | None]) -> bool:
        """Whether all tags exist and, by `--if-exists skip`, none moves whatever the image is."""
        return self.if_exists is IfExists.SKIP and bool(held) and all(held.values())

    def judge(
        self, image: RepositoryName, wanted: Digest, held: Mapping[str, Digest | None]
    ) -> dict[str, TagVerdict]:
        """Decide about every tag of `image`. Raises TagConflictError, naming the tag."""
        self.admit(image, held)
        return {tag: self._judge(f"{image}:{tag}", wanted, there) for tag, there in held.items()}

    def _judge(self, name: str, wanted: Digest, held: Digest | None) -> TagVerdict:
        if held == wanted:
            return TagVerdict.THERE
        if held is None:
            return TagVerdict.MOVE
        if self.if_exists is IfExists.SKIP:
            return TagVerdict.LEAVE
        if self.if_exists is IfExists.SAME:
            raise TagConflictError(f"{name} names {held}, not {wanted} (--if-exists same)")
        if self.current and held != self.current:
            raise TagConflictError(
                f"{name} names {held}, not {self.current} as --if-current says: somebody moved it"
            )
        return TagVerdict.MOVE


class Tagged(Struct, frozen=True):
    """The tags after a push: `naming` the image now, and of these `moved` by this push."""

    naming: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()


def digests_of_tags(repository: Repository, tags: Sequence[str]) -> dict[str, Digest | None]:
    """Ask for the digests that `tags` name, all at once; None for a tag that does not exist."""
    if not tags:
        return {}
    with ThreadPoolExecutor(min(len(tags), _LOOKERS), thread_name_prefix="regpush") as pool:
        return dict(zip(tags, pool.map(repository.head_manifest, tags), strict=True))


def refuse_index(tag: str, there: Manifest | None) -> None:
    """Raise TagConflictError where `tag` would move from the index `there` to a single image."""
    if there and there.media_type in INDEXES:
        raise TagConflictError(
            f"{tag} is an image for several platforms; --replace-index lets this one take its place"
        )


def warn_of_lost_platforms(
    tag: str, there: Manifest | None, coming: Sequence[Platform | None], notify: Listener
) -> None:
    """Warn where the index `there`, named by `tag`, has platforms that `coming` lacks."""
    if there is None or there.media_type not in INDEXES:
        return
    with suppress(VerificationError):  # a damaged index has no platforms to lose
        kept = {platform.normal for platform in coming if platform}
        lost = [str(one) for one in platforms_said(there.data) if one.normal not in kept]
        if lost:
            notify(
                InputWarned(message=f"{tag} also contains {', '.join(lost)}; this push removes it")
            )


def move_tags(
    manifest: Manifest,
    repository: Repository,
    held: Mapping[str, Digest | None],
    rule: TagRule,
    notify: Listener,
) -> Tagged:
    """Move the tags of `held` to `manifest`, as far as `rule` permits, and read each back.

    Raises TagConflictError before any is moved. An error raised later says which were moved;
    CancelledError says which may have been.
    """
    digest = manifest.digest
    verdicts = rule.judge(repository.name, digest, held)
    moved: list[str] = []
    for tag, verdict in verdicts.items():
        if verdict is TagVerdict.LEAVE:
            kept = f"{repository.name}:{tag} names {held[tag]}"
            notify(Note(message=f"{kept}; not moved (--if-exists skip)"))
            continue
        if verdict is TagVerdict.MOVE:
            with _telling(tag, moved, digest):
                _move(manifest, repository, tag, held[tag], notify)
            moved.append(tag)
        changed = verdict is TagVerdict.MOVE
        notify(TagMoved(image=str(repository.name), tag=tag, digest=str(digest), changed=changed))
    naming = [tag for tag, verdict in verdicts.items() if verdict is not TagVerdict.LEAVE]
    return Tagged(tuple(naming), tuple(moved))


def _move(
    manifest: Manifest, repository: Repository, tag: str, before: Digest | None, notify: Listener
) -> None:
    digest = manifest.digest
    for _ in range(_MOVES):
        repository.put_manifest(manifest.data, manifest.media_type, tag)
        now = _read_back(repository, tag)
        if now == digest:
            return
        if now and now != before:
            # Both pushes moved the tag, the other one later.
            notify(
                Warned(
                    message=f"{repository.name}:{tag} names {now} now: another push moved it "
                    f"after this one had moved it to {digest}"
                )
            )
            return
    raise VerificationError(
        f"{repository.name}: {tag} reads back as {now or 'nothing'} after {digest} was pushed"
    )


def _read_back(repository: Repository, tag: str) -> Digest | None:
    try:
        return repository.head_manifest(tag)
    except (AuthError, RefusedError) as error:
        raise VerificationError(f"{tag} was moved, but cannot be read back: {error}") from error


@contextmanager
def _telling(tag: str, moved: Sequence[str], digest: Digest) -> Iterator[None]:
    """Add to an error which tags were, or may have been, moved before it was raised."""
    names = ", ".join([*moved, tag])
    try:
        yield
    except MissingBlobsError:  # the caller sends the blobs again
        raise
    except CancelledError as error:
        raise CancelledError(
            f"cancelled while tags were moved: {names} may name {digest}"
        ) from error
    except (TransientError, VerificationError) as error:
        raise type(error)(f"{error}; {names} may name {digest}") from error
    except RegpushError as error:
        if not moved:
            raise
        raise type(error)(f"{error}; tags moved before that: {', '.join(moved)}") from error


def verify(repository: Repository, reference: str, digest: Digest) -> None:
    """Raise VerificationError unless the registry holds `digest` at `reference`."""
    got = repository.head_manifest(reference)
    if got != digest:
        raise VerificationError(
            f"{repository.name}: {reference} reads back as {got or 'nothing'} after {digest} "
            "was pushed"
        )
