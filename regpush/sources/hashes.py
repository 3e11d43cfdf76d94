"""Parse a sha256 in all notations of Nix and Guix: hexadecimal, base 32, base 64, SRI, JSON.

Nix manual, "Store Path Specification" (base 32) and "JSON formats: hash".
"""

from __future__ import annotations

import base64
import binascii

from regpush.digest import Digest

_ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"
_BYTES = 32


def parse(value: object) -> Digest:
    """Parse a NAR hash: `sha256:…` or bare in any base, `sha256-…` (SRI), or a JSON object.

    Raises ValueError for anything else, such as another algorithm.
    """
    if isinstance(value, dict):
        if value.get("algorithm") != "sha256" or not isinstance(value.get("hash"), str):
            raise ValueError("not a structured sha256 hash")
        return parse(value["hash"])
    if not isinstance(value, str):
        raise ValueError("not a hash")
    text = value
    if text.startswith(("sha256:", "sha256-")):
        text = text[len("sha256:") :]
    if len(text) == 64:
        raw = bytes.fromhex(text)
    elif len(text) == 52:
        raw = _base32(text)
    elif len(text) == 44:
        try:
            raw = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError("not base 64") from error
    else:
        raise ValueError("not as long as a sha256")
    if len(raw) != _BYTES:
        raise ValueError("not as long as a sha256")
    return Digest("sha256", raw.hex())


def _base32(text: str) -> bytes:
    """Decode Nix's base 32: the last digit holds the lowest bits of the first byte.

    Raises ValueError.
    """
    number = 0
    for digit in text:
        number = number << 5 | _ALPHABET.index(digit)
    # 52 digits hold 260 bits; to_bytes raises for what does not fit.
    try:
        return number.to_bytes(_BYTES, "little")
    except OverflowError as error:
        raise ValueError("not a hash in base 32") from error
