"""The flow of `regpush copy`: an image, or an index with all its images, byte for byte.

As a push does, it sends blobs first, then documents by digest, those below before those
above, and moves the tags when all else stands.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Any

from regpush.concurrency import Cancellation, parallel
from regpush.digest import Descriptor, Digest
from regpush.errors import VerificationError
from regpush.events import (
    Action,
    LayerDone,
    LayerSent,
    LayersPlanned,
    Listener,
    Note,
    Warned,
    ignore,
)
from regpush.flow.context import tags_to_keep
from regpush.options import RegistryOptions
from regpush.platform import Platform
from regpush.reference import Reference
from regpush.registry.client import Access, Client, Manifest, MissingBlobsError, Repository
from regpush.registry.images import read_image
from regpush.registry.referrers import enlist, list_referrers
from regpush.report import DestinationReport
from regpush.settings import Settings
from regpush.transfer.blobs import Passage, bring, send
from regpush.transfer.choice import check_platform, choose, find
from regpush.transfer.graph import Graph, follow
from regpush.transfer.publish import digests_of_tags, move_tags, push_manifest, refuse_indexes
from regpush.transfer.tags import TagRule

HEALS = 2
"""Times that is sent again what the target said it had and then missed."""

_AT_ONCE = 12
_COSIGN_KINDS = ("sig", "att", "sbom")  # cosign, pkg/oci/remote: suffixes of its tags
_CHAIN = 4  # what refers to what refers to what refers to an image: more is nobody's signature


@dataclass(frozen=True, slots=True)
class Copied:
    """A blob that the target has, and what that took."""

    blob: Descriptor
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """The outcome of a copy: `source` is `registry/repository@digest`.

    `documents`: manifests and indexes that were sent, and `blobs` what they name; none where
    the destination had it all. `changed` is False where all tags named it already. Bytes as
    in `PushResult`.
    """

    source: str
    destination: DestinationReport
    media_type: str
    changed: bool
    documents: tuple[Digest, ...]
    blobs: tuple[Copied, ...]
    uploaded_bytes: int
    requests: int
    seconds: float

    @property
    def ref(self) -> str:
        """`registry/repository@digest` of the copy."""
        return self.destination.ref

    @property
    def digest(self) -> Digest | None:
        """Of the copy, and of what was copied."""
        return self.destination.digest

    def bytes_of(self, action: Action) -> int:
        """Bytes of the blobs that `action` befell."""
        return sum(one.blob.size for one in self.blobs if one.action is action)

    def to_json(self) -> Mapping[str, Any]:
        """The JSON report, schema 1."""
        return {
            "schema": 1,
            "ref": self.ref,
            "digest": str(self.digest),
            "media_type": self.media_type,
            "changed": self.changed,
            "source": self.source,
            "destinations": [self.destination.to_json()],
            "manifests": [str(digest) for digest in self.documents],
            "blobs": [
                {
                    "digest": str(one.blob.digest),
                    "media_type": one.blob.media_type,
                    "size": one.blob.size,
                    "action": one.action.value,
                }
                for one in self.blobs
            ],
            "bytes": {
                "uploaded": self.uploaded_bytes,
                "reused": self.bytes_of(Action.REUSED),
                "mounted": self.bytes_of(Action.MOUNTED),
            },
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
        }


class Along(Enum):
    """What comes along with an image: nothing, or what refers to it (signatures, SBOMs).

    Before its version 3, cosign kept signatures at tags beside the image, which are no
    referrers: COSIGN_TAGS takes those too.
    """

    NOTHING = "nothing"
    REFERRERS = "referrers"
    COSIGN_TAGS = "referrers and cosign's tags"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """What stays the same from the beginning of a copy to its end."""

    origin: Reference
    source: Repository
    target: Repository
    tags: tuple[str, ...]
    rule: TagRule
    options: RegistryOptions
    along: Along
    client: Client
    notify: Listener
    cancel: Cancellation
    started: float


def copy(
    source: str,
    *,
    to: str,
    platform: str | None = None,
    along: Along = Along.NOTHING,
    settings: Settings,
    options: RegistryOptions | None = None,
    notify: Listener = ignore,
    cancel: Cancellation | None = None,
) -> CopyResult:
    """Copy the image or index `source` to `to`; of an index, with `platform`, that one image.

    With Along.REFERRERS, what refers to it, and to its images, comes along before tags move,
    and a warning names tags of cosign that do not.
    Without any tag named, the copy has the source's. What of `options` is for the destination
    alone is so here as well: the source is reached with stored credentials. Raises a
    RegpushError; no tag was moved then, unless the error is about the tags themselves.
    """
    started = time.monotonic()
    options = options or RegistryOptions()
    origin, destination = Reference.parse(source), Reference.parse(to)
    wanted = Platform.parse(platform) if platform else None
    tags, rule = tags_to_keep(origin, destination, options), TagRule.of(options)
    stop = Cancellation(cancel)
    with Client(options, settings, notify=notify, cancel=stop) as client:
        # The destination first: it is the registry that `options` are for.
        target = client.repository(destination, Access.PUSH)
        work = _Copy(
            origin=origin,
            source=client.repository(origin, Access.PULL),
            target=target,
            tags=tags,
            rule=rule,
            options=options,
            along=along,
            client=client,
            notify=notify,
            cancel=stop,
            started=started,
        )
        with ThreadPoolExecutor(1, thread_name_prefix="regpush") as pool:
            reading = pool.submit(_top, work, wanted)
            held = digests_of_tags(target, tags)
            top = reading.result()
        rule.admit(target.name, held)
        if rule.skips(held):
            notify(Note(message=f"{target.name}:{tags[0]} is there and is left alone"))
            same = tuple(tag for tag in tags if held[tag] == held[tags[0]])
            return _result(
                work,
                top,
                Graph(),
                {},
                DestinationReport(image=str(target.name), tags=same, digest=held[tags[0]]),
            )
        rule.judge(target.name, top.digest, held)
        if not options.replace_index:
            refuse_indexes(top, target, held)
        graph, actions = _deliver(work, top, held)
        if along is not Along.NOTHING:
            graph, actions = _with_referrers(graph, actions, top, work)
        stop.check()
        now = digests_of_tags(target, tags) if rule.conditional else held
        tagged = move_tags(top, target, now, rule, notify)
        return _result(
            work,
            top,
            graph,
            actions,
            DestinationReport(
                image=str(target.name), tags=tagged.naming, moved=tagged.moved, digest=top.digest
            ),
        )


def _top(work: _Copy, platform: Platform | None) -> Manifest:
    """What is to be copied. Raises as `find`, `choose` and `check_platform`."""
    found = find(work.origin, work.source)
    if platform is None:
        return found
    chosen = choose(found, work.origin, platform, work.source)
    check_platform(read_image(chosen, work.source), work.origin, platform)
    return chosen


def _deliver(
    work: _Copy, top: Manifest, held: Mapping[str, Digest | None]
) -> tuple[Graph, Mapping[Digest, Action]]:
    """Everything but the tags; what had to be looked at, and what became of each blob."""
    target = work.target

    def there(digest: Digest) -> bool:
        return digest in held.values() or target.head_manifest(str(digest)) == digest

    if not work.options.check and there(top.digest):
        return Graph(), {}
    graph = follow(top, work.source, _never if work.options.check else there, work.cancel)
    actions: dict[Digest, Action] = {}
    lost: Collection[Digest] = ()
    for heals_left in range(HEALS, -1, -1):
        try:
            actions |= _bring_all(graph.blobs, lost, work)
            for document in graph.documents:
                work.cancel.check()
                push_manifest(document, target)
            return graph, actions
        except MissingBlobsError as error:
            if not heals_left:
                raise
            work.notify(Warned(message=f"{error}; sending again what it lacks"))
            graph = follow(top, work.source, _never, work.cancel)
            lost = error.digests or [blob.digest for blob in graph.blobs]
    raise AssertionError  # the last turn of the loop returns or raises


def _with_referrers(
    graph: Graph, actions: Mapping[Digest, Action], top: Manifest, work: _Copy
) -> tuple[Graph, Mapping[Digest, Action]]:
    """The same with what refers to the documents of `top`, and to that in turn."""
    subjects = [one.digest for one in follow(top, work.source, _never, work.cancel).documents]
    graph, actions = _with_cosign_tags(graph, actions, subjects, work)
    seen = set(subjects)
    for _ in range(_CHAIN):
        if not subjects:
            break
        listed = parallel(
            _AT_ONCE, subjects, lambda subject: list_referrers(work.source, subject), work.cancel
        )
        following: list[Digest] = []
        for subject, referrers in zip(subjects, listed, strict=True):
            for digest in (one.descriptor.digest for one in referrers):
                if digest not in seen:
                    seen.add(digest)
                    following.append(digest)
                    more, done = _deliver(work, _referrer(digest, work), {})
                    actions = {**done, **actions}
                    graph = graph.and_more(more)
            if referrers:
                enlist(work.target, subject, referrers, cancel=work.cancel)
        subjects = following
    return graph, actions


def _with_cosign_tags(
    graph: Graph, actions: Mapping[Digest, Action], subjects: Sequence[Digest], work: _Copy
) -> tuple[Graph, Mapping[Digest, Action]]:
    """What cosign's tags of `subjects` name, copied and tagged, or a warning of what stays."""
    tags = [f"{one.algorithm}-{one.hex}.{kind}" for one in subjects for kind in _COSIGN_KINDS]
    found = parallel(_AT_ONCE, tags, work.source.get_manifest, work.cancel)
    held = {tag: manifest for tag, manifest in zip(tags, found, strict=True) if manifest}
    if held and work.along is not Along.COSIGN_TAGS:
        first, more = next(iter(held)), len(held) - 1
        others = f" and {more} more" if more else ""
        said = f"{work.source.name} has tags of cosign for this image ({first}{others})"
        work.notify(Warned(message=f"{said}, which are not copied: --cosign-tags takes them"))
        return graph, actions
    for tag, manifest in held.items():
        there = work.target.head_manifest(tag)
        if there not in (None, manifest.digest):
            said = f"{work.target.name}:{tag} holds other signatures, and is left alone"
            work.notify(Warned(message=said))
            continue
        more_graph, done = _deliver(work, manifest, {})
        actions = {**done, **actions}
        graph = graph.and_more(more_graph)
        work.target.put_manifest(manifest.data, manifest.media_type, tag)
    return graph, actions


def _referrer(digest: Digest, work: _Copy) -> Manifest:
    found = work.source.get_manifest(str(digest))
    if found is None:
        raise VerificationError(
            f"{work.source.name} lists {digest} as what refers to the image, and lacks it; "
            "without --referrers the image is copied alone"
        )
    return found


def _never(digest: Digest) -> bool:  # noqa: ARG001  stands in for a look at the target
    return False


def _bring_all(
    blobs: Sequence[Descriptor], lost: Collection[Digest], work: _Copy
) -> Mapping[Digest, Action]:
    """Every blob in its turn; those that are `lost` are sent whatever the target says."""
    number = {blob.digest: index for index, blob in enumerate(blobs)}
    work.notify(
        LayersPlanned(
            labels=tuple(blob.digest.short for blob in blobs),
            sizes=tuple(blob.size for blob in blobs),
        )
    )

    def progress(blob: Descriptor, passed: int) -> None:
        work.notify(LayerSent(index=number[blob.digest], sent=passed, size=blob.size))

    passage = Passage(
        source=work.source,
        target=work.target,
        slots=threading.Semaphore(work.options.jobs),
        cancel=work.cancel,
        progress=progress,
    )

    def place(blob: Descriptor) -> Action:
        action = (send if blob.digest in lost else bring)(blob, passage)
        work.notify(
            LayerDone(
                index=number[blob.digest],
                action=action,
                size=blob.size,
                why=f"from {work.source.name}",
            )
        )
        return action

    # The largest first: what is begun last is soon done.
    largest_first = sorted(blobs, key=lambda blob: -blob.size)
    actions = parallel(_AT_ONCE, largest_first, place, work.cancel)
    return {blob.digest: done for blob, done in zip(largest_first, actions, strict=True)}


def _result(
    work: _Copy,
    top: Manifest,
    graph: Graph,
    actions: Mapping[Digest, Action],
    destination: DestinationReport,
) -> CopyResult:
    return CopyResult(
        source=f"{work.source.name}@{top.digest}",
        destination=destination,
        media_type=top.media_type,
        changed=bool(destination.moved if work.tags else graph.documents),
        documents=tuple(one.digest for one in graph.documents),
        blobs=tuple(Copied(blob, actions[blob.digest]) for blob in graph.blobs),
        uploaded_bytes=work.client.bytes_uploaded,
        requests=work.client.requests,
        seconds=time.monotonic() - work.started,
    )
