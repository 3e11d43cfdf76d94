"""Advice for the user after a failed request, chosen by the registry's reply. Pure.

docs/internals/registries.md has the facts. Vendors with a known remedy (`quirks.VENDORS`) get that
remedy, all others the general one. No hint is given where it may be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from regpush.reference import RepositoryName
from regpush.registry.protocol import Outcome, Problem, classify
from regpush.registry.quirks import is_ghcr, is_hub, is_tag_conflict, vendor_of

_DOCTOR = "run 'regpush doctor "


class Trouble(Struct, frozen=True, kw_only=True, eq=False):
    """A request to the repository `name` that failed, and the registry's answer.

    `code` and `words` are read from the error body. `anonymous`: the registry wants credentials,
    and we have none.
    """

    name: RepositoryName
    method: str
    status: int
    code: str = ""
    words: str = ""
    anonymous: bool = False

    @property
    def writes(self) -> bool:
        """Whether the request was to change something (any method but GET and HEAD)."""
        return self.method not in ("GET", "HEAD")


def hint(trouble: Trouble) -> str:
    """Return the advice for `trouble`, the tail of an error message; empty if none is known."""
    for applies, say in _TABLE:
        if applies(trouble):
            return say if isinstance(say, str) else say(trouble)
    return ""


def log_in(host: str) -> str:
    """Return the command that gives regpush credentials for `host`."""
    vendor = vendor_of(host)
    return vendor.say(vendor.login, RepositoryName(host, ""))


def without_credentials(host: str) -> str:
    """Return the advice where a registry wants credentials and we have none."""
    return f"log in with '{log_in(host)}', or give --username and --password-stdin"


def with_credentials(host: str, source: str) -> str:
    """Return the advice where a registry rejects the credentials from `source`."""
    vendor = vendor_of(host)
    if is_ghcr(host):
        return vendor.writing
    if source == "the command line":
        return "check the credentials and their rights"
    return (
        f"check their rights, or log in again with '{log_in(host)}'{vendor.expiry}{vendor.rejected}"
    )


def missing_repository(name: RepositoryName) -> str:
    """Return the advice where the repository may not exist."""
    vendor = vendor_of(name.registry)
    general = "if the repository does not exist, this registry wants it created first"
    return f"{general}: {vendor.say(vendor.creating, name)}" if vendor.creating else general


def no_mounts(name: RepositoryName) -> str:
    """Return why this vendor may not mount a blob that it holds; empty if no reason is known."""
    vendor = vendor_of(name.registry)
    return vendor.say(vendor.mounts, name)


def unreachable(failure: str) -> str:
    """Return the advice where no connection could be made, chosen by the text `failure`."""
    if "does not resolve" in failure:
        return "is the name spelt correctly, and is this machine on the network?"
    if "proxy" in failure:
        return "HTTPS_PROXY, HTTP_PROXY and NO_PROXY decide which requests use the proxy"
    return "is the registry running?"


def too_large(smallest: int) -> str:
    """Return the advice after even a chunk of `smallest` bytes was refused as too large."""
    return (
        f"chunks of {smallest} bytes were refused too: raise the size limit of the registry, or "
        "of the proxy before it (nginx: client_max_body_size)"
    )


MAY_NOT_MOVE = (
    "the tag names another image and may not be moved: push under a new tag; with --if-exists "
    "same, regpush reports this before it sends anything"
)


HELD_OR_DENIED = (
    "either the tag may not be moved (an immutable or protected tag: push under a new one), or "
    "these credentials may not write tags there"
)


def led_astray(registry: str, led_to: str) -> str:
    """Return the message that the registry redirected a request to `led_to`, where it failed.

    Both addresses are origins with their ports. A proxy that passes on the Host header without its
    port makes a registry answer with addresses at the default port.
    """
    said = f"the registry {registry} sent us to {led_to}"
    here, there = registry.rpartition(":"), led_to.rpartition(":")
    if here[0].partition("://")[2] == there[0].partition("://")[2] and there[2] in ("80", "443"):
        said += "; its proxy drops the port (nginx: proxy_set_header Host $http_host)"
    return said


def _takes_no_pushes(it: Trouble) -> bool:
    words = it.words.lower().replace("-", " ")
    read_only = it.status in (403, 503) and ("read only" in words or "readonly" in words)
    return it.writes and (it.status == 405 or read_only)


def _is(outcome: Outcome) -> Callable[[Trouble], bool]:
    return lambda it: classify(it.status, it.code) is outcome


def _no_repository(it: Trouble) -> bool:
    return it.status == 404 and (it.method == "POST" or (it.writes and it.code == "NAME_UNKNOWN"))


def _over_quota(it: Trouble) -> bool:
    words = it.words.lower()
    told = any(word in words for word in ("quota", "storage limit", "insufficient storage"))
    return it.writes and (it.status == 507 or (it.status in (400, 403, 412, 413) and told))


def _forbidden(it: Trouble) -> bool:
    return it.status == 403


def _limited_by_hub(it: Trouble) -> bool:
    return it.status == 429 and is_hub(it.name.registry)


def _unknown_format(it: Trouble) -> bool:
    unsupported = it.code in ("MANIFEST_INVALID", "UNSUPPORTED")
    return it.writes and (it.status == 415 or (unsupported and it.status == 400))


def _rights(it: Trouble) -> str:
    what = "write" if it.writes else "read"
    vendor = vendor_of(it.name.registry)
    if says := vendor.writing if it.writes else vendor.reading:
        return vendor.say(says, it.name)
    return f"{_DOCTOR}{it.name}' to see which right to {what} is missing"


def without_doctor(message: str) -> str:
    """Return `message` without the advice to run `regpush doctor`, for use in doctor itself."""
    return message.partition(f"; {_DOCTOR}")[0]


def _held_tag(it: Trouble) -> bool:
    return it.method == "PUT" and is_tag_conflict(it.status, Problem(it.code, it.words))


_TABLE: Sequence[tuple[Callable[[Trouble], bool], str | Callable[[Trouble], str]]] = (
    # `Repository.put_manifest` gives this advice, once it knows which image the tag names.
    (_held_tag, ""),
    (_takes_no_pushes, "the registry takes no pushes: it is a mirror, or read-only"),
    (_no_repository, lambda it: missing_repository(it.name)),
    (_over_quota, "delete images in the registry, or have its quota raised"),
    (lambda it: _forbidden(it) and it.anonymous, lambda it: without_credentials(it.name.registry)),
    (_forbidden, _rights),
    (_limited_by_hub, "wait, or log in for a higher limit: 'regpush login docker.io'"),
    (_is(Outcome.TOO_LARGE), "the registry, or a proxy before it, limits the size of requests"),
    (_unknown_format, "if the registry does not know these media types, try --compression gzip"),
    (_is(Outcome.FAILED), "the registry's logs tell why; running regpush again is safe"),
)
