"""`regpush login` and `logout`, and what other tools make of each other's logins."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from regpush.commands.login import parse
from regpush.errors import UsageError
from regpush.registry.auth.files import AuthFile
from regpush.registry.auth.store import LoginKind, LoginPlace, LoginStore
from tests.flow.test_push_directory import app
from tests.http.proxying import proxy
from tests.patience import HANG_S
from tests.program import Outcome, environment, push, regpush
from tests.registry.parts import real_part
from tests.registry.servers import Registry
from tests.registry_auth.helpers import FakeHelper, fake_helper
from tests.registry_client.tokens import USERS, TokenServer, token_registry

__all__ = ["app"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def docker_file(home: Path) -> Path:
    return home / ".docker" / "config.json"


@pytest.fixture
def helper(tmp_path: Path) -> FakeHelper:
    return fake_helper(tmp_path / "bin")


def login(registry: Registry, home: Path, *flags: object, **env: str) -> Outcome:
    command = ["login", registry.host, "-u", registry.username, "--password-stdin", *flags]
    return regpush(*command, stdin=f"{registry.password}\n", env={"HOME": str(home), **env})


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def auth(registry: Registry) -> str:
    return base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()


def skopeo(*arguments: str, home: Path, stdin: str = "", **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [real_part("skopeo"), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **env},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )


# With files.


def test_login_push_logout(
    docker_registry_htpasswd: Registry, repository: str, app: Path, home: Path, docker_file: Path
) -> None:
    registry = docker_registry_htpasswd
    to = f"{registry.host}/{repository}"
    env = {"HOME": str(home)}
    done = login(registry, home).ok()
    assert done.stdout == ""
    assert f"logged in to {registry.host}" in done.stderr
    assert f"warning: the password is stored unencrypted in {docker_file}" in done.stderr
    assert registry.password not in done.stderr
    assert json.loads(docker_file.read_text()) == {
        "auths": {registry.host: {"auth": auth(registry)}}
    }
    assert docker_file.stat().st_mode & 0o777 == 0o600
    assert docker_file.parent.stat().st_mode & 0o777 == 0o700
    push(app, to, env=env).ok()
    assert "logged out" in regpush("logout", registry.host, env=env).ok().stderr
    assert json.loads(docker_file.read_text()) == {"auths": {}}
    push(app, to, env=env).failed(3, f"regpush login {registry.host}")
    assert "no login" in regpush("logout", registry.host, env=env).ok().stderr


def test_skopeo_uses_what_regpush_wrote(
    docker_registry_htpasswd: Registry, repository: str, app: Path, home: Path, tmp_path: Path
) -> None:
    registry = docker_registry_htpasswd
    image = f"docker://{registry.host}/{repository}"
    look = ("inspect", "--tls-verify=false", "--raw", image)
    assert skopeo(*look, home=home).returncode != 0
    login(registry, home).ok()
    push(app, f"{registry.host}/{repository}", env={"HOME": str(home)}).ok()
    done = skopeo(*look, home=home)
    assert done.returncode == 0, done.stderr
    authfile = tmp_path / "auth.json"
    login(registry, home, "--authfile", authfile).ok()
    done = skopeo(*look, "--authfile", str(authfile), home=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("place", ["runtime", "authfile", "variable"])
def test_regpush_uses_what_skopeo_wrote(
    docker_registry_htpasswd: Registry,
    repository: str,
    app: Path,
    home: Path,
    tmp_path: Path,
    place: str,
) -> None:
    registry = docker_registry_htpasswd
    authfile = str(tmp_path / "auth.json")
    flags = {"runtime": [], "authfile": ["--authfile", authfile], "variable": []}[place]
    env = {
        "runtime": {"XDG_RUNTIME_DIR": str(tmp_path)},
        "authfile": {},
        "variable": {"REGISTRY_AUTH_FILE": authfile},
    }[place]
    said = ["-u", registry.username, "--password-stdin", "--tls-verify=false", registry.host]
    done = skopeo("login", *flags, *said, home=home, stdin=registry.password, **env)
    assert done.returncode == 0, done.stderr
    to = f"{registry.host}/{repository}"
    push(app, to, *flags, env={"HOME": str(home), **env}).ok()
    # And what regpush removes, skopeo has lost.
    logged_out = regpush("logout", registry.host, *flags, env={"HOME": str(home), **env}).ok()
    assert "logged out" in logged_out.stderr
    done = skopeo("login", "--get-login", *flags, registry.host, home=home, **env)
    assert "not logged in" in done.stderr


def test_what_else_is_in_the_file_stays(
    docker_registry_htpasswd: Registry, home: Path, docker_file: Path, tmp_path: Path
) -> None:
    registry = docker_registry_htpasswd
    real = tmp_path / "dotfiles" / "docker.json"
    before = {
        "HttpHeaders": {"X": "ü"},
        "auths": {
            "other.example": {"auth": "b3RoZXI6c2VjcmV0", "email": "me@other.example"},
            # Two spellings of one registry, of which the stale one must not win.
            f"http://{registry.host}/v1/": {"auth": "c3RhbGU6c3RhbGU="},
            registry.host: {"auth": "c3RhbGU6c3RhbGU="},
            f"{registry.host}/team": {"auth": "dGVhbTp0ZWFt"},
        },
        "credHelpers": {"third.example": "third"},
        "psFormat": "table",
    }
    write(real, before)
    docker_file.parent.mkdir()
    docker_file.symlink_to(real)
    login(registry, home).ok()
    assert docker_file.is_symlink()
    after = json.loads(real.read_text())
    assert list(after) == list(before)
    expected = dict(before["auths"])
    del expected[f"http://{registry.host}/v1/"]
    assert after == {**before, "auths": {**expected, registry.host: {"auth": auth(registry)}}}
    assert real.stat().st_mode & 0o777 == 0o600
    regpush("logout", registry.host, env={"HOME": str(home)}).ok()
    del expected[registry.host]
    assert json.loads(real.read_text()) == {**before, "auths": expected}
    assert [path.name for path in real.parent.iterdir()] == ["docker.json"]


def test_a_login_goes_where_it_will_be_found(
    docker_registry_htpasswd: Registry, home: Path, docker_file: Path, tmp_path: Path
) -> None:
    """A file that is read earlier, and knows the registry, would hide it in a later one."""
    registry = docker_registry_htpasswd
    stale = {"auths": {registry.host: {"auth": "c3RhbGU6c3RhbGU="}}}
    containers = write(home / ".config/containers/auth.json", stale)
    login(registry, home).ok()
    assert json.loads(containers.read_text())["auths"] == {registry.host: {"auth": auth(registry)}}
    assert not docker_file.exists()
    # What the environment names goes before both.
    login(registry, home, DOCKER_CONFIG=str(tmp_path / "d")).ok()
    assert (tmp_path / "d" / "config.json").exists()
    login(registry, home, REGISTRY_AUTH_FILE=str(tmp_path / "a.json")).ok()
    assert (tmp_path / "a.json").exists()


def test_logout_says_what_is_left(docker_registry_htpasswd: Registry, home: Path) -> None:
    registry = docker_registry_htpasswd
    login(registry, home).ok()
    netrc = home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password pl4nted")
    done = regpush("logout", registry.host, env={"HOME": str(home)}).ok()
    assert f"still come from {netrc}" in done.stderr
    assert "pl4nted" not in done.stderr


def test_docker_hub_has_a_name_of_its_own_in_each_file(tmp_path: Path) -> None:
    docker = AuthFile(path="/x/config.json", content={}).with_login("docker.io", "u", "p")
    assert list(docker.content["auths"]) == ["https://index.docker.io/v1/"]
    containers = AuthFile(path="/x/auth.json", content={}).with_login("docker.io", "u", "p")
    assert list(containers.content["auths"]) == ["docker.io"]
    for file in (docker, containers):
        assert file.login("docker.io")
        assert file.without_login("docker.io").content == {"auths": {}}


# What is refused, and then changes nothing.


def test_a_wrong_password_is_not_kept(
    docker_registry_htpasswd: Registry, home: Path, docker_file: Path
) -> None:
    host = docker_registry_htpasswd.host
    env = {"HOME": str(home)}
    wrong = ["login", host, "-u", "alice", "--password-stdin"]
    done = regpush(*wrong, stdin="wr0ng-one\n", env=env).failed(3, host)
    assert "wr0ng" not in done.stderr
    assert not docker_file.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["-u", "me"], "", ["--password-stdin"]),
        (["--password-stdin"], "x\n", ["--username"]),
        (["-u", "me", "--password-stdin"], "\n", ["no password"]),
        (["-u", "me", "--password-stdin"], "x" * 20_000, ["longer"]),
        (["-u", "m:e", "--password-stdin"], "x", ["colon"]),
        (["-u", "me", "--password", "x"], "", ["--password"]),
    ],
)
def test_wrong_usage(arguments: list[str], stdin: str, words: list[str], home: Path) -> None:
    env = {"HOME": str(home)}
    regpush("login", "localhost:1", *arguments, stdin=stdin, env=env).failed(2, *words)


def test_no_place_for_a_login(docker_registry_htpasswd: Registry, home: Path) -> None:
    registry = docker_registry_htpasswd
    said = ["login", registry.host, "-u", registry.username, "--password-stdin"]
    regpush(*said, stdin=registry.password).failed(2, "--authfile")
    broken = write(home / ".docker" / "config.json", [])
    login(registry, home).failed(2, str(broken))
    assert broken.read_text() == "[]"
    login(registry, home, "--authfile", "/proc/auth.json").failed(2, "/proc/auth.json")


@pytest.mark.parametrize(
    ("text", "registry"),
    [
        ("r.example", "r.example"),
        ("R.Example:5000", "r.example:5000"),
        ("localhost", "localhost"),
        ("https://r.example/", "r.example"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_registries(text: str, registry: str) -> None:
    assert parse(text).registry == registry


@pytest.mark.parametrize("text", ["", "hub", "r.example/team", "a b.example", "r.example:0", "@"])
def test_no_registries(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_a_registry_that_asks_nobody(docker_registry: Registry, home: Path) -> None:
    said = ["login", docker_registry.host, "-u", "me", "--password-stdin"]
    done = regpush(*said, stdin="anything", env={"HOME": str(home)}).ok()
    assert "were not checked" in done.stderr


def test_a_password_is_not_sent_in_the_clear(home: Path) -> None:
    said = ["login", "registry.test", "-u", "me", "--password-stdin"]
    with proxy({}, refuse="403 Forbidden") as running:
        env = {"HOME": str(home), "ALL_PROXY": f"http://{running.host}"}
        regpush(*said, stdin="x", env=env).failed(4, "403")
        assert running.lines == ["CONNECT registry.test:443 HTTP/1.1"]


# With helpers.


@pytest.mark.parametrize("section", ["credsStore", "credHelpers"])
def test_a_helper_keeps_it(
    docker_registry_htpasswd: Registry,
    repository: str,
    app: Path,
    home: Path,
    docker_file: Path,
    helper: FakeHelper,
    section: str,
) -> None:
    registry = docker_registry_htpasswd
    config = {section: "test" if section == "credsStore" else {registry.host: "test"}}
    write(docker_file, config)
    env = {"HOME": str(home), "PATH": helper.path}
    done = login(registry, home, PATH=helper.path).ok()
    assert "docker-credential-test" in done.stderr
    assert "warning" not in done.stderr
    stored = {"Username": registry.username, "Secret": registry.password}
    assert helper.kept == {registry.host: stored}
    # The mark that docker login leaves; no password.
    assert json.loads(docker_file.read_text()) == {**config, "auths": {registry.host: {}}}
    push(app, f"{registry.host}/{repository}", env=env).ok()
    assert helper.verbs == ["store", "get"]
    assert "logged out" in regpush("logout", registry.host, env=env).ok().stderr
    assert helper.kept == {}
    assert json.loads(docker_file.read_text()) == {**config, "auths": {}}


def test_skopeo_asks_the_helper_that_regpush_told(
    docker_registry_htpasswd: Registry, home: Path, docker_file: Path, helper: FakeHelper
) -> None:
    registry = docker_registry_htpasswd
    write(docker_file, {"credHelpers": {registry.host: "test"}})
    login(registry, home, PATH=helper.path).ok()
    done = skopeo("login", "--get-login", registry.host, home=home, PATH=helper.path)
    assert done.stdout.strip() == registry.username, done.stderr


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("print('the key ring is locked'); sys.exit(1)", "the key ring is locked"),
        ("print('cannot keep ' + json.loads(said)['Secret']); sys.exit(1)", "cannot keep ***"),
        ("print(said); sys.exit(1)", "no reason given"),
        ("sys.stderr.write(said); sys.exit(1)", "no reason given"),
        ("print('x' * 70_000); sys.stdout.flush(); __import__('time').sleep(9)", "65536 bytes"),
    ],
)
def test_a_helper_that_fails_to_keep_it(
    docker_registry_htpasswd: Registry,
    home: Path,
    docker_file: Path,
    helper: FakeHelper,
    code: str,
    word: str,
) -> None:
    registry = docker_registry_htpasswd
    write(docker_file, {"credsStore": "test"})
    helper.breaks(code)
    done = login(registry, home, PATH=helper.path).failed(3, "docker-credential-test", word)
    assert registry.password not in done.stderr
    assert json.loads(docker_file.read_text()) == {"credsStore": "test"}


# Registries with tokens.


@pytest.fixture(scope="module")
def bearer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, TokenServer]]:
    with token_registry(tmp_path_factory.mktemp("token-registry")) as pair:
        yield pair


def test_a_token_server_checks_it(
    bearer: tuple[Registry, TokenServer], home: Path, docker_file: Path
) -> None:
    registry, tokens = bearer
    said = ["login", registry.host, "-u", "alice", "--password-stdin"]
    env = {"HOME": str(home)}
    done = regpush(*said, stdin="wr0ng-one", env=env).failed(3, "incorrect username or password")
    assert "wr0ng" not in done.stderr
    assert not docker_file.exists()
    regpush(*said, stdin=USERS["alice"], env=env).ok()
    # No scope: nothing is wanted but to know that the password is right.
    assert tokens.scopes() == [[], []]
    entry = json.loads(docker_file.read_text())["auths"][registry.host]
    assert base64.b64decode(entry["auth"]).decode() == f"alice:{USERS['alice']}"


# At a terminal, and at the same time.


def test_a_password_is_asked_for_and_not_shown(
    docker_registry_htpasswd: Registry, home: Path, docker_file: Path
) -> None:
    registry = docker_registry_htpasswd
    terminal, inner = pty.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-m", "regpush", "login", registry.host],
        env=environment(HOME=str(home)),
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    )
    os.close(inner)
    seen = b""
    answers = {b"User name for": registry.username, b"Password of": registry.password}
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
        for question, answer in list(answers.items()):
            if question in seen:
                del answers[question]
                os.write(terminal, f"{answer}\n".encode())
    os.close(terminal)
    assert asking.wait(HANG_S) == 0, seen
    assert not answers
    assert registry.password.encode() not in seen
    assert registry.host in json.loads(docker_file.read_text())["auths"]


def test_several_logins_at_the_same_time(docker_file: Path) -> None:
    """Each keeps what the others wrote."""
    hosts = [f"r{number}.example" for number in range(40)]

    def put(host: str) -> LoginPlace:
        store = LoginStore([str(docker_file)], default=str(docker_file), check=lambda: None)
        return store.put(host, "me", "password")

    with ThreadPoolExecutor(8) as pool:
        places = set(pool.map(put, hosts))
    assert places == {LoginPlace(LoginKind.PLAIN_TEXT, str(docker_file))}
    assert set(json.loads(docker_file.read_text())["auths"]) == set(hosts)
