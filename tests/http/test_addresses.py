"""URLs that a registry must not send a client to: the error names who sent it there."""

from __future__ import annotations

import pytest

from regpush.errors import RefusedError
from regpush.http.address import Origin, redirect_location, upload_location

REQUEST = "https://r.example.com/v2/app/blobs/uploads/"


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://[", "not a URL"),
        ("two words", "not a URL"),
        ("ftp://r.example.com/", "scheme 'ftp'"),
        ("https://me:secret@r.example.com/", "user name"),
    ],
)
def test_the_sender_of_a_bad_address_is_named(location: str, words: str) -> None:
    for resolve in (upload_location, redirect_location):
        with pytest.raises(RefusedError) as caught:
            resolve(REQUEST, location, Origin.of(REQUEST))
        assert str(caught.value).startswith("https://r.example.com:443: the registry sent")
        assert words in str(caught.value)
        assert "secret" not in str(caught.value)
