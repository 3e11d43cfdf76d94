"""What registries send, read without a network: tables from the specifications, and garbage."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regpush.digest import Digest
from regpush.errors import AuthError, RegpushError
from regpush.http.address import (
    Origin,
    authority,
    redirect_location,
    request_target,
    upload_location,
)
from regpush.http.headers import content_length, next_link, retry_after_s
from regpush.registry.auth.challenges import (
    Challenge,
    Scope,
    challenged_scopes,
    choose,
    merge,
    parse_challenges,
    parse_token,
)
from regpush.registry.protocol import (
    Outcome,
    Problem,
    classify,
    digests_in,
    parse_problem,
    with_digest,
)
from regpush.registry.quirks import is_tag_conflict

DIGEST = Digest.of(b"")
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # sha256sum /dev/null
HUB = Origin("https", "registry.example", 443)
LOCAL = Origin("http", "127.0.0.1", 5000)


# RFC 9110, 11.6.1, and what registries were seen to send.
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        (["Basic"], [("basic", {})]),
        (['Basic realm="a \\"quoted\\" realm"'], [("basic", {"realm": 'a "quoted" realm'})]),
        (
            ['Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"'],
            [
                (
                    "bearer",
                    {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"},
                )
            ],
        ),
        (
            ['Bearer realm="https://a/t" , service=s', 'Basic realm="b"'],
            [("bearer", {"realm": "https://a/t", "service": "s"}), ("basic", {"realm": "b"})],
        ),
        (
            ['Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"'],
            [
                ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
                ("basic", {"realm": "simple"}),
            ],
        ),
        (["Negotiate YWJj==, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["BEARER Realm=https://a/t?x=1"], [("bearer", {"realm": "https://a/t?x=1"})]),
        (['Bearer realm = "https://a"'], [("bearer", {"realm": "https://a"})]),
        ([', ,Basic realm="x",,'], [("basic", {"realm": "x"})]),
        (['Bearer realm="unterminated'], [("bearer", {"realm": "unterminated"})]),
        (['"stray", Basic realm="x"'], [("basic", {"realm": "x"})]),
    ],
)
def test_challenges(values: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(c.scheme, dict(c.parameters)) for c in parse_challenges(values)] == expected


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        (['Basic realm="x"', 'Bearer realm="https://a"'], "bearer"),
        (['Bearer service="no realm"', "Basic"], "basic"),
        (["Negotiate", "Digest realm=x"], None),
    ],
)
def test_the_challenge_that_is_answered(values: list[str], scheme: str | None) -> None:
    chosen = choose(parse_challenges(values))
    assert (chosen.scheme if chosen else None) == scheme


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("repository:a/b:pull,push", "repository:a/b:pull,push"),
        ("repository:host:5000/a:push,pull", "repository:host:5000/a:pull,push"),
        ("repository:a:pull,delete", "repository:a:pull"),
        ("repository:a:delete", None),
        ("repository:a:*", None),
        ("registry:catalog:*", None),
        ("repository::pull", None),
        ("pull", None),
    ],
)
def test_scopes(text: str, expected: str | None) -> None:
    scope = Scope.parse(text)
    assert (str(scope) if scope else None) == expected


def test_scopes_are_widened_in_place() -> None:
    wanted = (Scope("target", ("pull",)), Scope("source", ("pull",)))
    challenge = Challenge("bearer", (("scope", "repository:new:pull repository:target:push"),))
    merged = merge(wanted, challenged_scopes(challenge))
    assert list(map(str, merged)) == [
        "repository:target:pull,push",
        "repository:source:pull",
        "repository:new:pull",
    ]


NOW = "Sat, 01 Mar 2025 12:00:00 GMT"


@pytest.mark.parametrize(
    ("reply", "value", "lifetime", "stated"),
    [
        ({"token": "@"}, "@", 60, 60),
        ({"access_token": "$", "expires_in": 300}, "$", 300, 300),
        ({"token": "@", "access_token": "$", "expires_in": 5}, "@", 60, 5),
        ({"token": "@", "expires_in": "300"}, "@", 60, 60),
        ({"token": "@", "expires_in": -1}, "@", 60, 0.5),
        ({"token": "@", "expires_in": 1e300}, "@", 86400, 86400),
        ({"token": "@", "expires_in": 300, "issued_at": "2025-03-01T11:59:00Z"}, "@", 240, 240),
        ({"token": "@", "expires_in": 300, "issued_at": "2025-03-01T13:00:00Z"}, "@", 300, 300),
        ({"token": "@", "expires_in": 300, "issued_at": "2025-03-01T11:59:00"}, "@", 300, 300),
        ({"token": "@", "expires_in": 300, "issued_at": "yesterday"}, "@", 300, 300),
        (
            {"token": "@", "expires_in": 300, "issued_at": "2025-03-01T11:59:30.123456789Z"},
            "@",
            270,
            270,
        ),
    ],
)
def test_tokens(reply: dict[str, object], value: str, lifetime: float, stated: float) -> None:
    token = parse_token(json.dumps(reply).encode(), NOW)
    assert token.value == value
    assert token.lifetime_s == pytest.approx(lifetime, abs=1)
    assert token.stated_s == pytest.approx(stated, abs=1e-6 if stated < 60 else 1)
    assert value not in repr(token)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"token":""}', b'{"token":1}', b'{"token":"a\\r\\nX: y"}'],
)
def test_replies_without_a_token(body: bytes) -> None:
    with pytest.raises(AuthError):
        parse_token(body, NOW)


# Request URL, Location, registry, where to go; docs/internals/registries.md section 5.
@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (
            "/v2/a/blobs/uploads/1?_state=a%2Fb%3D=&x=",
            "https://registry.example/v2/a/blobs/uploads/1?_state=a%2Fb%3D=&x=",
        ),
        ("uploads/7", "https://registry.example/v2/a/blobs/uploads/7"),
        ("?session=1", "https://registry.example/v2/a/blobs/?session=1"),
        ("//storage.example/x?sig=%2b", "https://storage.example/x?sig=%2b"),
        ("https://storage.example:443/x", "https://storage.example:443/x"),
        ("https://registry.example:8443/x#fragment", "https://registry.example:8443/x"),
        ("http://registry.example/x?y", "https://registry.example/x?y"),
        ("http://registry.example:5000/x", "https://registry.example:5000/x"),
        ("http://REGISTRY.example/x", "https://registry.example/x"),
    ],
)
def test_upload_locations(location: str, expected: str) -> None:
    found = upload_location("https://registry.example/v2/a/blobs/", location, HUB)
    assert found.url == expected
    assert found.upgraded == location.startswith("http:")


@pytest.mark.parametrize(
    "location",
    [
        "http://storage.example/x",
        "https://user:pass@registry.example/x",
        "https://10.0.0.1/x",
        "https://169.254.169.254/latest",
        "https://127.0.0.1/x",
        "https://127.1/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://localhost./x",
        "https://[::1]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://[fe80::1]/x",
        "ftp://registry.example/x",
        "https://registry.example:99999/x",
        "https://registry.example:0/x",
        "https://[::1/x",
        "/a b",
        "/a\r\nX: y",
        "/ü",
    ],
)
def test_locations_that_are_refused(location: str) -> None:
    with pytest.raises(RegpushError) as caught:
        upload_location("https://registry.example/v2/", location, HUB)
    assert "pass" not in str(caught.value)


def test_a_private_registry_may_send_uploads_to_private_places() -> None:
    found = upload_location("http://127.0.0.1:5000/v2/", "http://127.0.0.1:9000/bucket", LOCAL)
    assert found.url == "http://127.0.0.1:9000/bucket"


def test_reading_is_never_redirected_from_https_to_http() -> None:
    with pytest.raises(RegpushError):
        redirect_location("https://storage.example/x", "http://storage.example/y", HUB)
    assert (
        redirect_location("https://registry.example/x", "/y", HUB) == "https://registry.example/y"
    )


@pytest.mark.parametrize(
    ("url", "appended"),
    [
        ("https://a/x", "?digest="),
        ("https://a/x?_state=1", "&digest="),
        ("https://a/x?", "digest="),
    ],
)
def test_the_digest_is_appended(url: str, appended: str) -> None:
    assert with_digest(url, DIGEST) == f"{url}{appended}sha256%3A{EMPTY}"


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("https://a:443/x?y=%zz", "a:443", "/x?y=%zz"),
        ("http://a", "a", "/"),
        ("http://a?b", "a", "/?b"),
        ("http://[::1]:5000/v2/", "[::1]:5000", "/v2/"),
    ],
)
def test_urls_are_sent_as_they_are_written(url: str, host: str, target: str) -> None:
    assert (authority(url), request_target(url)) == (host, target)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a/", "https://A:443/b", True),
        ("https://a", "http://a", False),
        ("https://a", "https://a:444", False),
        ("http://a:80", "http://a", True),
        ("http://[::1]:5000", "http://[0:0::1]:5000", True),
    ],
)
def test_origins(one: str, other: str, same: bool) -> None:
    assert (Origin.of(one) == Origin.of(other)) == same
    assert Origin.of(str(Origin.of(one))) == Origin.of(one)


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (200, "", Outcome.OK),
        (202, "", Outcome.OK),
        (307, "", Outcome.MOVED),
        (304, "", Outcome.REFUSED),
        (400, "", Outcome.REFUSED),
        (400, "DIGEST_INVALID", Outcome.BAD_DIGEST),
        (400, "MANIFEST_BLOB_UNKNOWN", Outcome.BLOB_UNKNOWN),
        (400, "MANIFEST_INVALID", Outcome.REFUSED),
        (400, "BLOB_UPLOAD_INVALID", Outcome.UPLOAD_LOST),
        (401, "DENIED", Outcome.UNAUTHORIZED),
        (403, "DENIED", Outcome.REFUSED),
        (403, "UNAUTHORIZED", Outcome.UNAUTHORIZED),
        (404, "", Outcome.ABSENT),
        (404, "NAME_UNKNOWN", Outcome.ABSENT),
        (404, "BLOB_UPLOAD_UNKNOWN", Outcome.UPLOAD_LOST),
        (405, "UNSUPPORTED", Outcome.REFUSED),
        (413, "", Outcome.TOO_LARGE),
        (416, "", Outcome.UPLOAD_LOST),
        (501, "", Outcome.FAILED),
        *((status, "", Outcome.BUSY) for status in (408, 429, 499, 500, 502, 503, 504, 522)),
        (503, "DIGEST_INVALID", Outcome.BUSY),
    ],
)
def test_statuses(status: int, code: str, outcome: Outcome) -> None:
    assert classify(status, code) is outcome


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", "", ""),
        (b'{"errors":[{"code":"denied","message":"not you"}]}', "DENIED", "not you"),
        (b'{"errors":[{"code":"A","message":"x"},{"code":"B","message":"y"}]}', "A", "x; y"),
        (b'{"errors":[{"code":"TOOMANYREQUESTS"}]}', "TOOMANYREQUESTS", "TOOMANYREQUESTS"),
        (b'{"errors":[null,1,"x"]}', "", ""),
        (b'{"errors":[{"code":1,"message":{"a":[]}}]}', "", "{'a': []}"),
        (b'{"error":"invalid_grant","error_description":"expired"}', "", "expired"),
        (b'{"details":"incorrect username or password"}', "", "incorrect username or password"),
        (b"null", "", "null"),
        (b"[1]", "", ""),
        (
            b"<html><head><title>413</title></head><body><h1>413 Too \n Large</h1></body></html>",
            "",
            "413 Too Large",
        ),
        (b"a\x1b[31mred\x07\x00", "", "a\\x1b[31mred\\x07\\x00"),
        (b'{"errors":[{"code":"X","message":"\\u202e\\u0007"}]}', "X", "\\u202e\\x07"),
    ],
)
def test_error_bodies(body: bytes, code: str, words: str) -> None:
    problem = parse_problem(body)
    assert (problem.code, problem.words) == (code, words)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (b'{"errors":[{"detail":{"digest":"sha256:%b"}}]}' % EMPTY.encode(), [EMPTY]),
        (b"lacks sha256:%b, sha256:%b" % (EMPTY.encode(), b"1" * 64), [EMPTY, "1" * 64]),
        (b"sha256:%b sha256:%b" % (EMPTY.encode(), EMPTY.encode()), [EMPTY]),
        (b"sha256:%b0" % EMPTY.encode(), []),
        (b"sha256:" + b"G" * 64, []),
        (b"sha512:" + b"a" * 128, ["a" * 128]),
    ],
)
def test_digests_that_an_error_names(body: bytes, expected: list[str]) -> None:
    assert [digest.hex for digest in digests_in(body)] == expected


@pytest.mark.parametrize(
    ("status", "code", "words", "expected"),
    [
        (400, "TAG_INVALID", "cannot be overwritten because the tag is immutable", True),
        (400, "MANIFEST_INVALID", "The repository has enabled tag immutability", True),
        (403, "DENIED", "Tag v1 already exists", True),
        (412, "PRECONDITION", "", True),
        (409, "", "", True),
        (403, "DENIED", "requested access to the resource is denied", False),
        (400, "MANIFEST_INVALID", "not a manifest", False),
        (404, "", "immutable", False),
    ],
)
def test_tags_that_are_kept(status: int, code: str, words: str, expected: bool) -> None:
    assert is_tag_conflict(status, Problem(code, words)) is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (['</v2/a/tags/list?last=b&n=2>; rel="next"'], "/v2/a/tags/list?last=b&n=2"),
        (["<x>; rel=next"], "x"),
        (['<x>; title="y"; REL="next"'], "x"),
        (['<p>; rel="prev", <n>; rel="next"'], "n"),
        (['<p>; rel="prev"', '<n>; rel="next"'], "n"),
        (['<x>; rel="nextish"'], None),
        (["<x>; rel=nextish"], None),
        (["x; rel=next"], None),
        ([], None),
    ],
)
def test_links(values: list[str], expected: str | None) -> None:
    assert next_link(values) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("999999999", 3600),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
        ("Sat, 01 Mar 2025 12:00:30 GMT", 30),
        ("Sat, 01 Mar 2025 11:00:00 GMT", 0),
        ("Sat, 01 Mar 2035 12:00:00 GMT", 3600),
        ("\u0665", None),
    ],
)
def test_retry_after(value: str, expected: float | None) -> None:
    assert retry_after_s(value, NOW) == expected


def test_a_date_to_wait_for_means_nothing_without_the_servers_own() -> None:
    assert retry_after_s("Sat, 01 Mar 2025 12:00:30 GMT", "") is None


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {"content-length": "12"}, 12),
        (200, {}, None),
        (200, {"content-length": "-1"}, None),
        (200, {"content-length": "9" * 40}, None),
        (206, {"content-length": "1", "content-range": "bytes 0-0/77"}, 77),
        (206, {"content-length": "1", "content-range": "bytes 0-0/*"}, None),
    ],
)
def test_sizes(status: int, headers: dict[str, str], expected: int | None) -> None:
    assert content_length(status, headers) == expected


# Whatever arrives: an answer, or one of our errors.

headerish = st.one_of(
    st.text(max_size=200),
    st.text(alphabet='Bb earsic=",\\;<>:/?#[]@%realmscopenxt0123456789 \t', max_size=200),
)


@given(st.lists(headerish, max_size=3))
def test_no_challenge_breaks_the_reader(values: list[str]) -> None:
    challenges = parse_challenges(values)
    choose(challenges)
    for challenge in challenges:
        for scope in challenged_scopes(challenge):
            assert set(scope.actions) <= {"pull", "push"}


parameter = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)


@given(st.lists(st.tuples(st.sampled_from(["realm", "service", "scope"]), parameter), max_size=3))
def test_quoted_parameters_come_back(parameters: list[tuple[str, str]]) -> None:
    quoted = ((n, v.replace("\\", "\\\\").replace('"', '\\"')) for n, v in parameters)
    text = "Bearer " + ", ".join(f'{name}="{value}"' for name, value in quoted)
    assert parse_challenges([text]) == [Challenge("bearer", tuple(parameters))]


@given(headerish, st.sampled_from([HUB, LOCAL]))
def test_no_location_leads_astray(location: str, registry: Origin) -> None:
    try:
        found = upload_location(f"{registry}/v2/a/", location, registry)
    except RegpushError:
        return
    origin = Origin.of(found.url)
    assert origin == registry or registry.is_private or not origin.is_private
    assert origin.scheme == "https" or registry.scheme == "http"
    assert found.url.isascii()
    assert found.url.isprintable()
    Origin.of(with_digest(found.url, DIGEST))


@given(st.one_of(st.binary(max_size=400), headerish.map(str.encode)))
def test_no_error_body_breaks_the_reader(body: bytes) -> None:
    problem = parse_problem(body)
    assert problem.words.isprintable()
    assert len(problem.words) <= 300


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["errors", "code", "message", "token", "expires_in", "issued_at"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_json_breaks_the_readers(value: object) -> None:
    body = json.dumps(value).encode()
    assert parse_problem(body).words.isprintable()
    with contextlib.suppress(AuthError):
        assert 60 <= parse_token(body, NOW).lifetime_s <= 86400


def test_deep_and_long_bodies_are_read_quickly() -> None:
    assert parse_problem(b"[" * 100_000).code == ""
    assert len(parse_problem(b"<script" * 20_000).words) <= 300
    assert parse_challenges(['a="\\' * 10_000]) is not None


@given(st.lists(headerish, max_size=3))
def test_no_link_breaks_the_reader(values: list[str]) -> None:
    next_link(values)


@given(headerish, headerish)
def test_no_retry_after_breaks_the_reader(value: str, date: str) -> None:
    seconds = retry_after_s(value, date)
    assert seconds is None or 0 <= seconds <= 3600
