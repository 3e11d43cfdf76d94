"""Headers of replies, by any case of their names, one or several lines of each."""

from regpush.http.headers import Headers

GOT = Headers(
    [
        (b"Content-Type", b"text/plain"),
        (b"WWW-Authenticate", b"Basic realm=a"),
        (b"www-authenticate", b"Bearer realm=b"),
        (b"X-Said", b"Gr\xfc\xdfe"),
    ]
)


def test_any_case_of_a_name_finds_the_header() -> None:
    assert GOT["content-type"] == GOT.get("CONTENT-TYPE") == "text/plain"
    assert "Content-type" in GOT


def test_the_value_of_several_lines_is_joined_and_each_line_can_be_had() -> None:
    """RFC 9110, section 5.3."""
    assert GOT["WWW-Authenticate"] == "Basic realm=a, Bearer realm=b"
    assert GOT.lines("WWW-Authenticate") == ["Basic realm=a", "Bearer realm=b"]
    assert len(GOT) == 3


def test_a_header_that_the_reply_lacks() -> None:
    assert GOT.get("link", "") == ""
    assert GOT.lines("link") == []
    assert "link" not in GOT


def test_bytes_beyond_ascii_are_latin_1() -> None:
    """RFC 9110, section 5.5."""
    assert GOT["x-said"] == "Grüße"
