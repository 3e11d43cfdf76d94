"""The flow of `regpush index`: images that stand in registries, under one index.

Runners that each know one platform push by digest; whoever comes last joins what they pushed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from regpush.commands import copy
from regpush.commands.copy import CopyResult
from regpush.concurrency import Cancellation, parallel
from regpush.digest import INDEXES, OCI_INDEX, Digest
from regpush.errors import UsageError, VerificationError
from regpush.events import Action, Listener, Note, Warned, ignore
from regpush.flow.context import tags_to_move
from regpush.flow.reports import of_layer
from regpush.image.image import Image
from regpush.image.index import Entry, build_index
from regpush.layering.labels import label_of_paths
from regpush.options import IfExists, ImageOptions, RegistryOptions
from regpush.pack.recipe import Placed
from regpush.platform import Platform
from regpush.reference import Reference
from regpush.registry.client import Access, Client, Manifest, Repository
from regpush.registry.images import Listed, listed, read_image
from regpush.report import DestinationReport, ImageReport, PushResult
from regpush.settings import Settings
from regpush.transfer.choice import find
from regpush.transfer.publish import (
    Tagged,
    digests_of_tags,
    move_tags,
    push_manifest,
    verify,
    warn_of_lost_platforms,
)
from regpush.transfer.tags import TagRule

_AT_ONCE = 12
_BARE = re.compile(r"@?(?P<digest>(?:sha256|sha512):.*)|:?(?P<tag>[^/:@]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An image of the index: where it was found, under the name it was asked for by.

    `entry`: how it is listed. `attestations`: the entries beside it that are about it.
    """

    reference: Reference
    image: Image
    entry: Entry
    attestations: tuple[Entry, ...] = ()

    @property
    def platform(self) -> Platform:
        """What its config says."""
        return self.image.platform

    @property
    def place(self) -> Reference:
        """Where it is, by digest."""
        return self.reference.with_digest(self.image.descriptor.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Union:
    """What stays the same from the beginning to the end."""

    target: Repository
    options: RegistryOptions
    settings: Settings
    client: Client
    notify: Listener
    cancel: Cancellation
    started: float = field(default_factory=time.monotonic)


def unite(
    reference: str,
    members: Sequence[str],
    *,
    annotations: Sequence[tuple[str, str]] = (),
    settings: Settings,
    options: RegistryOptions | None = None,
    notify: Listener = ignore,
    cancel: Cancellation | None = None,
) -> PushResult:
    """Push an index of `members`, in their order, and let the tags of `reference` name it.

    A member is a reference, or a digest or tag in the repository of `reference`; an index
    stands for its images. Those of other repositories are copied, byte for byte. Raises
    UsageError where two are for one platform, RefusedError where one is not there, or another
    RegpushError; no tag was moved then, unless the error is about the tags themselves.
    """
    options = options or RegistryOptions()
    destination, rule = Reference.parse(reference), TagRule.of(options)
    tags = tags_to_move(destination, options)
    named = [name_member(text, destination) for text in members]
    stop = Cancellation(cancel)
    with Client(options, settings, notify=notify, cancel=stop) as client:
        # The destination first: it is the registry that `options` are for.
        target = client.repository(destination, Access.PUSH)
        work = _Union(
            target=target,
            options=options,
            settings=settings,
            client=client,
            notify=notify,
            cancel=stop,
        )
        with ThreadPoolExecutor(1, thread_name_prefix="regpush") as pool:
            asking = pool.submit(digests_of_tags, target, tags)
            found = _find_all(named, work)
            held = asking.result()
        whole = _whole(found, annotations, settings)
        rule.admit(target.name, held)
        if rule.skips(held):
            notify(Note(message=f"{target.name}:{tags[0]} is there and is left alone"))
            same = tuple(tag for tag in tags if held[tag] == held[tags[0]])
            return _result(work, held[tags[0]], Tagged(naming=same))
        rule.judge(target.name, whole.digest, held)
        _warn(whole, found, held, work)
        standing = whole.digest in held.values() or (
            target.head_manifest(str(whole.digest)) == whole.digest
        )
        copies = _copy(found, work)
        if options.check or not standing:
            push_manifest(whole, target)
            if not tags:
                verify(target, str(whole.digest), whole.digest)
        stop.check()
        now = digests_of_tags(target, tags) if rule.conditional else held
        tagged = move_tags(whole, target, now, rule, notify)
        result = _result(work, whole.digest, tagged)
        return replace(
            result,
            images=tuple(_report(one, copies.get(one.image.descriptor.digest)) for one in found),
            changed=bool(tagged.moved) if tags else not standing,
            uploaded_bytes=result.uploaded_bytes
            + sum(copy.uploaded_bytes for copy in copies.values()),
            requests=result.requests + sum(copy.requests for copy in copies.values()),
        )


def name_member(text: str, destination: Reference) -> Reference:
    """What `text` names: a digest or a tag alone is of the repository of `destination`.

    Raises UsageError.
    """
    bare = _BARE.fullmatch(text)
    if bare is None:
        return Reference.parse(text)
    if bare["tag"]:
        return destination.with_tag(bare["tag"])
    try:
        return destination.with_digest(Digest.parse(bare["digest"]))
    except VerificationError as error:
        raise UsageError(f"bad image: {error}") from error


def _find_all(named: Sequence[Reference], work: _Union) -> list[Member]:
    """The images that were named, one for each platform. Raises as `unite`."""
    groups = parallel(_AT_ONCE, named, lambda one: _find(one, work), work.cancel)
    members: dict[Platform, Member] = {}
    for one in (member for group in groups for member in group):
        other = members.setdefault(one.platform.normal, one)
        if other.image.descriptor.digest != one.image.descriptor.digest:
            raise UsageError(
                f"two images are for {one.platform}: {other.place} and {one.place}; "
                "leave one of them out"
            )
        if one.attestations and not other.attestations:
            members[one.platform.normal] = one
    return list(members.values())


def _find(reference: Reference, work: _Union) -> list[Member]:
    repository = work.client.repository(reference, Access.PULL)
    if repository.name == work.target.name:
        repository = work.target  # one token for all that is done there
    top = find(reference, repository)
    try:
        if top.media_type not in INDEXES:
            image = read_image(top, repository)
            entry = Entry.of(image.descriptor, image.platform)
            return [Member(reference=reference, image=image, entry=entry)]
        return _members_of(listed(top, repository), reference, repository, work)
    except VerificationError as error:
        raise VerificationError(f"{reference}: {error}") from error


def _members_of(
    contents: Sequence[Listed], reference: Reference, repository: Repository, work: _Union
) -> list[Member]:
    """The images of an index, each with its attestations; says what else is left out."""
    members = []
    for one in contents:
        if one.manifest is None:
            continue
        image = read_image(one.manifest, repository)
        digest = image.descriptor.digest
        members.append(
            Member(
                reference=reference,
                image=image,
                entry=one.entry.saying(image.platform),
                attestations=tuple(x.entry for x in contents if x.entry.attested == digest),
            )
        )
    if not members:
        raise UsageError(f"{reference} is an index without an image for any platform")
    kept = sum(1 + len(member.attestations) for member in members)
    if dropped := len(contents) - kept:
        message = (
            f"left out of the new index: {dropped} entries that are neither an image of "
            f"{reference} nor about one"
        )
        work.notify(Warned(message=message))
    return members


def _whole(
    found: Sequence[Member], annotations: Sequence[tuple[str, str]], settings: Settings
) -> Manifest:
    said = ImageOptions(annotations=tuple(annotations), created=settings.source_date_epoch)
    attestations = [entry for one in found for entry in one.attestations]
    data = build_index([*(one.entry for one in found), *attestations], said)
    return Manifest(media_type=OCI_INDEX, data=data, digest=Digest.of(data))


def _warn(
    whole: Manifest, found: Sequence[Member], held: Mapping[str, Digest | None], work: _Union
) -> None:
    coming = [one.platform for one in found]
    for tag, digest in held.items():
        if digest and digest != whole.digest:
            there = work.target.get_manifest(str(digest))
            warn_of_lost_platforms(f"{work.target.name}:{tag}", there, coming, work.notify)


def _copy(found: Sequence[Member], work: _Union) -> dict[Digest, CopyResult]:
    """Bring members of other repositories, and attestations; what that took, by their digests."""
    # Whatever tags there may be, none is moved.
    options = replace(
        work.options, tags=(), by_digest=True, if_exists=IfExists.REPLACE, if_current=None
    )
    return {
        digest: copy.copy(
            str(one.reference.with_digest(digest)),
            to=str(work.target.name),
            settings=work.settings,
            options=options,
            notify=work.notify,
            cancel=work.cancel,
        )
        for one in found
        if one.reference.name != work.target.name
        for digest in (
            one.image.descriptor.digest,
            *(entry.descriptor.digest for entry in one.attestations),
        )
    }


def _result(work: _Union, digest: Digest | None, tagged: Tagged) -> PushResult:
    """The report of an index that was there already, whatever it was made of."""
    name = str(work.target.name)
    return PushResult(
        destinations=(
            DestinationReport(image=name, tags=tagged.naming, moved=tagged.moved, digest=digest),
        ),
        images=(),
        media_type=OCI_INDEX,
        changed=False,
        uploaded_bytes=work.client.bytes_uploaded,
        requests=work.client.requests,
        seconds=time.monotonic() - work.started,
    )


def _report(member: Member, copied: CopyResult | None) -> ImageReport:
    actions = {one.blob.digest: one.action for one in copied.blobs} if copied else {}
    image = member.image
    why = f"from {member.reference.name}" if copied else "kept"
    placed = (
        Placed(layer=layer, action=actions.get(layer.descriptor.digest, Action.REUSED), why=why)
        for layer in image.layers
    )
    return ImageReport(
        platform=str(image.platform),
        digest=image.descriptor.digest,
        layers=tuple(of_layer(label_of_paths(one.layer.contents), one) for one in placed),
    )
