"""Credential files as Docker and containers write them, and helpers as real programs."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from regpush.errors import AuthError, UsageError
from regpush.options import RegistryOptions
from regpush.registry.auth.record import Credentials
from regpush.registry.auth.sources import CredentialSources, from_options
from regpush.settings import Settings

SECRET = "p:a:s:s-wörd"


def basic(user: str, password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def look_up(
    tmp_path: Path, config: object, registry: str = "r.example", repository: str = "a/b"
) -> Credentials | None:
    path = tmp_path / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return find([str(tmp_path / "missing.json"), str(path)], registry, repository)


def find(files: Sequence[str], registry: str, repository: str) -> Credentials | None:
    sources = CredentialSources(RegistryOptions(), Settings(auth_files=tuple(files)), lambda: None)
    return sources.find(registry, repository)


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("r.example", "r.example"),
        ("R.Example", "r.example"),
        ("r.example/", "r.example"),
        ("https://r.example", "r.example"),
        ("https://r.example/v1/", "r.example"),
        ("https://r.example/v2/", "r.example"),
        ("http://r.example:5000", "r.example:5000"),
        ("localhost:5000", "localhost:5000"),
        ("[::1]:5000", "[::1]:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
    ],
)
def test_keys_that_name_a_registry(tmp_path: Path, key: str, registry: str) -> None:
    found = look_up(tmp_path, {"auths": {"other.example": basic("eve"), key: basic("u")}}, registry)
    assert found is not None
    assert (found.username, found.password) == ("u", SECRET)
    assert SECRET not in repr(found)
    assert found.source.endswith("config.json")


@pytest.mark.parametrize("key", ["r.example:443", "example", "xr.example", "r.example/other"])
def test_keys_that_name_another(tmp_path: Path, key: str) -> None:
    assert look_up(tmp_path, {"auths": {key: basic("u")}}) is None


@pytest.mark.parametrize(
    ("repository", "user"), [("a/b", "ab"), ("a/c", "a"), ("a/b/c", "ab"), ("ab", "host")]
)
def test_the_longest_path_wins(tmp_path: Path, repository: str, user: str) -> None:
    auths = {"r.example": basic("host"), "r.example/a": basic("a"), "r.example/a/b": basic("ab")}
    found = look_up(tmp_path, {"auths": auths}, repository=repository)
    assert found is not None
    assert found.username == user


def test_plain_fields_and_identity_tokens(tmp_path: Path) -> None:
    entry: dict[str, str] = {"username": "u", "password": SECRET}
    found = look_up(tmp_path, {"auths": {"r.example": entry}})
    assert found is not None
    assert (found.username, found.password) == ("u", SECRET)
    entry = {**basic("u", ""), "identitytoken": "the token"}
    found = look_up(tmp_path, {"auths": {"r.example": entry}})
    assert found is not None
    assert found.identity_token == "the token"
    assert "the token" not in repr(found)


def test_the_first_file_that_knows_the_registry_wins(tmp_path: Path) -> None:
    files = []
    for name, host in [("1", "other.example"), ("2", "r.example"), ("3", "r.example")]:
        (tmp_path / name).write_text(json.dumps({"auths": {host: basic(f"user{name}")}}))
        files.append(str(tmp_path / name))
    found = find(files, "r.example", "a")
    assert found is not None
    assert found.username == "user2"


@pytest.mark.parametrize(
    "config", ["", "  \n", {}, {"auths": {}}, {"auths": None}, {"auths": {"r.example": {}}}]
)
def test_files_that_know_nothing(tmp_path: Path, config: object) -> None:
    assert look_up(tmp_path, config) is None


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ('{"auths": {"r.example": {"auth": "c2VjcmV0"', "not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"auths": []}', "'auths' is not"),
        ('{"auths": {"r.example": "c2VjcmV0"}}', "entry 'r.example'"),
        ('{"auths": {"r.example": {"auth": 1}}}', "'auth' of 'r.example'"),
        ('{"auths": {"r.example": {"auth": "c2VjcmV0"}}}', "user:password"),
        ('{"auths": {"r.example": {"auth": "!c2VjcmV0"}}}', "user:password"),
        ('{"credHelpers": "c2VjcmV0"}', "'credHelpers' is not"),
        ('{"credsStore": ["c2VjcmV0"]}', "credential helper"),
        ('{"credsStore": "../bin/c2VjcmV0"}', "credential helper"),
    ],
)
def test_malformed_files_are_named_but_not_quoted(tmp_path: Path, config: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        look_up(tmp_path, config)
    message = str(caught.value)
    assert what in message
    assert str(tmp_path / "config.json") in message
    assert "c2VjcmV0" not in message
    assert caught.value.__cause__ is None


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper that answers whatever `answer` holds, and notes what it is asked."""
    program = tmp_path / "bin" / "docker-credential-test"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\n[ "$1" = get ] || exit 9\ncat >> {tmp_path}/asked\n. {tmp_path}/answer\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path


def answers(helper: Path, username: str, secret: str) -> None:
    reply = json.dumps({"ServerURL": "x", "Username": username, "Secret": secret})
    (helper / "answer").write_text(f"cat <<'END'\n{reply}\nEND\n")


@pytest.mark.parametrize(
    ("config", "registry", "asked"),
    [
        ({"credHelpers": {"r.example": "test"}}, "r.example", "r.example"),
        ({"credHelpers": {"r.example": "test"}, "credsStore": "none"}, "r.example", "r.example"),
        ({"credsStore": "test", "auths": {"r.example": {}}}, "r.example", "r.example"),
        ({"credsStore": "test"}, "docker.io", "https://index.docker.io/v1/"),
        ({"credHelpers": {"docker.io": "test"}}, "docker.io", "https://index.docker.io/v1/"),
    ],
)
def test_helpers(helper: Path, config: object, registry: str, asked: str) -> None:
    answers(helper, "u", SECRET)
    found = look_up(helper, config, registry)
    assert found is not None
    assert (found.username, found.password, found.identity_token) == ("u", SECRET, "")
    assert (helper / "asked").read_text().strip() == asked


@pytest.mark.parametrize(
    ("helpers", "asked"),
    [
        ({"r.example/a/b": "test"}, ["r.example/a/b"]),
        ({"r.example/a": "test"}, ["r.example/a"]),
        ({"r.example/a": "test", "r.example": "none"}, ["r.example/a"]),
        ({"r.example/a/b": "", "r.example": "test"}, ["r.example"]),
        ({"r.example/ab": "none", "r.example/a/b/c": "none", "r.example": "test"}, ["r.example"]),
    ],
)
def test_helpers_for_a_path_of_a_registry(
    helper: Path, helpers: dict[str, str], asked: list[str]
) -> None:
    answers(helper, "u", SECRET)
    found = look_up(helper, {"credHelpers": helpers}, repository="a/b")
    assert found is not None
    assert found.username == "u"
    assert (helper / "asked").read_text().split() == asked


def test_a_helper_for_a_path_that_knows_registries_alone(helper: Path) -> None:
    (helper / "answer").write_text(
        f"if tail -n 1 {helper}/asked | grep -q /; then echo credentials not found; exit 1; fi\n"
        f"echo '{json.dumps({'Username': 'u', 'Secret': SECRET})}'\n"
    )
    found = look_up(helper, {"credHelpers": {"r.example/a": "test"}}, repository="a/b")
    assert found is not None
    assert found.username == "u"
    assert (helper / "asked").read_text().split() == ["r.example/a", "r.example"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_auth_with_line_ends(tmp_path: Path, end: str) -> None:
    """By GNU base64, which breaks lines at 76 columns, and ends with one."""
    password = "x" * 100
    made = subprocess.run(["base64"], input=f"u:{password}", capture_output=True, text=True)
    auth = made.stdout.replace("\n", end)
    assert auth.count(end) == 2
    found = look_up(tmp_path, {"auths": {"r.example": {"auth": auth}}})
    assert found is not None
    assert (found.username, found.password) == ("u", password)


@pytest.mark.parametrize("auth", ["dTpwdw", "dTpwdw==", " dTpwdw==\t", "dTp wdw=="])
def test_an_auth_written_by_hand(tmp_path: Path, auth: str) -> None:
    """Without padding, as go-containerregistry reads it, or with blanks."""
    found = look_up(tmp_path, {"auths": {"r.example": {"auth": auth}}})
    assert found is not None
    assert (found.username, found.password) == ("u", "pw")


def test_a_helper_may_hand_out_an_identity_token(helper: Path) -> None:
    answers(helper, "<token>", SECRET)
    found = look_up(helper, {"credsStore": "test"})
    assert found is not None
    assert (found.password, found.identity_token) == ("", SECRET)


def test_a_helper_goes_before_the_file_that_names_it(helper: Path) -> None:
    config = {"auths": {"r.example": basic("file")}, "credsStore": "test"}
    answers(helper, "helper", SECRET)
    found = look_up(helper, config)
    assert found is not None
    assert found.username == "helper"
    (helper / "answer").write_text("echo credentials not found in native keychain; exit 1\n")
    found = look_up(helper, config)
    assert found is not None
    assert found.username == "file"


@pytest.mark.parametrize(
    "config",
    [
        {"auths": {"r.example/a": basic("file")}, "credsStore": "test"},
        {"auths": {"r.example": basic("file")}, "credHelpers": {"r.example": ""},
         "credsStore": "test"},
    ],
)  # fmt: skip
def test_what_the_file_says_more_closely_needs_no_helper(helper: Path, config: object) -> None:
    found = look_up(helper, config)
    assert found is not None
    assert found.username == "file"
    assert not (helper / "asked").exists()


def test_a_helper_without_credentials(helper: Path) -> None:
    (helper / "answer").write_text("echo credentials not found in native keychain; exit 1\n")
    assert look_up(helper, {"credsStore": "test"}) is None


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("echo the keyring is locked; exit 1", "the keyring is locked"),
        (
            "echo session expired: run corp-login >&2; exit 1",
            "failed: session expired: run corp-login",
        ),
        ("echo no luck; echo trace >&2; echo last words >&2; exit 1", "no luck; last words"),
        ("echo the same; echo the same >&2; exit 1", "failed: the same$"),
        ("echo The name org.freedesktop.secrets was not provided; exit 1", "freedesktop.secrets"),
        ("seq 20000 >&2; echo the end >&2; exit 1", "failed: the end"),
        ("echo out now; exec >&-; sleep 0.3; echo too late >&2; exit 1", "out now; too late"),
        (
            "echo token ghp_0123456789abcdefghijABCDEFGHIJ is bad >&2; exit 1",
            r"token \*\*\* is bad",
        ),
        ("echo 'Secret: hunter2' >&2; exit 1", "no reason given"),
        ('echo \'{"Secret": "hunter2"}\' >&2; exit 1', "no reason given"),
        ("exit 3", "no reason given"),
        ("echo secret", "something other"),
        ("echo '{\"Username\": 1}'", "something other"),
    ],
)
def test_a_helper_that_fails(helper: Path, answer: str, what: str) -> None:
    (helper / "answer").write_text(f"{answer}\n")
    with pytest.raises(AuthError, match=what) as caught:
        look_up(helper, {"credsStore": "test"})
    assert "docker-credential-test" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_helper_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(AuthError, match=r"docker-credential-nowhere.*no such file"):
        look_up(tmp_path, {"credsStore": "nowhere"})


def test_flags() -> None:
    assert from_options(RegistryOptions()) is None
    found = from_options(RegistryOptions(username="u", password=SECRET))
    assert found is not None
    assert base64.b64decode(found.basic.removeprefix("Basic ")).decode() == f"u:{SECRET}"
    for half in (RegistryOptions(username="u"), RegistryOptions(password=SECRET)):
        with pytest.raises(UsageError):
            from_options(half)
