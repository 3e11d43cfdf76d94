"""References: the grammar of distribution-spec and Docker's short forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regpush.errors import UsageError
from regpush.reference import Reference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("alpine", "docker.io", "library/alpine", None),
        ("me/app:1", "docker.io", "me/app", "1"),
        ("docker.io/app", "docker.io", "library/app", None),
        ("index.docker.io/me/app", "docker.io", "me/app", None),
        ("localhost/app", "localhost", "app", None),
        ("localhost:5000/app:v1", "localhost:5000", "app", "v1"),
        ("ghcr.io/a/b/c", "ghcr.io", "a/b/c", None),
        ("127.0.0.1:80/x", "127.0.0.1:80", "x", None),
        ("[::1]:5000/x", "[::1]:5000", "x", None),
        ("r.example/a__b/c-d.e", "r.example", "a__b/c-d.e", None),
        ("UPPER.example/a", "UPPER.example", "a", None),
    ],
)
def test_reads(text, registry, repository, tag):
    got = Reference.parse(text)
    assert (got.registry, got.repository, got.tag) == (registry, repository, tag)


def test_digest_and_tag():
    got = Reference.parse(f"r.example:1/a:t@sha256:{HEX}")
    assert str(got) == f"r.example:1/a:t@sha256:{HEX}"
    assert str(got.with_tag("u")) == "r.example:1/a:u"
    assert str(got.name) == "r.example:1/a"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a repository is"),
        ("localhost:5000", "no repository"),
        ("r.example/App", "lower case"),
        ("https://r.example/app", "scheme"),
        ("r.example/a:", "tag"),
        ("r.example/a:-x", "tag"),
        ("r.example/a:" + "x" * 129, "tag"),
        ("r.example/a@sha256:123", "digest"),
        ("r.example/a@md5:" + HEX, "digest"),
        ("r.example/../x", "repository"),
        ("r.example/a//b", "repository"),
        ("r.example/a/", "repository"),
        ("r.example:0/a", "host"),
        ("r.example:99999/a", "host"),
        ("-bad.example/a", "host"),
        ("user:pw@r.example/a", "digest"),
        ("r.example/" + "a" * 250, "255"),
        ("r.example/a\nb", "repository"),
    ],
)
def test_refuses(text, why):
    with pytest.raises(UsageError, match=why) as caught:
        Reference.parse(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
def test_never_fails_otherwise(text):
    try:
        got = Reference.parse(text)
    except UsageError:
        return
    assert Reference.parse(str(got)) == got


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("10.0.0.1:5000", False),
        ("localhost.example:80", False),
        ("127.0.0.1.example", False),
    ],
)
def test_loopback(host, loopback):
    assert Reference(registry=host, repository="a").is_loopback is loopback


def test_docker_hub_answers_elsewhere():
    assert Reference.parse("alpine").api_host == "registry-1.docker.io"
