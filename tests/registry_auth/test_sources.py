"""The order of the sources of credentials, and each of them."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regpush.errors import AuthError, CancelledError, UsageError
from regpush.options import RegistryOptions
from regpush.registry.auth import helpers as helpers_module
from regpush.registry.auth.files import AuthFile
from regpush.registry.auth.helpers import Helper
from regpush.registry.auth.keys import candidates, normalise
from regpush.registry.auth.record import Credentials
from regpush.registry.auth.sources import CredentialSources, from_options
from regpush.settings import Settings
from tests.registry_auth.helpers import FakeHelper, fake_helper


def write_auth(path: Path, user: str, registry: str = "ghcr.io") -> Path:
    pair = base64.b64encode(f"{user}:password of {user}".encode()).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": {registry: {"auth": pair}}}))
    return path


def find(
    environ: dict[str, str], registry: str = "ghcr.io", authfile: str | None = None
) -> Credentials | None:
    options, settings = RegistryOptions(authfile=authfile), Settings.from_environ(environ)
    return CredentialSources(options, settings, lambda: None).find(registry, "team/app")


def test_the_order(tmp_path: Path) -> None:
    """Every source knows the registry; taking the first away brings the next to light."""
    home, runtime = tmp_path / "home", tmp_path / "run"
    netrc = home / ".netrc"
    files = {
        "authfile": write_auth(tmp_path / "authfile.json", "authfile"),
        "REGPUSH_AUTH": write_auth(tmp_path / "regpush.json", "REGPUSH_AUTH"),
        "REGISTRY_AUTH_FILE": write_auth(tmp_path / "registry.json", "REGISTRY_AUTH_FILE"),
        "DOCKER_CONFIG": write_auth(tmp_path / "docker" / "config.json", "DOCKER_CONFIG"),
        "runtime": write_auth(runtime / "containers" / "auth.json", "runtime"),
        "config": write_auth(home / ".config" / "containers" / "auth.json", "config"),
        "docker": write_auth(home / ".docker" / "config.json", "docker"),
    }
    netrc.write_text("machine ghcr.io login netrc password secret\n")
    environ = {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(runtime),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "REGISTRY_AUTH_FILE": str(files["REGISTRY_AUTH_FILE"]),
        "REGPUSH_AUTH": files["REGPUSH_AUTH"].read_text(),
        "GITHUB_TOKEN": "token of the workflow",
        "GITHUB_ACTOR": "GITHUB_TOKEN",
    }
    seen = []
    for source in [*files, "GITHUB_TOKEN", "netrc"]:
        found = find(environ, authfile=str(files["authfile"]))
        assert found is not None
        seen.append(found.username)
        if source in files:
            files[source].write_text("{}")
        if source in ("REGPUSH_AUTH", "GITHUB_TOKEN"):
            del environ[source]
    assert seen == [*files, "GITHUB_TOKEN", "netrc"]
    netrc.unlink()
    assert find(environ) is None


def test_a_file_behind_the_one_that_knows_is_not_read(tmp_path: Path) -> None:
    write_auth(tmp_path / "home/.config/containers/auth.json", "me")
    broken = tmp_path / "home/.docker/config.json"
    broken.parent.mkdir()
    broken.write_text("{ broken")
    environ = {"HOME": str(tmp_path / "home")}
    found = find(environ)
    assert found is not None
    assert found.username == "me"
    with pytest.raises(UsageError, match="not valid JSON"):
        find(environ, registry="other.example")


def test_an_authfile_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--authfile .*nowhere"):
        find({}, authfile=str(tmp_path / "nowhere"))


# Flags.


def test_a_token_of_the_flags() -> None:
    found = from_options(RegistryOptions(registry_token="t0ken"))
    assert found is not None
    assert found.registry_token == "t0ken"
    assert "t0ken" not in repr(found)
    assert "t0ken" in found.secrets


@pytest.mark.parametrize(
    "options",
    [
        {"registry_token": "t", "username": "u", "password": "p"},
        {"registry_token": ""},
        {"registry_token": "t\r\nInjected: y"},
        {"username": "a:b", "password": "p"},
        {"username": "", "password": "p"},
    ],
)
def test_flags_that_make_no_sense(options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        from_options(RegistryOptions(**options))  # type: ignore[arg-type]  # keywords


def test_flags_of_the_destination_are_for_nobody_else() -> None:
    options = RegistryOptions(
        username="u", password="p", registry_token="t", plain_http=True, cert_file="c",
        key_file="k", insecure_skip_tls_verify=True, ca_file="ca", authfile="f", jobs=7,
    )  # fmt: skip
    assert options.elsewhere == RegistryOptions(ca_file="ca", authfile="f", jobs=7)
    assert RegistryOptions(from_plain_http=True).elsewhere.plain_http


# REGPUSH_AUTH and GITHUB_TOKEN.


@pytest.mark.parametrize("text", ["s3cret", "[]", '{"auths": {"ghcr.io": {"auth": "s3cret"}}}'])
def test_a_variable_that_is_no_file_of_logins(text: str) -> None:
    with pytest.raises(UsageError, match="credentials in REGPUSH_AUTH") as caught:
        find({"REGPUSH_AUTH": text})
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "s3cret" not in repr(Settings.from_environ({"REGPUSH_AUTH": text}))


@pytest.mark.parametrize("registry", ["docker.io", "r.example", "ghcr.io.example", "xghcr.io"])
def test_githubs_token_is_for_github(registry: str) -> None:
    assert find({"GITHUB_TOKEN": "t"}, registry) is None
    found = find({"GITHUB_TOKEN": "t"})
    assert found is not None
    assert (found.password, found.source) == ("t", "GITHUB_TOKEN")
    assert found.username


# netrc.


@pytest.mark.parametrize(
    ("text", "registry", "user"),
    [
        ("machine r.example login u password p", "r.example", "u"),
        ("machine r.example login u password p", "r.example:5000", "u"),
        ("machine r.example:5000 login v password p\nmachine r.example login u password p",
         "r.example:5000", "v"),
        ("machine index.docker.io login u password p", "docker.io", "u"),
        ("machine r.example account u password p", "r.example", "u"),
        ("machine ::1 login u password p", "[::1]:5000", "u"),
        ("default login u password p", "r.example", None),
        ("machine default login u password p", "r.example", None),
        ("machine a.r.example login u password p", "r.example", None),
        ("machine r.example login u", "r.example", None),
        ("", "r.example", None),
    ],
)  # fmt: skip
def test_netrc(tmp_path: Path, text: str, registry: str, user: str | None) -> None:
    (tmp_path / "netrc").write_text(text)
    found = find({"NETRC": str(tmp_path / "netrc")}, registry)
    assert (found.username if found else None) == user


@pytest.mark.parametrize(
    "data",
    [b"s3cret", b"machine r.example login u password s3cret s3cret", b"machine r\xff s3cret"],
)
def test_a_broken_netrc_is_named_and_not_quoted(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / ".netrc"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=str(path)) as caught:
        find({"HOME": str(tmp_path)}, "r.example")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


# Helpers.


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHelper:
    made = fake_helper(tmp_path / "bin")
    monkeypatch.setenv("PATH", made.path)
    return made


def named(check: Callable[[], None] = lambda: None) -> Helper:
    return Helper(name="test", named_in="config.json", check=check)


def test_a_helper_is_asked_once_a_run(helper: FakeHelper, tmp_path: Path) -> None:
    helper.keep("r.example", "u", "p")
    config = tmp_path / "config.json"
    config.write_text('{"credsStore": "test"}')
    sources = CredentialSources(
        RegistryOptions(), Settings(auth_files=(str(config),)), lambda: None
    )
    for repository in ("a", "b", "a/c"):
        found = sources.find("r.example", repository)
        assert found is not None
        assert (found.username, found.password) == ("u", "p")
    helper.breaks("print('locked'); sys.exit(1)")
    for _ in range(2):
        with pytest.raises(AuthError, match="locked"):
            sources.find("other.example", "a")
    assert helper.verbs == ["get"] * 2


def test_what_a_helper_keeps_comes_back(helper: FakeHelper) -> None:
    secret = 'quo"ted \\ wörd\n'
    assert named().get("r.example") is None
    named().store("r.example", "ü", secret)
    found = named().get("r.example")
    assert found is not None
    assert (found.username, found.password) == ("ü", secret)
    named().erase("r.example")
    named().erase("r.example")
    assert helper.kept == {}


def test_a_helper_that_never_answers(helper: FakeHelper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers_module, "TIMEOUT_S", 0.3)
    helper.breaks("__import__('time').sleep(2000)")
    with pytest.raises(AuthError, match=r"docker-credential-test.*no answer"):
        named().get("r.example")


def test_a_helper_whose_children_stay(helper: FakeHelper) -> None:
    """One that leaves something running, which keeps its output open, has answered."""
    helper.keep("r.example", "u", "p")
    child = helper.root / "child"
    helper.breaks(
        "import subprocess\n"
        "pid = subprocess.Popen(['sleep', '2000']).pid\n"
        "(root / 'child').write_text(str(pid))"
    )
    try:
        assert named().get("r.example") is not None
    finally:
        os.kill(int(child.read_text()), signal.SIGKILL)


def test_a_helper_ends_with_the_push(helper: FakeHelper) -> None:
    helper.breaks(
        "import os, time\n(root / 'pid').write_text(str(os.getpid()))\ntime.sleep(2000)\n"
    )

    def check() -> None:
        if (helper.root / "pid").exists() and (helper.root / "pid").read_text():
            raise CancelledError("cancelled")

    with pytest.raises(CancelledError):
        named(check).get("r.example")
    with pytest.raises(ProcessLookupError):
        os.kill(int((helper.root / "pid").read_text()), 0)


@pytest.mark.parametrize(
    "code",
    [
        "print(json.dumps({'Username': 'u', 'Secret': 's3cret'})); sys.exit(1)",
        "sys.stderr.write('s3cret'); sys.exit(1)",
        "print('the Secret is s3cret'); sys.exit(1)",
        "print('s3cret')",
        "print(json.dumps({'Username': 7, 'Secret': 's3cret'}))",
        "print('s3cret' * 20_000)",
    ],
)
def test_what_a_helper_says_is_not_repeated(
    helper: FakeHelper, capfd: pytest.CaptureFixture[str], code: str
) -> None:
    helper.breaks(f"{code}; sys.exit(0)")
    with pytest.raises(AuthError, match="docker-credential-test") as caught:
        named().get("r.example")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in "".join(capfd.readouterr())


def test_too_much_for_a_helper(helper: FakeHelper) -> None:
    with pytest.raises(AuthError, match="bytes at most"):
        named().store("r.example", "u", "x" * 40_000)
    assert helper.verbs == []


# Files, by property.

hosts = st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){1,2}(:[1-9][0-9]{0,3})?", fullmatch=True)
parts = st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True)
users = st.text(st.characters(exclude_characters=":\0", codec="utf-8"), min_size=1, max_size=20)
secrets = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(
    lambda s: not s.endswith("\0")
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
others = st.dictionaries(
    st.text(max_size=9).filter(lambda key: key not in ("auths", "credHelpers", "credsStore")),
    json_values,
    max_size=3,
)


@given(hosts, users, secrets, others, st.dictionaries(hosts, st.just({"auth": "dTpw"}), max_size=4))
def test_a_login_comes_back_and_touches_nothing_else(
    host: str, user: str, secret: str, content: dict[str, object], logins: dict[str, object]
) -> None:
    before = AuthFile(path="auth.json", content={**content, "auths": logins})
    after = AuthFile.parse(before.with_login(host, user, secret).dump(), "auth.json")
    found = after.login(host)
    assert found is not None
    assert (found.username, found.password) == (user, secret)
    assert {k: v for k, v in after.content.items() if k != "auths"} == content
    kept = {k: v for k, v in logins.items() if k != host}
    assert {k: v for k, v in after.content["auths"].items() if k != host} == kept
    assert after.without_login(host).content == {**content, "auths": kept}
    assert "auths" not in repr(after)


@given(hosts, st.lists(parts, min_size=1, max_size=4), st.integers(0, 4))
def test_the_closest_key_wins(host: str, path: list[str], length: int) -> None:
    keys = candidates(host, "/".join(path))
    assert keys[0] == f"{host}/{'/'.join(path)}"
    assert keys[-1] == host
    assert [normalise(key) for key in keys[:-2]] == keys[:-2]
    assert normalise(f"https://{host}/v1/") == host
    wanted = keys[min(length, len(keys) - 1)]
    entries = {key: {"username": key, "password": "p"} for key in keys[keys.index(wanted) :]}
    text = json.dumps({"auths": entries})
    sources = CredentialSources(RegistryOptions(), Settings(auth=text), lambda: None)
    found = sources.find(host, "/".join(path))
    assert found is not None
    assert found.username == wanted


def complaint(read: Callable[[], object]) -> str:
    """What `read` says of a file that is not what it should be, or nothing."""
    try:
        read()
    except UsageError as error:
        return str(error) if error.__cause__ is None else "chained"
    return ""


def reads_or_complains(read: Callable[[], object]) -> bool:
    said = complaint(read)
    return not said or said.startswith("cannot read the credentials in auth.json: ")


@given(st.one_of(st.binary(max_size=60), json_values.map(json.dumps).map(str.encode)))
def test_no_file_breaks_the_reader(data: bytes) -> None:
    assert reads_or_complains(lambda: AuthFile.parse(data, "auth.json"))


@given(
    st.dictionaries(
        st.sampled_from(["auths", "credHelpers", "credsStore"]),
        json_values | st.dictionaries(st.just("r.example"), json_values, min_size=1),
    )
)
def test_no_content_breaks_the_reader(content: dict[str, object]) -> None:
    file = AuthFile(path="auth.json", content=content)
    for read in (file.helper, file.login, file.knows, file.without_login, file.with_mark):
        assert reads_or_complains(lambda read=read: read("r.example"))
