"""Credential files and helpers as other tools write them: who is found for which repository."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from regpush.errors import UsageError
from regpush.options import RegistryOptions
from regpush.reference import Reference
from regpush.registry.credentials import Credentials, find_credentials
from regpush.settings import Settings


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def find(tmp_path: Path, name: str, *configs: Any) -> Credentials | None:
    paths = []
    for number, config in enumerate(configs):
        path = tmp_path / f"config{number}.json"
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        paths.append(str(path))
    settings = Settings(auth_files=(str(tmp_path / "absent.json"), *paths))
    return find_credentials(Reference.parse(name), RegistryOptions(), settings)


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("r.example/a/b", ["r.example"], "r.example"),
        ("r.example:5000/a", ["r.example:5000"], "r.example:5000"),
        ("r.example:5000/a", ["r.example"], None),
        ("r.example/a", ["https://r.example"], "https://r.example"),
        ("r.example/a", ["https://r.example/v1/"], "https://r.example/v1/"),
        ("r.example/a", ["https://r.example/v2/"], "https://r.example/v2/"),
        ("a/b", ["https://index.docker.io/v1/"], "https://index.docker.io/v1/"),
        ("a/b", ["docker.io"], "docker.io"),
        ("r.example/a/b/c", ["r.example", "r.example/a", "r.example/a/b"], "r.example/a/b"),
        ("r.example/a/b", ["r.example", "r.example/a/b"], "r.example/a/b"),
        ("r.example/ab", ["r.example/a"], None),
        ("r.example/a", ["other.example"], None),
        ("docker.io/org/app", ["docker.io/org", "https://index.docker.io/v1/"], "docker.io/org"),
    ],
)
def test_keys(tmp_path: Path, name: str, keys: list[str], expected: str | None) -> None:
    found = find(tmp_path, name, {"auths": {key: auth("u", key) for key in keys}})
    assert (found and found.password) == expected


def test_first_file_that_knows_the_registry_wins(tmp_path: Path) -> None:
    first = {"auths": {"other.example": auth("no", "x"), "r.example": {}}}
    second = {"auths": {"r.example": auth("yes", "pa:ss")}}
    third = {"auths": {"r.example": auth("late", "x")}}
    found = find(tmp_path, "r.example/a", first, second, third)
    assert found == Credentials(username="yes", password="pa:ss")


def test_flags_win(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"auths": {"r.example": auth("file", "x")}}))
    found = find_credentials(
        Reference.parse("r.example/a"),
        RegistryOptions(username="flag", password="pw"),
        Settings(auth_files=(str(tmp_path / "c.json"),)),
    )
    assert found == Credentials(username="flag", password="pw")


def test_a_user_name_alone_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="password"):
        find_credentials(Reference.parse("r.example/a"), RegistryOptions(username="u"), Settings())


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "u", "password": "p"}, Credentials(username="u", password="p")),
        (
            {"username": "u", "password": "p", "identitytoken": "t"},
            Credentials(username="u", password="p", identity_token="t"),
        ),
        ({"identitytoken": "t"}, Credentials(username="<token>", identity_token="t")),
        (auth("<token>", "t"), Credentials(username="<token>", password="t", identity_token="t")),
        ({"auth": "", "email": "x"}, None),
    ],
)
def test_entries(tmp_path: Path, entry: dict[str, str], expected: Credentials | None) -> None:
    assert find(tmp_path, "r.example/a", {"auths": {"r.example": entry}}) == expected


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ('{"auths": []}', "'auths' is not a JSON object"),
        ('{"auths": {"r.example": {"auth": "c2VjcmV0!"}}}', "'auth' of 'r.example' is not base64"),
        ('{"auths": {"r.example": {"auth": "c2VjcmV0"}}}', "is not user:password"),
        ('{"credHelpers": {"r.example": "no-such-helper-here"}}', "not on the PATH"),
        ('{"credHelpers": {"r.example": "../evil"}}', "a name, not a path"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, config: str, why: str) -> None:
    with pytest.raises(UsageError, match=why.replace("(", r"\(")) as caught:
        find(tmp_path, "r.example/a", config)
    assert "secret" not in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)
    if "elper" not in config:
        assert str(tmp_path / "config0.json") in str(caught.value)


def test_a_malformed_entry_of_another_registry_is_none_of_our_business(tmp_path: Path) -> None:
    config = {"auths": {"other.example": {"auth": "?"}, "r.example": auth("u", "p")}}
    assert find(tmp_path, "r.example/a", config) == Credentials(username="u", password="p")


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper `docker-credential-test` that knows two registries."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    program = bin_dir / "docker-credential-test"
    program.write_text(
        """#!/bin/sh
[ "$1" = get ] || exit 2
read -r host
case "$host" in
r.example) echo '{"ServerURL":"r.example","Username":"u","Secret":"s3cret"}' ;;
https://index.docker.io/v1/) echo '{"Username":"<token>","Secret":"idtoken"}' ;;
broken.example) echo oops; exit 1 ;;
talk.example) echo 'no json' ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{bin_dir}{os.pathsep}{os.environ['PATH']}")
    return program


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("r.example/a", {"credsStore": "test"}, ("u", "s3cret", "")),
        ("r.example/a", {"credHelpers": {"r.example": "test"}}, ("u", "s3cret", "")),
        ("a/b", {"credsStore": "test"}, ("<token>", "", "idtoken")),
        ("none.example/a", {"credsStore": "test"}, None),
        (
            "none.example/a",
            {"credsStore": "test", "auths": {"none.example": auth("kept", "p")}},
            ("kept", "p", ""),
        ),
    ],
)
def test_helpers(
    helper: Path, tmp_path: Path, name: str, config: dict[str, Any], expected: Any
) -> None:
    found = find(tmp_path, name, config)
    assert (found and (found.username, found.password, found.identity_token)) == expected


@pytest.mark.parametrize("host", ["broken.example", "talk.example"])
def test_helpers_that_fail_are_named(helper: Path, tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="docker-credential-test"):
        find(tmp_path, f"{host}/a", {"credsStore": "test"})


def test_secrets_do_not_show() -> None:
    shown = repr(Credentials(username="u", password="pw123", identity_token="it456"))
    assert "pw123" not in shown
    assert "it456" not in shown
