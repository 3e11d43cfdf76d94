"""Registries of others (docs/internals/registries.md section 4): a real one, taught their manners.

Each persona is rules for a `FaultServer`. What the registry behind would do by itself stays.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.registry.faults import (
    FOREVER,
    Act,
    Answer,
    Asked,
    Rule,
    Upstream,
    answers,
    breaks,
    changed,
    error,
    loses,
    with_header,
)

MIB = 1 << 20


@dataclass(frozen=True)
class Persona:
    """A registry's manners; `rules` are made anew for every server."""

    name: str
    rules: Callable[[], list[Rule]]


def always(act: Act, method: str, kind: str, only: Callable[[Asked], bool] | None = None) -> Rule:
    return Rule(act, method, kind, times=FOREVER, only=only or (lambda asked: True))


def larger(size: int) -> Callable[[Asked], bool]:
    return lambda asked: len(asked.body) > size


def capped(size: int) -> Rule:
    """A proxy in front that takes no larger body; it has read it by then."""

    def act(asked: Asked, upstream: Upstream) -> Answer:
        if len(asked.body) > size:
            return Answer(413, {"Content-Type": "text/html"}, b"<h1>413 Too Large</h1>")
        return upstream.forward(asked)

    return always(act, "", "upload")


def docker_hub() -> list[Rule]:
    """Counts manifests, and says so malformed."""
    page = b"<html>You have reached your pull rate limit</html>"
    return [Rule(answers(429, page, Retry_After="1.5 minutes"), "GET", "tag", times=2)]


def ghcr() -> list[Rule]:
    """416 to chunks over 4 MiB with a Content-Range; here behind a proxy that wants chunks."""

    def act(asked: Asked, upstream: Upstream) -> Answer:
        if len(asked.body) > 6 * MIB:
            return Answer(413)
        if "content-range" in asked.headers and len(asked.body) > 4 * MIB:
            return Answer(416)
        return upstream.forward(asked)

    return [always(act, "", "upload")]


def ecr() -> list[Rule]:
    """201 to PATCH, a Range that never moves, blobs of no bytes refused."""

    def patched(answer: Answer) -> None:
        if answer.status == 202:
            answer.status = 201
            answer.headers["Range"] = "0-0"

    return [always(changed(patched), "PATCH", "upload")]


def gar() -> list[Rule]:
    """One PATCH a session; the first connection breaks, so that a second one tempts."""
    seen: set[str] = set()
    lock = threading.Lock()

    def act(asked: Asked, upstream: Upstream) -> Answer | None:
        session = asked.target.partition("?")[0]
        with lock:
            first, again = not seen, session in seen
            seen.add(session)
        if again:
            return Answer(400, body=b"no multi-part uploads")
        return breaks(0.5)(asked, upstream) if first else upstream.forward(asked)

    return [always(act, "PATCH", "upload")]


def acr() -> list[Rule]:
    """413 over 16 MiB, 400 to a Content-Range without a length, now and then 416 at the PUT."""

    def without_length(asked: Asked) -> bool:
        return "content-range" in asked.headers and "content-length" not in asked.headers

    return [
        Rule(answers(416), "PUT", "upload", times=1),
        always(answers(400), "PATCH", "upload", only=without_length),
        capped(16 * MIB),
    ]


def quay() -> list[Rule]:
    """The status is `bytes=0-N`, N one too high, and names no Location."""

    def status(answer: Answer) -> None:
        answer.headers.pop("Location", None)
        if text := answer.headers.get("Range"):
            answer.headers["Range"] = f"bytes=0-{int(text.partition('-')[2]) + 1}"

    return [
        Rule(breaks(0.5), "", "upload", times=2, only=larger(100_000)),
        always(changed(status), "GET", "upload"),
    ]


def harbor() -> list[Rule]:
    """Cookies on every reply, that must not come back; no mounts from unknown projects."""
    return [
        always(answers(401), "POST", "open", only=lambda asked: "mount=" in asked.target),
        always(with_header("Set-Cookie", "sid=harbor; Path=/"), "", ""),
    ]


def gitea() -> list[Rule]:
    """Relative Locations; every PATCH but the first must say where it belongs."""
    seen: set[str] = set()
    lock = threading.Lock()

    def relative(answer: Answer) -> Answer:
        location = answer.headers.get("Location", "")
        if "://" in location:
            answer.headers["Location"] = "/" + location.partition("://")[2].partition("/")[2]
        return answer

    def act(asked: Asked, upstream: Upstream) -> Answer:
        session = asked.target.partition("?")[0]
        with lock:
            again = session in seen
            seen.add(session)
        if asked.method == "PATCH" and again and "content-range" not in asked.headers:
            return Answer(416)
        return relative(upstream.forward(asked))

    return [
        always(act, "PATCH", "upload"),
        always(changed(relative), "", "open"),
        always(changed(relative), "", "upload"),
    ]


def artifactory() -> list[Rule]:
    """Of old: a PUT with a blob finds no upload; and 406 to whoever accepts manifests only."""

    def accepts(asked: Asked) -> bool:
        return asked.headers.get("accept", "*/*") != "*/*"

    return [
        always(answers(406), "", "open", only=accepts),
        always(answers(406), "", "upload", only=accepts),
        always(error(404, "BLOB_UNKNOWN"), "PUT", "upload", only=lambda asked: bool(asked.body)),
    ]


def nexus() -> list[Rule]:
    """A blob that two pushers send at once is stored, and one of them hears 400."""
    return [Rule(loses(400), "PUT", "upload", times=2)]


def zot() -> list[Rule]:
    """A connection that ends takes its session along."""
    return [
        Rule(breaks(0.5), "", "upload", times=2, only=larger(100_000)),
        always(error(404, "BLOB_UPLOAD_UNKNOWN"), "GET", "upload"),
    ]


def cloudflare() -> list[Rule]:
    """Chunks of 5 to 100 MB, all of one size but the last; the edge caps bodies."""
    sizes: dict[str, int] = {}

    def opened(answer: Answer) -> None:
        answer.headers["OCI-Chunk-Min-Length"] = str(5 * MIB)
        answer.headers["OCI-Chunk-Max-Length"] = str(6 * MIB)

    def act(asked: Asked, upstream: Upstream) -> Answer:
        if len(asked.body) > 6 * MIB:
            return Answer(413)
        session = asked.target.partition("?")[0]
        if asked.method == "PATCH":
            first = sizes.setdefault(session, len(asked.body))
            if len(asked.body) != first or first < 5 * MIB:
                return Answer(400, body=b"all parts but the last have one size")
        return upstream.forward(asked)

    return [always(changed(opened), "POST", "open"), always(act, "", "upload")]


def nginx() -> list[Rule]:
    """The default limit of a reverse proxy."""
    return [capped(MIB)]


def no_chunked_bodies() -> list[Rule]:
    """A proxy that wants every length stated."""
    return [
        always(
            answers(411),
            "PATCH",
            "upload",
            only=lambda a: a.headers.get("transfer-encoding") == "chunked",
        )
    ]


def no_digest_checks() -> list[Rule]:
    """Says 201 to whatever digest; the first PATCH loses its second half without a word."""

    def lossy(asked: Asked, upstream: Upstream) -> Answer:
        headers = {k: v for k, v in asked.headers.items() if k != "content-range"}
        part = Asked(asked.method, asked.target, headers, asked.body[: len(asked.body) // 2])
        answer = upstream.forward(part)
        answer.headers = {k: v for k, v in answer.headers.items() if k.lower() != "range"}
        return answer

    def says_yes(answer: Answer) -> None:
        answer.status = 201 if answer.status == 400 else answer.status

    return [
        Rule(lossy, "PATCH", "upload"),
        always(changed(says_yes), "PUT", "upload"),
    ]


def gitlab_referrers() -> list[Rule]:
    """No lists of referrers, and a tag such as `sha256-…` is the digest of that name."""

    def by_digest(asked: Asked, upstream: Upstream) -> Answer:
        target = asked.target.replace("/manifests/sha256-", "/manifests/sha256:")
        return upstream.forward(Asked(asked.method, target, asked.headers))

    def named(asked: Asked) -> bool:
        return "/manifests/sha256-" in asked.target

    return [always(by_digest, "GET", "tag", named), always(by_digest, "HEAD", "tag", named)]


def ecr_referrers() -> list[Rule]:
    """Says that it knows the subject of a manifest, and has no list of what refers to it."""

    def act(asked: Asked, upstream: Upstream) -> Answer:
        answer = upstream.forward(asked)
        subject = json.loads(asked.body).get("subject")
        if subject:
            answer.headers["OCI-Subject"] = subject["digest"]
        return answer

    return [
        always(act, "PUT", "manifest"),
        always(error(405, "UNSUPPORTED"), "GET", "referrers"),
    ]


def referrers_elsewhere() -> list[Rule]:
    """GHCR sends who asks for referrers to another host by 303, which answers 429
    (artifacthub/hub, issue 4785). The other host is the server itself by its other name."""

    def act(asked: Asked, upstream: Upstream) -> Answer:
        host = asked.headers["host"]
        if host.startswith("127.0.0.1"):
            elsewhere = host.replace("127.0.0.1", "localhost")
            return Answer(303, {"Location": f"http://{elsewhere}{asked.target}"})
        return Answer(429, {"Retry-After": "60"}, b"<html>Too many requests</html>")

    return [always(act, "GET", "referrers")]


PERSONAS = [
    Persona(make.__name__, make)
    for make in (
        docker_hub, ghcr, ecr, gar, acr, quay, harbor, gitea, artifactory, nexus, zot,
        cloudflare, nginx, no_chunked_bodies, no_digest_checks, gitlab_referrers, ecr_referrers,
        referrers_elsewhere,
    )
]  # fmt: skip
