"""Parse a sha256 in each notation of Nix and Guix: hexadecimal, base 32, base 64, SRI, JSON.

Nix manual, "Store Path Specification" (base 32) and "JSON formats: hash".
"""

from __future__ import annotations

import base64
import binascii

from regpush.digest import Digest

_ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"
_BYTES = 32


def parse(value: object) -> Digest:
    """Parse a sha256: digits in any base, alone or after `sha256:` or `sha256-`; or a JSON object.

    Raises ValueError for another value, for instance with another algorithm.
    """
    if isinstance(value, dict):
        if value.get("algorithm") != "sha256" or not isinstance(value.get("hash"), str):
            raise ValueError("the hash is an object without the algorithm sha256 and a 'hash'")
        return parse(value["hash"])
    if not isinstance(value, str):
        raise ValueError("the hash is not a text")
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
            raise ValueError("the hash is not valid base 64") from error
    else:
        raise ValueError("the hash does not have the length of a sha256")
    if len(raw) != _BYTES:
        raise ValueError("the hash does not have the length of a sha256")
    return Digest("sha256", raw.hex())


def _base32(text: str) -> bytes:
    """Decode 52 digits of Nix's base 32, in which the last digit has the lowest bits of byte 0.

    Raises ValueError for other digits, and for a number of more than 256 bits.
    """
    number = 0
    for digit in text:
        number = number << 5 | _ALPHABET.index(digit)
    # 52 digits are 260 bits; to_bytes raises OverflowError where the number has more than 256.
    try:
        return number.to_bytes(_BYTES, "little")
    except OverflowError as error:
        raise ValueError("the hash is not valid base 32") from error
