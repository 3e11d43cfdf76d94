"""Options say themselves whether they decide what an item holds."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from regpush.options import GuixOptions, LockOptions, NixOptions, SourceOptions
from regpush.ownership import Rule
from regpush.sources.directory import key_of

OTHERS: dict[str, tuple[Any, bool]] = {
    "root_dir": ("/srv", True),
    "preserve": (True, True),
    "preserve_xattrs": (True, True),
    "allow_secrets": (("*.pem",), True),
    "own_state": (("/x",), False),
    "rules": ((Rule.chmod("/app/*=0755"),), True),
    "system": ("aarch64-linux", False),
    "nix": (NixOptions(store="/x"), False),
    "guix": (GuixOptions(target="x"), False),
    "link_roots": ((".",), False),
    "base": ("debian:12", True),
    "bare": (True, False),
    "lock": (LockOptions(python="3.12"), False),
}


@pytest.mark.parametrize("name", [one.name for one in fields(SourceOptions)])
def test_an_option_decides_what_an_item_holds_or_does_not(name: str) -> None:
    value, decides = OTHERS[name]
    default = SourceOptions()
    other = replace(default, **{name: value})
    assert (other.deciding != default.deciding) is decides
    assert (key_of(b"/x", other, frozenset()) != key_of(b"/x", default, frozenset())) is decides


def test_of_a_base_only_whether_there_is_one_matters() -> None:
    one, two = SourceOptions(base="debian:12"), SourceOptions(base="debian:13")
    assert one.deciding == two.deciding
