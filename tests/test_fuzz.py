"""Readers of what others send, given valid texts that were damaged: a result, or one of our errors.

A little of it runs always; `-m soak` runs thousands of times as much.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from regpush.digest import Digest
from regpush.embedded.answers import ApiError
from regpush.embedded.manifests import read_references
from regpush.errors import RegpushError
from regpush.http.address import Origin, redirect_location, upload_location
from regpush.http.headers import content_length, next_link, retry_after_s
from regpush.image.image import Image, parse_manifest
from regpush.image.index import entries
from regpush.reference import Reference
from regpush.registry.auth.challenges import (
    challenged_scopes,
    choose,
    parse_challenges,
    parse_token,
)
from regpush.registry.protocol import digests_in, parse_problem
from regpush.registry.uploads.lessons import LARGEST, Limits
from regpush.registry.uploads.resume import acknowledged, resume_at
from tests.registry.api import INDEX_TYPE, MANIFEST_TYPE, image_manifest

DIGEST = f"sha256:{'ab' * 32}"
HOME = Origin("https", "registry.example", 443)
MANIFEST = image_manifest(b'{"architecture":"amd64","os":"linux"}', b"layer").decode()
CONFIG = json.dumps(
    {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "history": [{"created": "1970-01-01T00:00:01Z", "comment": "x"}],
        "config": {"Env": ["A=b"]},
    }
)
INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [
            {
                "mediaType": MANIFEST_TYPE,
                "digest": DIGEST,
                "size": 7,
                "platform": {"os": "linux", "architecture": "amd64"},
            }
        ],
    }
)
PIECES = [
    "\0", "\r\n", "\x1b[2J", "\u202e", "\ud800", "\u0665", '"', "\\", "'", ",", ";", "=", "<", ">",
    "/", "..", "@", ":", "%", "?", "#", "{", "}", "[", "]", "null", "true", "-1", "1e999", "9" * 40,
    "sha256:", "0-", "bytes=", "://", "é", "A" * 300, " ", "\t",
]  # fmt: skip


def challenge(text: str) -> None:
    challenges = parse_challenges([text])
    choose(challenges)
    for one in challenges:
        challenged_scopes(one)


def location(text: str) -> None:
    for resolve in (upload_location, redirect_location):
        with suppress(RegpushError):
            found = resolve("https://registry.example/v2/a/blobs/uploads/", text, HOME)
            url = found if isinstance(found, str) else found.url
            assert url.isascii()
            assert url.isprintable()
            assert not Origin.of(url).is_private


def position(text: str) -> None:
    at = resume_at(5, 90, text)
    assert at is None or 5 <= at <= 90
    assert 5 < acknowledged(5, 90, text).stored <= 90
    limits = Limits.stated(text, text)
    assert 1 <= limits.least <= LARGEST


def problem(text: str) -> None:
    body = text.encode("utf-8", "surrogatepass")
    assert parse_problem(body).words.isprintable()
    digests_in(body)


def manifest(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    with suppress(RegpushError):
        parse_manifest(data)
    with suppress(RegpushError):
        Image.parse(data, CONFIG.encode())
    with suppress(ApiError):
        read_references(data, MANIFEST_TYPE)
    with suppress(ApiError):
        read_references(data, INDEX_TYPE)


def index(text: str) -> None:
    entries(text.encode("utf-8", "surrogatepass"))


def wait(text: str) -> None:
    seconds = retry_after_s(text, "Sat, 01 Mar 2025 12:00:00 GMT")
    assert seconds is None or 0 <= seconds <= 3600


READERS: dict[str, tuple[Callable[[str], object], list[str]]] = {
    "reference": (
        Reference.parse,
        ["registry.example:5000/team/app:v1.0", f"localhost/a@{DIGEST}", "docker.io/library/x"],
    ),
    "digest": (Digest.parse, [DIGEST]),
    "challenge": (
        challenge,
        [
            'Bearer realm="https://a.example/t?x=1",service="s",scope="repository:a/b:pull,push"',
            'Basic realm="x", Negotiate abc==, Bearer realm=https://a.example',
        ],
    ),
    "token": (
        lambda text: parse_token(text.encode("utf-8", "surrogatepass"), ""),
        ['{"token":"abc","expires_in":300,"issued_at":"2025-03-01T11:59:00Z"}'],
    ),
    "location": (
        location,
        ["/v2/a/blobs/uploads/1?_state=x", "https://storage.example:8443/b?sig=%2b", "//h/x"],
    ),
    "range": (position, ["0-49", "bytes=0-49", "0--1", "0-0", "5242880"]),
    "link": (
        lambda text: next_link([text]),
        ['</v2/a/tags/list?last=b&n=2>; rel="next"', "<a>; rel=prev, <b>; rel=next"],
    ),
    "problem": (
        problem,
        [
            json.dumps({"errors": [{"code": "DENIED", "message": "no", "detail": DIGEST}]}),
            "<html><head><title>413</title></head><body><h1>Too Large</h1></body></html>",
        ],
    ),
    "manifest": (manifest, [MANIFEST]),
    "config": (lambda text: Image.parse(MANIFEST.encode(), text.encode("utf-8", "surrogatepass")),
               [CONFIG]),
    "index": (index, [INDEX]),
    "retry-after": (wait, ["120", "Sat, 01 Mar 2025 12:00:30 GMT"]),
    "length": (
        lambda text: content_length(206, {"content-range": text, "content-length": text}),
        ["bytes 0-0/77", "77"],
    ),
}  # fmt: skip


def damaged(text: str, chance: random.Random) -> str:
    """`text` after a few random edits: something inserted, cut out, doubled or replaced."""
    for _ in range(chance.choice([1, 1, 2, 3, 8])):
        start = chance.randrange(len(text) + 1)
        end = min(start + chance.choice([0, 1, 1, 2, 10, 100]), len(text))
        new = chance.choice([chance.choice(PIECES), text[start:end] * 2, ""])
        text = text[:start] + new + text[end:]
    return text


def fuzz(reader: str, count: int) -> None:
    read, samples = READERS[reader]
    chance = random.Random(reader)
    for number in range(count):
        text = damaged(chance.choice(samples), chance)
        try:
            with suppress(RegpushError):
                read(text)
        except BaseException as error:
            error.add_note(f"number {number}: {text!r}")
            raise


@pytest.mark.parametrize("reader", READERS)
def test_samples_are_read(reader: str) -> None:
    read, samples = READERS[reader]
    for text in samples:
        read(text)


@pytest.mark.parametrize("reader", READERS)
def test_no_damage_breaks_a_reader(reader: str) -> None:
    fuzz(reader, 400)


@pytest.mark.soak
@pytest.mark.parametrize("reader", READERS)
def test_much_damage_breaks_no_reader(reader: str) -> None:
    fuzz(reader, 100_000)
