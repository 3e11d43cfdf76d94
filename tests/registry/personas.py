"""Imitates registries of others (docs/internals/registries.md, section 4) before a real registry.

Each persona is a list of rules for a `FaultServer`; in everything else the real registry answers.
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
    """A registry to imitate; `rules` makes its rules anew for every server."""

    name: str
    rules: Callable[[], list[Rule]]


def always(act: Act, method: str, kind: str, only: Callable[[Asked], bool] | None = None) -> Rule:
    return Rule(act, method, kind, times=FOREVER, only=only or (lambda asked: True))


def larger(size: int) -> Callable[[Asked], bool]:
    return lambda asked: len(asked.body) > size


def capped(size: int) -> Rule:
    """Imitate a proxy that answers 413 to a body larger than `size`, after reading it."""

    def act(asked: Asked, upstream: Upstream) -> Answer:
        if len(asked.body) > size:
            return Answer(413, {"Content-Type": "text/html"}, b"<h1>413 Too Large</h1>")
        return upstream.forward(asked)

    return always(act, "", "upload")


def docker_hub() -> list[Rule]:
    """Answers 429 to the first two requests for tags, with a malformed Retry-After."""
    page = b"<html>You have reached your pull rate limit</html>"
    return [Rule(answers(429, page, Retry_After="1.5 minutes"), "GET", "tag", times=2)]


def ghcr() -> list[Rule]:
    """Answers 416 to chunks over 4 MiB with a Content-Range.

    Here it is behind a proxy that refuses bodies over 6 MiB, so that clients send chunks.
    """

    def act(asked: Asked, upstream: Upstream) -> Answer:
        if len(asked.body) > 6 * MIB:
            return Answer(413)
        if "content-range" in asked.headers and len(asked.body) > 4 * MIB:
            return Answer(416)
        return upstream.forward(asked)

    return [always(act, "", "upload")]


def ecr() -> list[Rule]:
    """Answers 201 to PATCH, with a Range that never moves."""

    def patched(answer: Answer) -> None:
        if answer.status == 202:
            answer.status = 201
            answer.headers["Range"] = "0-0"

    return [always(changed(patched), "PATCH", "upload")]


def gar() -> list[Rule]:
    """Takes one PATCH a session; the first connection breaks, so that a client may try a second."""
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
    """Answers 413 over 16 MiB, 400 to a Content-Range without a length, and once 416 to the PUT."""

    def without_length(asked: Asked) -> bool:
        return "content-range" in asked.headers and "content-length" not in asked.headers

    return [
        Rule(answers(416), "PUT", "upload", times=1),
        always(answers(400), "PATCH", "upload", only=without_length),
        capped(16 * MIB),
    ]


def quay() -> list[Rule]:
    """Reports the status of an upload as `bytes=0-N`, N one too high, without a Location.

    The first two large bodies break off, so that clients ask for the status.
    """

    def status(answer: Answer) -> None:
        answer.headers.pop("Location", None)
        if text := answer.headers.get("Range"):
            answer.headers["Range"] = f"bytes=0-{int(text.partition('-')[2]) + 1}"

    return [
        Rule(breaks(0.5), "", "upload", times=2, only=larger(100_000)),
        always(changed(status), "GET", "upload"),
    ]


def harbor() -> list[Rule]:
    """Sets cookies on every reply, which must not be sent back.

    401 for mounts of unknown projects.
    """
    return [
        always(answers(401), "POST", "open", only=lambda asked: "mount=" in asked.target),
        always(with_header("Set-Cookie", "sid=harbor; Path=/"), "", ""),
    ]


def gitea() -> list[Rule]:
    """Sends relative Locations, and wants a Content-Range in every PATCH but the first."""
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
    """Old versions answer 404 to a PUT with a blob, and 406 to uploads with an Accept header."""

    def accepts(asked: Asked) -> bool:
        return asked.headers.get("accept", "*/*") != "*/*"

    return [
        always(answers(406), "", "open", only=accepts),
        always(answers(406), "", "upload", only=accepts),
        always(error(404, "BLOB_UNKNOWN"), "PUT", "upload", only=lambda asked: bool(asked.body)),
    ]


def nexus() -> list[Rule]:
    """Stores a blob that two clients send at once, and answers 400 to one of them."""
    return [Rule(loses(400), "PUT", "upload", times=2)]


def zot() -> list[Rule]:
    """Forgets an upload session whose connection breaks."""
    return [
        Rule(breaks(0.5), "", "upload", times=2, only=larger(100_000)),
        always(error(404, "BLOB_UPLOAD_UNKNOWN"), "GET", "upload"),
    ]


def cloudflare() -> list[Rule]:
    """Takes chunks of 5 to 6 MiB, all of one size but the last; answers 413 to larger bodies."""
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
    """The default limit of nginx as a reverse proxy, 1 MiB a body."""
    return [capped(MIB)]


def no_chunked_bodies() -> list[Rule]:
    """A proxy that answers 411 to a body of unknown length."""
    return [
        always(
            answers(411),
            "PATCH",
            "upload",
            only=lambda a: a.headers.get("transfer-encoding") == "chunked",
        )
    ]


def no_digest_checks() -> list[Rule]:
    """Answers 201 for a wrong digest; the first PATCH loses the second half of its body."""

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
    """Has no referrers API, and takes a tag such as `sha256-…` for the digest of that name."""

    def by_digest(asked: Asked, upstream: Upstream) -> Answer:
        target = asked.target.replace("/manifests/sha256-", "/manifests/sha256:")
        return upstream.forward(Asked(asked.method, target, asked.headers))

    def named(asked: Asked) -> bool:
        return "/manifests/sha256-" in asked.target

    return [always(by_digest, "GET", "tag", named), always(by_digest, "HEAD", "tag", named)]


def ecr_referrers() -> list[Rule]:
    """Acknowledges the subject of a manifest (OCI-Subject), but has no referrers API."""

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
    """GHCR redirects requests for referrers by 303 to another host, which answers 429.

    Source: artifacthub/hub, issue 4785. The other host is the server itself, as `localhost`.
    """

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
