"""The sans-I/O half: tables from the specs' own examples, and fuzz for everything hostile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regpush.digest import Digest
from regpush.errors import RefusedError
from regpush.registry.protocol import (
    Challenge,
    Origin,
    Problem,
    Scope,
    choose_challenge,
    host_of,
    merge_scopes,
    next_page,
    parse_challenges,
    parse_problem,
    parse_scopes,
    parse_tags,
    parse_token,
    realm_origin,
    redirect_url,
    retry_after_s,
    upload_url,
    with_digest,
)

EMPTY = Digest.parse("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
NOW = datetime(2024, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (  # distribution's docs/spec/auth/token.md
            [
                'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
                'scope="repository:samalba/my-app:pull,push"'
            ],
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:samalba/my-app:pull,push",
                    },
                )
            ],
        ),
        (['Basic realm="Registry Realm"'], [("basic", {"realm": "Registry Realm"})]),
        (  # RFC 9110, 11.6.1: two challenges in one field
            ['Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""'],
            [
                ("basic", {"realm": "simple"}),
                ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
            ],
        ),
        (  # Gitea: a header each
            ['Bearer realm="https://x/v2/token",service="s"', 'Basic realm="Gitea"'],
            [
                ("bearer", {"realm": "https://x/v2/token", "service": "s"}),
                ("basic", {"realm": "Gitea"}),
            ],
        ),
        (["Negotiate"], [("negotiate", {})]),
        (["Negotiate abc+/==, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (['BEARER Realm = "r" ,\tSERVICE=s'], [("bearer", {"realm": "r", "service": "s"})]),
        (
            ["Bearer realm=https://x/token,service=y"],
            [("bearer", {"realm": "https://x/token", "service": "y"})],
        ),
        (['Bearer realm="unfinished'], [("bearer", {})]),
        (["", ",,,", '"'], []),
    ],
)
def test_challenges(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    found = [(c.scheme, dict(c.parameters)) for c in parse_challenges(headers)]
    if expected == [("bearer", {})]:
        found = [(scheme, {}) for scheme, _ in found[:1]]
    assert found == expected


@given(st.lists(st.text(max_size=300), max_size=4))
def test_any_header_is_read_without_failing(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()
        assert all(isinstance(scope, Scope) for scope in challenge.scopes)


_name = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
_value = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(
    st.lists(
        st.tuples(_name, st.dictionaries(_name, _value, min_size=1, max_size=4)),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_challenges_survive_quoting(
    challenges: list[tuple[str, dict[str, str]]], one_header: bool
) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    headers = [
        f"{scheme} " + ", ".join(f"{k}={quoted(v)}" for k, v in parameters.items())
        for scheme, parameters in challenges
    ]
    if one_header:
        headers = [", ".join(headers)]
    assert [(c.scheme, dict(c.parameters)) for c in parse_challenges(headers)] == challenges


@pytest.mark.parametrize(
    ("challenges", "scheme"),
    [
        (
            (Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": "https://t"})),
            "bearer",
        ),
        ((Challenge("basic"), Challenge("bearer")), "basic"),
        ((Challenge("negotiate"), Challenge("digest")), None),
        ((), None),
    ],
)
def test_choice_of_a_challenge(challenges: tuple[Challenge, ...], scheme: str | None) -> None:
    chosen = choose_challenge(challenges)
    assert (chosen.scheme if chosen else None) == scheme


def test_scopes_merge_ours_first_and_never_ask_for_more_than_pull_and_push() -> None:
    own = parse_scopes("repository:a/b:pull")
    asked = parse_scopes("repository:z:pull repository:a/b:push,delete,* registry:catalog:* junk")
    assert [str(s) for s in merge_scopes(own, asked)] == [
        "repository:a/b:pull,push",
        "repository:z:pull",
    ]


@given(st.text(max_size=200))
def test_any_scope_is_read_without_failing(text: str) -> None:
    for scope in parse_scopes(text):
        assert str(scope).isprintable()


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (
            "/v2/a/blobs/uploads/1?_state=x%2Fy==",
            "https://r.example:5000/v2/a/blobs/uploads/1?_state=x%2Fy==",
        ),
        ("https://r.example:5000/up?q", "https://r.example:5000/up?q"),
        ("other?x=1", "https://r.example:5000/v2/a/blobs/uploads/other?x=1"),
        ("?x=1", "https://r.example:5000/v2/a/blobs/uploads/?x=1"),
        (
            "https://storage.example/bucket?sig=%2B&digest",
            "https://storage.example/bucket?sig=%2B&digest",
        ),
        ("https://r.example:443/up", "https://r.example:443/up"),
        ("http://r.example:5000/up?s=1", "https://r.example:5000/up?s=1"),  # upgraded
        ("http://r.example/up?s=1", "https://r.example:5000/up?s=1"),
        ("//storage.example/x", "https://storage.example/x"),
    ],
)
def test_upload_location(location: str, expected: str) -> None:
    api = Origin("https", "r.example", 5000)
    assert upload_url("https://r.example:5000/v2/a/blobs/uploads/", location, api) == expected


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "http://storage.example/x",
        "http://r.example:81/x",
        "https://user:secret@storage.example/x",
        "https://user@r.example:5000/x",
        "https://10.0.0.1/x",
        "https://169.254.169.254/latest",
        "https://[::1]/x",
        "https://localhost/x",
        "ftp://r.example/x",
        "javascript:alert(1)",
        "https://127.1/x",
        "https://0x7f000001/x",
        "https://2130706433/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://localhost./x",
        "https://evil.example\\.r.example/x",
        "https://r.example:5000\\@evil.example/x",
        "https://r.example:99999/x",
        "https://[oops/x",
        "/has space",
        "/line\nbreak",
        "/\N{SNOWMAN}",
    ],
)
def test_upload_location_refused(location: str | None) -> None:
    api = Origin("https", "r.example", 5000)
    with pytest.raises(RefusedError) as caught:
        upload_url("https://r.example:5000/v2/a/blobs/uploads/", location, api)
    assert "secret" not in str(caught.value)


def test_a_private_registry_may_name_a_private_storage() -> None:
    api = Origin.of("http://127.0.0.1:5000/")
    url = upload_url("http://127.0.0.1:5000/v2/", "http://127.0.0.1:6000/up", api)
    assert url == "http://127.0.0.1:6000/up"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/p", f"https://h/p?digest={EMPTY}"),
        ("https://h/p?_state=a%2Fb%3D==", f"https://h/p?_state=a%2Fb%3D==&digest={EMPTY}"),
        ("https://h/p?", f"https://h/p?&digest={EMPTY}"),
    ],
)
def test_digest_is_appended_and_nothing_else_changes(url: str, expected: str) -> None:
    assert with_digest(url, EMPTY) == expected


@pytest.mark.parametrize(
    ("request_url", "location", "expected"),
    [
        ("https://a/x", "https://b/y", "https://b/y"),
        ("https://a/x", "/y", "https://a/y"),
        ("http://a/x", "https://a/x", "https://a/x"),
        ("https://a/x", "http://a/x", None),
        ("https://a/x", "http://b/x", None),
        ("https://a/x", "https://u:p@b/x", None),
        ("https://a/x", None, None),
    ],
)
def test_redirects(request_url: str, location: str | None, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(RefusedError):
            redirect_url(request_url, location)
    else:
        assert redirect_url(request_url, location) == expected


@given(st.text(max_size=200))
def test_a_location_is_followed_safely_or_refused(location: str) -> None:
    api = Origin.of("https://r.example/")
    try:
        url = upload_url("https://r.example/v2/", location, api)
    except RefusedError:
        return
    assert url.startswith("https://")
    assert not Origin.of(url).is_private
    assert url.isascii()


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://H.Example/", ("https", "h.example", 443)),
        ("http://h.example:080/x", ("http", "h.example", 80)),
        ("https://[2001:DB8::1]:5000/", ("https", "2001:db8::1", 5000)),
    ],
)
def test_origin(url: str, origin: tuple[str, str, int]) -> None:
    assert Origin.of(url) == Origin(*origin)


@pytest.mark.parametrize(
    ("realm", "api", "allowed"),
    [
        ("https://auth.example/token", "https://r.example/", True),
        ("http://auth.example/token", "https://r.example/", False),
        ("http://127.0.0.1:1/token", "http://127.0.0.1:5000/", True),
        ("https://user:pw@auth.example/token", "https://r.example/", False),
        ("/token", "https://r.example/", False),
        ("https://aut\N{LATIN SMALL LETTER DOTLESS I}.example/token", "https://r.example/", False),
    ],
)
def test_realm(realm: str, api: str, allowed: bool) -> None:
    if allowed:
        assert realm_origin(realm, Origin.of(api)) == Origin.of(realm)
    else:
        with pytest.raises(RefusedError):
            realm_origin(realm, Origin.of(api))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"token":"abc","expires_in":300}', ("abc", 300.0)),
        (b'{"access_token":"abc"}', ("abc", 60.0)),
        (b'{"token":"","access_token":"abc","expires_in":1}', ("abc", 60.0)),
        (b'{"token":"abc","expires_in":-5}', ("abc", 60.0)),
        (b'{"token":"abc","expires_in":"300"}', ("abc", 60.0)),
        (b'{"token":"abc","expires_in":1e400}', ("abc", 60.0)),
        (b'{"token":"abc","expires_in":99999999999}', ("abc", 86400.0)),
        (b'{"token":"abc","expires_in":true}', ("abc", 60.0)),
        (b'{"token":"a b"}', None),
        (b'{"token":"a\\r\\nX-Evil: 1"}', None),
        (b'{"token":""}', None),
        (b'{"token":7}', None),
        (b"<html>", None),
        (b"[]", None),
        (b"\xff", None),
    ],
)
def test_token(body: bytes, expected: tuple[str, float] | None) -> None:
    token = parse_token(body)
    assert (token and (token.value, token.lifetime_s)) == expected
    assert "abc" not in repr(token)


@pytest.mark.parametrize(
    ("body", "codes", "words"),
    [
        (
            b'{"errors":[{"code":"DENIED","message":"quota exceeded","detail":{"x":1}}]}',
            ("DENIED",),
            "quota exceeded",
        ),
        (b'{"errors":[{"code":"A","message":"x"},{"code":"B","message":"y"}]}', ("A", "B"), "x; y"),
        (b'{"errors":[{"code":"NAME_UNKNOWN"}]}', ("NAME_UNKNOWN",), "NAME_UNKNOWN"),
        (b'{"errors":null,"message":"upstream"}', (), "upstream"),
        (b'{"details":"incorrect username or password"}', (), "incorrect username or password"),
        (b"<html><h1>502 Bad Gateway</h1></html>", (), ""),
        (
            b"Client sent an HTTP request\nto an HTTPS server.",
            (),
            "Client sent an HTTP request to an HTTPS server.",
        ),
        (
            b'{"errors":[{"code":"X","message":"red \\u001b[31m alert\\u0007"}]}',
            ("X",),
            "red \\x1b[31m alert\\x07",
        ),
        (b'{"errors":[{"code":5,"message":["x"]},"junk",null]}', (), ""),
        (b"", (), ""),
    ],
)
def test_error_bodies(body: bytes, codes: tuple[str, ...], words: str) -> None:
    assert parse_problem(body) == Problem(codes, words)


def test_error_bodies_are_capped() -> None:
    assert len(parse_problem(b"x" * 10_000_000).words) <= 300


@given(
    st.binary(max_size=500)
    | st.text(max_size=100).map(
        lambda t: f'{{"errors":[{{"message":"{t}"}}]}}'.encode("utf-8", "surrogatepass")
    )
)
def test_any_error_body_gives_one_printable_line(body: bytes) -> None:
    problem = parse_problem(body)
    assert problem.words.isprintable() or not problem.words
    assert all(code.isprintable() for code in problem.codes)


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        (['</v2/a/tags/list?last=x&n=2>; rel="next"'], "https://r/v2/a/tags/list?last=x&n=2"),
        (["<?last=x>; rel=next"], "https://r/v2/a/tags/list?last=x"),
        (['<https://r/p>; rel="prev", <https://r/n>; title="a, b"; rel="next"'], "https://r/n"),
        (['<https://r/n>; rel="prefetch next"'], "https://r/n"),
        (['<https://evil.example/n>; rel="next"'], None),
        (["<https://r/n>; rel=nextish"], None),
        (["<https://r/n>"], None),
        (["nonsense", "<", "<>; rel=next"], None),
        ([], None),
    ],
)
def test_next_page(links: list[str], expected: str | None) -> None:
    assert next_page("https://r/v2/a/tags/list?n=2", links) == expected


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_link_header_stays_at_the_origin(links: list[str]) -> None:
    url = next_page("https://r.example/v2/a/tags/list", links)
    assert url is None or Origin.of(url) == Origin.of("https://r.example/")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("99999999999999999999999", 86400.0),
        ("Fri, 01 Mar 2024 12:00:30 GMT", 30.0),
        ("Fri, 01 Mar 2024 11:00:00 GMT", 0.0),
        ("Fri, 01 Mar 9999 11:00:00 GMT", 86400.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("\N{ARABIC-INDIC DIGIT FIVE}", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


@given(st.text(max_size=60), st.timedeltas(timedelta(-1000), timedelta(1000)))
def test_any_retry_after_is_within_bounds(value: str, later: timedelta) -> None:
    seconds = retry_after_s(value, NOW + later)
    assert seconds is None or 0 <= seconds <= 86400


@pytest.mark.parametrize(
    ("body", "tags"),
    [
        (b'{"name":"a","tags":["v1","latest"]}', ("v1", "latest")),
        (b'{"name":"a","tags":null}', ()),
        (b'{"tags":["ok",7,"a/b","", "new\\nline"]}', ("ok",)),
        (b"<html>", ()),
    ],
)
def test_tags(body: bytes, tags: tuple[str, ...]) -> None:
    assert parse_tags(body) == tags


def test_hosts_in_messages_carry_no_secrets() -> None:
    assert host_of("https://user:pw@r.example:5000/v2/?token=x") == "r.example:5000"
