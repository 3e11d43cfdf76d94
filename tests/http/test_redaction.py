"""Addresses as they may be shown: nothing in them lets anybody in."""

from __future__ import annotations

import pytest

from regpush.http.redaction import Redactor, shown_url

BASE = "https://r.example.com/v2/team/app"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"{BASE}/manifests/latest", f"{BASE}/manifests/latest"),
        (f"{BASE}/blobs/uploads/?mount=sha256:ab&from=team/other",
         f"{BASE}/blobs/uploads/?mount=sha256:ab&from=team/other"),
        (f"{BASE}/blobs/uploads/7?_state=opens&digest=sha256%3Aab",
         f"{BASE}/blobs/uploads/7?_state=***&digest=sha256%3Aab"),
        ("https://t.example.com/token?account=me&service=s&scope=repository:a:pull",
         "https://t.example.com/token?account=***&service=s&scope=repository:a:pull"),
        ("https://s3.example.com/x?X-Amz-Signature=abc&X-Amz-Credential=def",
         "https://s3.example.com/x?X-Amz-Signature=***&X-Amz-Credential=***"),
        ("https://s.example.com/x?opaque", "https://s.example.com/x?***"),
        ("https://s.example.com/x?", "https://s.example.com/x"),
        # Whoever throws a secret back at us may do it anywhere.
        ("https://s.example.com/s3cret/x", "https://s.example.com/***/x"),
        ("https://s.example.com/x?digest=s3cret", "https://s.example.com/x?digest=***"),
    ],
)  # fmt: skip
def test_what_is_shown_of_an_address(url: str, shown: str) -> None:
    redactor = Redactor()
    redactor.add(["s3cret"])
    assert shown_url(url, redactor) == shown


def test_long_addresses_are_cut_and_secrets_with_them() -> None:
    redactor = Redactor()
    redactor.add(["s3cret-that-is-long"])
    for length in range(250, 310):
        shown = shown_url(f"https://r/{'x' * length}s3cret-that-is-long", redactor)
        assert len(shown) <= 310
        assert "s3cr" not in shown
