"""Every fault of docs/internals/registries.md section 6, one row each, with real registries."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import pytest

from regpush.concurrency import Cancellation
from regpush.errors import (
    AuthError,
    RefusedError,
    RegpushError,
    TransientError,
    VerificationError,
)
from regpush.flow import assemble
from regpush.options import IfExists
from tests.registry.faults import (
    FOREVER,
    Act,
    Answer,
    FaultServer,
    Rule,
    answers,
    breaks,
    changed,
    error,
    fault_server,
    keeps,
    loses,
    resets,
    with_header,
)
from tests.registry.outcomes import judge, make_app, push, small_spool, tagged
from tests.registry.servers import Registry

OK = None


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_app(tmp_path_factory.mktemp("faults") / "app")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers past 100 kB are streamed; nobody waits long between attempts."""
    monkeypatch.setattr(assemble, "Spool", small_spool)

    def wait(self: Cancellation, seconds: float) -> None:
        self.check()
        time.sleep(min(seconds, 0.01))

    monkeypatch.setattr(Cancellation, "wait", wait)


@dataclass
class Row:
    """A fault, by rules made anew for each test, and how the push must end."""

    name: str
    rules: Callable[[], list[Rule]]
    ends: type[RegpushError] | None = OK
    words: str = ""
    asked: Callable[[FaultServer], bool] = lambda server: True
    options: dict[str, object] = field(default_factory=dict)


def one(act: Act, method: str, kind: str, **more: object) -> Callable[[], list[Rule]]:
    return lambda: [Rule(act, method, kind, **more)]  # type: ignore[arg-type]  # keywords of Rule


def without_host(answer: Answer) -> None:
    location = answer.headers.get("Location", "")
    if "://" in location:
        answer.headers["Location"] = "/" + location.partition("://")[2].partition("/")[2]


def location_of(text: str) -> Act:
    return with_header("Location", text)


def date(seconds: float) -> dict[str, str]:
    now = time.time()
    return {"Retry_After": formatdate(now + seconds, usegmt=True)}


BUSY = (408, 429, 499, 500, 502, 503, 504, 522)
UPLOADS = (("POST", "open"), ("PATCH", "upload"), ("PUT", "upload"))
DENIED = b'{"errors":[{"code":"DENIED","message":"storage quota of 5 GB exceeded"}]}'
CHALLENGE = {"WWW_Authenticate": 'Basic realm="x"'}

ROWS = [
    # Resets and lost replies.
    *(Row(f"reset-before-{m}", one(resets, m, k, times=2)) for m, k in UPLOADS),
    *(
        Row(f"break-inside-{m}-{share}", one(breaks(share), m, "upload", times=2))
        for m in ("PATCH", "PUT")
        for share in (0.0, 0.5, 1.0)
    ),
    *(
        Row(f"reply-lost-{m}-{status}", one(loses(status), m, k, times=2))
        for m, k in UPLOADS
        for status in (None, 502)
    ),
    Row(
        "put-obeyed-then-unknown",
        lambda: [
            Rule(loses(504), "PUT", "upload"),
            Rule(error(404, "BLOB_UPLOAD_UNKNOWN"), "GET", "upload", times=FOREVER),
        ],
    ),
    *(Row(f"reset-manifest-{k}", one(resets, "PUT", k, times=2)) for k in ("manifest", "tag")),
    *(Row(f"reply-lost-{k}", one(loses(), "PUT", k)) for k in ("manifest", "tag")),
    Row("resets-for-ever", one(resets, "", "", times=FOREVER), TransientError, "reset by peer"),
    # Early answers.
    *(
        Row(f"early-{status}-{m}", one(answers(status, Retry_After="0"), m, "upload", early=True))
        for m in ("PATCH", "PUT")
        for status in (429, 503)
    ),
    Row("early-413-stream", one(answers(413), "PATCH", "upload", early=True)),
    Row(
        "413-for-ever",
        one(answers(413), "PUT", "upload", times=FOREVER),
        RefusedError,
        "limits the size of requests",
    ),
    # Credentials.
    Row(
        "401-for-ever",
        one(answers(401, **CHALLENGE), "", "", times=FOREVER),
        AuthError,
        "rejected the credentials",
        options={"username": "u", "password": "never seen"},
    ),
    *(
        Row(
            f"401-inside-{m}",
            one(answers(401, **CHALLENGE), m, "upload", early=True),
            options={"username": "u", "password": "never seen"},
        )
        for m in ("PATCH", "PUT")
    ),
    # What a HEAD may say.
    Row("head-wrong-length", one(with_header("Content-Length", "3"), "HEAD", "blob", times=2)),
    *(Row(f"head-{s}", one(answers(s), "HEAD", "blob", times=2)) for s in (401, 405, 500)),
    Row("head-403-get-tells", one(answers(403), "HEAD", "blob", times=FOREVER)),
    # Ranges.
    *(
        Row(f"416-{m}", one(error(416, "RANGE_INVALID"), m, "upload", times=2))
        for m in ("PATCH", "PUT")
    ),
    # Once its digest is known, a stream goes whole: that form needs no range.
    Row("416-patch-for-ever", one(answers(416), "PATCH", "upload", times=FOREVER)),
    Row(
        "416-for-ever",
        one(answers(416), "", "upload", times=FOREVER),
        TransientError,
        "416",
        lambda server: server.count("PUT") <= 20,
    ),
    *(
        Row(f"range-{name}", one(with_header("Range", text), "PATCH", "upload", times=FOREVER))
        for name, text in {
            "stuck": "0-0",
            "backwards": "0-5",
            "beyond": "0-99999999",
            "bytes": "bytes=0-7",
            "huge": "0-" + "9" * 40,
            "garbage": "none of your business",
            "absent": None,
        }.items()
    ),
    *(
        Row(f"stored-less-{share}", one(keeps(share), "PATCH", "upload"))
        for share in (0.1, 0.5, 0.99)
    ),
    Row("stored-nothing", one(keeps(0), "PATCH", "upload")),
    # Busy.
    *(
        Row(f"{s}-{m}-{k}", one(answers(s, Retry_After="0"), m, k, times=2))
        for s in BUSY
        for m, k in ((*UPLOADS, ("PUT", "tag")) if s in (429, 500) else UPLOADS[:1])
    ),
    *(
        Row(f"429-{name}", one(answers(429, **headers), "POST", "open", times=2))
        for name, headers in {
            "seconds": {"Retry_After": "1"},
            "date": date(1),
            "past": date(-1000),
            "absent": {},
            "nonsense": {"Retry_After": "soon"},
        }.items()
    ),
    Row(
        "429-huge",
        one(answers(429, Retry_After="86400"), "POST", "open", times=FOREVER),
        TransientError,
        "429",
    ),
    Row("503-for-ever", one(answers(503), "POST", "open", times=FOREVER), TransientError, "503"),
    # Refusals.
    Row("digest-invalid-once", one(error(400, "DIGEST_INVALID"), "PUT", "upload")),
    Row(
        "digest-invalid-for-ever",
        one(error(400, "DIGEST_INVALID"), "PUT", "upload", times=FOREVER),
        VerificationError,
        "400",
    ),
    *(
        Row(
            f"quota-{m}",
            one(answers(403, DENIED), m, k, times=FOREVER),
            RefusedError,
            "storage quota of 5 GB exceeded",
        )
        for m, k in (*UPLOADS, ("PUT", "manifest"), ("PUT", "tag"))
    ),
    Row(
        "no-repository",
        one(error(404, "NAME_UNKNOWN", "no such repository"), "POST", "open", times=FOREVER),
        RefusedError,
        "no such repository; if the repository does not exist",
    ),
    # Locations.
    Row("location-relative", one(changed(without_host), "", "", times=FOREVER)),
    Row("location-missing-at-patch", one(location_of(None), "PATCH", "upload", times=FOREVER)),
    Row(
        "location-missing-at-post",
        one(location_of(None), "POST", "open", times=FOREVER),
        RefusedError,
        "opened an upload without a Location",
    ),
    *(
        Row(f"location-{name}", one(location_of(text), "POST", "open", times=FOREVER), kind, words)
        for name, text, kind, words in (
            ("userinfo", "http://u:p@127.0.0.1/x", RefusedError, "user name"),
            ("scheme", "ftp://127.0.0.1/x", RefusedError, "scheme"),
            ("no-url", "http://[", RefusedError, "not a URL"),
        )
    ),
    Row(
        "redirect-loop",
        one(answers(307, Location="/v2/"), "HEAD", "", times=FOREVER),
        RefusedError,
        "more than 10 redirects",
        options={"if_exists": IfExists.SAME},
    ),
    Row(
        "redirected-put",
        one(answers(302, Location="/v2/"), "PUT", "manifest", times=FOREVER),
        RefusedError,
        "a redirect that this request may not follow",
    ),
    Row(
        "redirected-put-to-another-page",
        one(answers(307, Location="/v2/"), "PUT", "manifest", times=FOREVER),
        VerificationError,
        "reads back as nothing",
    ),
    # Manifests.
    Row(
        "manifest-html",
        one(answers(200, b"<html>welcome</html>"), "PUT", "manifest", times=FOREVER),
        VerificationError,
        "reads back as nothing",
    ),
    Row(
        "manifest-other-digest",
        one(with_header("Docker-Content-Digest", "sha256:" + "0" * 64), "PUT", "manifest"),
        VerificationError,
        "not what was sent",
    ),
    Row(
        "tag-html",
        one(answers(200, b"<html>welcome</html>"), "PUT", "tag", times=FOREVER),
        VerificationError,
        "reads back as nothing",
        lambda server: server.count("PUT", "tag") == 3,
    ),
    Row("tag-html-once", one(answers(200, b"<html>"), "PUT", "tag")),
    Row(
        "blobs-unknown-once",
        one(error(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown"), "PUT", "manifest", times=2),
    ),
    Row("blobs-unknown-at-tag", one(error(404, "MANIFEST_BLOB_UNKNOWN"), "PUT", "tag", times=2)),
    Row(
        "blobs-unknown-for-ever",
        one(error(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown"), "PUT", "manifest", times=FOREVER),
        TransientError,
        "blob unknown",
        lambda server: server.count("PUT", "manifest") == 3,
    ),
]


# What two registries behind the same front can take differently.
SERVER_MATTERS = ("break-inside", "reply-lost", "range-", "stored-", "416-", "blobs-unknown")


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_fault(docker_registry: Registry, repository: str, app: Path, row: Row) -> None:
    run(row, docker_registry, repository, app)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            id=row.name,
            marks=[] if row.name.startswith(SERVER_MATTERS) else pytest.mark.soak,
        )
        for row in ROWS
    ],
)
def test_a_fault_before_the_embedded_registry(
    embedded_registry: Registry, repository: str, app: Path, row: Row
) -> None:
    run(row, embedded_registry, repository, app)


def run(row: Row, registry: Registry, repository: str, app: Path) -> None:
    with fault_server(registry.host, *row.rules()) as server:
        outcome = push(app, server.host, repository, **row.options)
    judge(outcome, registry.host, repository)
    if row.ends is None:
        assert outcome.error is None, f"{outcome.error}\n{outcome.messages}"
    else:
        assert isinstance(outcome.error, row.ends), outcome.error
        assert row.words in str(outcome.error)
        assert "never seen" not in f"{outcome.error}{outcome.messages}"
        assert tagged(registry.host, repository) is None
    assert row.asked(server), [str(asked) for asked in server.asked]
    assert len(server.asked) < 150
