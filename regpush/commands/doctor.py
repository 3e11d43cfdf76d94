"""`regpush doctor`: check step by step whether this machine can push to a repository.

The checks add no blob and move no tag: uploads that are opened are deleted again, and the blob that
is mounted lies in the repository already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from msgspec import Struct

from regpush.concurrency import Cancellation
from regpush.digest import INDEXES, Descriptor, Digest
from regpush.errors import (
    AuthError,
    RefusedError,
    RegpushError,
    TransientError,
    VerificationError,
    plural,
)
from regpush.events import Listener
from regpush.http.exchange import Reply
from regpush.options import RegistryOptions
from regpush.reference import Reference
from regpush.registry import referrers_list
from regpush.registry.api import Call
from regpush.registry.client import Client
from regpush.registry.hints import no_mounts, without_doctor
from regpush.registry.probe import Probe, RootAnswer
from regpush.registry.protocol import parse_json
from regpush.registry.repository import Access, Manifest, Repository
from regpush.registry.tag_list import TAGS_LIMIT
from regpush.registry.uploads.lessons import Limits
from regpush.settings import Settings

CHUNK = 1024
"""Bytes of each of the two chunks that `_send_chunks` sends.

A larger minimum that the registry states takes precedence.
"""

_LARGEST_CHUNK = 1 << 20
_SKEW_S = 60.0
_SOON = timedelta(days=14)
_NO_MOUNTS = "a push sends layers that other repositories hold"
_NO_CHUNKS = "a push sends each blob in one request"
_NO_LISTS = "using the fallback tag"
_ANY = (AuthError, RefusedError, TransientError, VerificationError)


class Verdict(Enum):
    """The result of a step.

    SKIPPED: the step does not apply, was not tried, or gave no clear result; nothing is wrong.
    """

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Step(Struct, frozen=True, kw_only=True):
    """One finished check: its name, its result, and one line `detail` about the result.

    `seconds`: how long the check took. `exit_code`: the exit code of the check's error, 0 if it did
    not fail.
    """

    name: str
    verdict: Verdict
    detail: str
    seconds: float = 0.0
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return one element of `steps` in the JSON report of `regpush doctor`."""
        return {
            "name": self.name,
            "result": self.verdict.value,
            "detail": self.detail,
            "seconds": round(self.seconds, 3),
        }


class Diagnosis(Struct, frozen=True, kw_only=True):
    """The results of all steps of `regpush doctor` for `reference`, in order."""

    reference: Reference
    steps: tuple[Step, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of the first step that failed; 0 if none did."""
        return next((step.exit_code for step in self.steps if step.exit_code), 0)

    def to_json(self) -> Mapping[str, Any]:
        """Return the JSON report of `regpush doctor` (docs/reference/report.md), schema 1."""
        return {
            "schema": 1,
            "ref": str(self.reference),
            "exit_code": self.exit_code,
            "steps": [step.to_json() for step in self.steps],
        }


def examine(
    reference: Reference,
    *,
    options: RegistryOptions,
    settings: Settings,
    notify: Listener,
    cancel: Cancellation,
    found: Callable[[Step], None],
) -> Diagnosis:
    """Check whether this machine can push to the repository of `reference`.

    `found` is called with each step as soon as it is finished. Failures are reported as steps, not
    raised. Raises CancelledError, and UsageError for invalid options.
    """
    options = replace(options, retry_times=0)
    with Client(options, settings, notify=notify, cancel=cancel) as client:
        patient = _Patient(
            reference=reference,
            probe=client.probe(reference),
            pulling=client.repository(reference, Access.PULL),
        )
        steps = []
        for name, needs, look in _STEPS:
            step = _take(patient, name, needs, look)
            steps.append(step)
            found(step)
    return Diagnosis(reference=reference, steps=tuple(steps))


class _Patient(Struct, kw_only=True):
    """The registry and repository that are checked, and what the steps so far have found.

    `ailing`: names of the failed steps. `root`: the reply to `GET /v2/`, received at `answered_at`.
    `manifest`: the manifest that was pulled. `limits`: the chunk sizes that the registry states.
    """

    reference: Reference
    probe: Probe
    pulling: Repository
    ailing: tuple[str, ...] = ()
    root: RootAnswer | None = None
    answered_at: datetime | None = None
    manifest: Manifest | None = None
    limits: Limits | None = None


class _Finding(Struct, frozen=True):
    detail: str
    verdict: Verdict = Verdict.OK


_Look = Callable[[_Patient], _Finding]


def _optional(instead: str, *errors: type[RegpushError]) -> Callable[[_Look], _Look]:
    """Decorate the check of an optional feature: if it raises `errors`, the step is skipped.

    A TransientError gives a warning instead. `instead`: what a push does without the feature; it is
    appended to the step's line.
    """

    def made(look: _Look) -> _Look:
        def looked(patient: _Patient) -> _Finding:
            try:
                return look(patient)
            except errors as error:
                detail = f"{without_doctor(str(error))}; {instead}"
                transient = isinstance(error, TransientError)
                return _Finding(detail, Verdict.WARNING if transient else Verdict.SKIPPED)

        return looked

    return made


def _take(patient: _Patient, name: str, needs: tuple[str, ...], look: _Look) -> Step:
    if missing := [need for need in needs if need in patient.ailing]:
        detail = f"not tried, because the step '{missing[0]}' failed"
        return Step(name=name, verdict=Verdict.SKIPPED, detail=detail)
    begun = time.monotonic()
    try:
        finding = look(patient)
    except RegpushError as error:
        if error.exit_code >= 128:
            raise
        patient.ailing += (name,)
        return Step(
            name=name,
            verdict=Verdict.FAILED,
            detail=without_doctor(str(error)),
            seconds=time.monotonic() - begun,
            exit_code=error.exit_code,
        )
    return Step(
        name=name,
        verdict=finding.verdict,
        detail=finding.detail,
        seconds=time.monotonic() - begun,
    )


def _look_up_name(patient: _Patient) -> _Finding:
    host = patient.probe.origin.host
    if proxy := patient.probe.proxy:
        return _Finding(f"not looked up here: the proxy {proxy} resolves {host}", Verdict.SKIPPED)
    addresses = patient.probe.addresses()
    if addresses == (host,):
        return _Finding(f"{host} is an IP address")
    return _Finding(f"{host} resolves to {', '.join(addresses)}")


def _connect(patient: _Patient) -> _Finding:
    if proxy := patient.probe.proxy:
        return _Finding(f"not checked: the proxy {proxy} connects to the registry", Verdict.SKIPPED)
    made = patient.probe.connect()
    if not made.protocol:
        return _Finding(f"plain http to {made.address}, without encryption")
    if made.expires is None:
        return _Finding(f"{made.protocol}, the certificate is not verified", Verdict.WARNING)
    left = made.expires - datetime.now(UTC)
    text = f"{made.protocol}, certificate of {made.issuer}, valid until {made.expires:%Y-%m-%d}"
    if left < _SOON:
        return _Finding(f"{text}: it expires in {plural(left.days, 'day')}", Verdict.WARNING)
    return _Finding(text)


def _ask_root(patient: _Patient) -> _Finding:
    root = patient.root = patient.probe.root()
    patient.answered_at = datetime.now(UTC)
    says = f", {root.says}" if root.says else ""
    wants = {"": "no authentication required", "basic": "requires a user name and a password"}.get(
        root.scheme, f"requires a token{' of ' if root.tokens else ''}{root.tokens}"
    )
    return _Finding(f"{patient.probe.origin}/v2/ answers {root.status}{says}: {wants}")


def _log_in(patient: _Patient) -> _Finding:
    account = patient.probe.authenticate()
    if not account:
        return _Finding("the registry requires no credentials", Verdict.SKIPPED)
    return _Finding(account)


def _ask_for_scopes(patient: _Patient) -> _Finding:
    if not patient.root or patient.root.scheme != "bearer":
        return _Finding("the registry uses no tokens, so there are no scopes", Verdict.SKIPPED)
    granted = patient.probe.scopes()
    if granted is None:
        return _Finding("the token does not state the actions that it allows", Verdict.SKIPPED)
    missing = [action for action in Access.PUSH.value if action not in granted]
    text = f"the token allows {', '.join(sorted(granted)) or 'nothing'}"
    if missing:
        return _Finding(f"{text}; it lacks {', '.join(missing)}", Verdict.WARNING)
    return _Finding(text)


def _pull(patient: _Patient) -> _Finding:
    reference, pulling = patient.reference, patient.pulling
    version = str(reference.digest) if reference.digest else reference.tag or "latest"
    missing = f"no {'manifest' if reference.digest else 'tag'} {version}"
    patient.manifest = pulling.get_manifest(version)
    if patient.manifest:
        return _Finding(f"{version} is {patient.manifest.digest}")
    try:
        tags = pulling.list_tags()
    except TransientError as error:
        return _Finding(f"{missing}; {without_doctor(str(error))}", Verdict.WARNING)
    if not tags:
        return _Finding(f"{missing}; the repository has no tags")
    patient.manifest = pulling.get_manifest(tags[-1])
    count = plural(len(tags), "tag")
    if len(tags) >= TAGS_LIMIT:
        count = f"{TAGS_LIMIT:,} tags or more"
    return _Finding(f"{missing}; found {count}, e.g. {tags[-1]}")


def _push(patient: _Patient) -> _Finding:
    opened, place = _open(patient)
    patient.limits = Limits.stated(
        opened.header("oci-chunk-min-length"), opened.header("oci-chunk-max-length")
    )
    return _Finding(f"an upload was opened, and {_forget(patient, place)}")


def _open(patient: _Patient) -> tuple[Reply, str]:
    call = Call(doing="opening an upload", method="POST", path="/blobs/uploads/")
    reply = patient.probe.send(call)
    if not 200 <= reply.status < 300:
        raise patient.probe.failure(reply, call.doing)
    place = patient.probe.next_place(reply)
    if not place:
        raise VerificationError("the registry opened an upload without a Location header")
    return reply, place


def _forget(patient: _Patient, place: str) -> str:
    """Delete the opened upload at the URL `place`. Returns the outcome, to follow "the upload was".

    CNCF distribution requires the right to delete for this request; a push does not ask for that
    right.
    """
    try:
        reply = patient.probe.send(Call(doing="deleting an upload", method="DELETE", url=place))
    except (AuthError, RefusedError):
        return "left to expire (to delete an upload needs more rights than a push has)"
    if 200 <= reply.status < 300 or reply.status == 404:
        return "deleted again"
    return f"left to expire (the request to delete the upload answered {reply.status})"


@_optional(_NO_MOUNTS, *_ANY)
def _mount(patient: _Patient) -> _Finding:
    blob = _known_blob(patient)
    if blob is None:
        return _Finding(
            "not tried: the repository has no image with a blob to mount", Verdict.SKIPPED
        )
    path = f"/blobs/uploads/?mount={blob.digest}&from={patient.reference.repository}"
    reply = patient.probe.send(Call(doing="mounting", method="POST", path=path))
    if reply.status == 201:
        return _Finding("a blob was mounted")
    if 200 <= reply.status < 300 and (place := patient.probe.next_place(reply)):
        _forget(patient, place)
    step = no_mounts(patient.reference.name)
    said = f"mounts are not supported (status {reply.status}): {_NO_MOUNTS}"
    if step:
        said = f"{said}; {step}"
    return _Finding(said, Verdict.SKIPPED)


def _known_blob(patient: _Patient) -> Descriptor | None:
    """Return the descriptor of a config blob that the repository holds; None if none is known.

    It is the config of the image that the step `pull` read, or of the first image of its index.
    """
    manifest = patient.manifest
    if manifest and manifest.media_type in INDEXES:
        listed = _content(manifest).get("manifests")
        first = listed[0] if isinstance(listed, list) and listed else None
        digest = first.get("digest") if isinstance(first, dict) else None
        manifest = patient.pulling.get_manifest(digest) if isinstance(digest, str) else None
    config = _content(manifest).get("config") if manifest else None
    try:
        return Descriptor.from_json(config) if isinstance(config, dict) else None
    except VerificationError:
        return None


def _content(manifest: Manifest) -> dict[str, Any]:
    value = parse_json(manifest.data)
    return value if isinstance(value, dict) else {}


@_optional(_NO_CHUNKS, AuthError, RefusedError)
def _send_chunks(patient: _Patient) -> _Finding:
    least = patient.limits.least if patient.limits else 1
    if least > _LARGEST_CHUNK:
        said = f"not tried: the registry wants chunks of at least {least} bytes"
        return _Finding(said, Verdict.SKIPPED)
    size = max(CHUNK, least)
    _, place = _open(patient)
    ranges = []
    for number in (0, 1):
        try:
            reply = patient.probe.send(_chunk(place, number, size))
        except RegpushError:
            with suppress(RegpushError):
                _forget(patient, place)
            raise
        if not 200 <= reply.status < 300:
            end = _forget(patient, place)
            which = "the second chunk" if number else "chunks"
            said = f"the registry rejected {which} (status {reply.status}): {_NO_CHUNKS}"
            return _Finding(f"{said}; the upload was {end}", Verdict.SKIPPED)
        place = patient.probe.next_place(reply) or place
        ranges.append(reply.header("range").rpartition("=")[2])
    told = ranges[1] == f"0-{2 * size - 1}"
    ends = "its replies report progress" if told else "its replies do not report progress"
    return _Finding(f"chunked uploads work, {ends}; the upload was {_forget(patient, place)}")


def _chunk(place: str, number: int, size: int) -> Call:
    at = number * size
    return Call(
        doing="sending a chunk",
        method="PATCH",
        url=place,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{at}-{at + size - 1}",
        },
        body=bytes(size),
    )


@_optional(_NO_LISTS, *_ANY)
def _ask_for_referrers(patient: _Patient) -> _Finding:
    subject = patient.manifest.digest if patient.manifest else Digest("sha256", "0" * 64)
    listing = referrers_list.ask(patient.pulling, subject)
    if listing.entries is not None:
        count = plural(len(listing.entries), "referrer")
        return _Finding(f"the registry lists {count} of this image")
    return _Finding(f"no referrers API ({listing.said}): {_NO_LISTS}", Verdict.SKIPPED)


def _compare_clocks(patient: _Patient) -> _Finding:
    if not patient.root or not patient.root.date or not patient.answered_at:
        return _Finding("not compared: the registry's replies have no Date header", Verdict.SKIPPED)
    ahead_s = (patient.answered_at - patient.root.date).total_seconds()
    if abs(ahead_s) > _SKEW_S:
        which = "ahead of" if ahead_s > 0 else "behind"
        said = (
            f"the clock of this machine is {abs(ahead_s):.0f} s {which} the registry's: "
            "tokens may be rejected"
        )
        return _Finding(said, Verdict.WARNING)
    return _Finding("the clocks of this machine and the registry differ by at most a minute")


def _name_proxy(patient: _Patient) -> _Finding:
    if proxy := patient.probe.proxy:
        return _Finding(f"requests go through {proxy}")
    return _Finding("no proxy is used", Verdict.SKIPPED)


def _name_form(patient: _Patient) -> _Finding:
    limits = patient.limits
    if limits is None:
        said = "the form of uploads is not known, because no upload was opened"
        return _Finding(said, Verdict.SKIPPED)
    if limits.most is not None:
        return _Finding(f"the registry asks for chunks of {limits.least} to {limits.most} bytes")
    least = f" of at least {limits.least} bytes" if limits.least > 1 else ""
    return _Finding(
        f"a push sends each blob in one request, or in chunks{least} if the registry rejects that"
    )


_REACHED = ("name", "connection", "API")
_ADMITTED = (*_REACHED, "credentials")
_STEPS: tuple[tuple[str, tuple[str, ...], _Look], ...] = (
    ("name", (), _look_up_name),
    ("connection", ("name",), _connect),
    ("API", ("name", "connection"), _ask_root),
    ("credentials", _REACHED, _log_in),
    ("scopes", _ADMITTED, _ask_for_scopes),
    ("pull", _ADMITTED, _pull),
    ("push", _ADMITTED, _push),
    ("mount", (*_ADMITTED, "push"), _mount),
    ("chunks", (*_ADMITTED, "push"), _send_chunks),
    ("referrers", (*_ADMITTED, "pull"), _ask_for_referrers),
    ("clock", _REACHED, _compare_clocks),
    ("proxy", (), _name_proxy),
    ("uploads", (*_ADMITTED, "push"), _name_form),
)
"""For each step: its name, the names of steps without whose success it is skipped, its function."""
