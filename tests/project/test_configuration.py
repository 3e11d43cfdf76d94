"""The configuration file: where it is found, what may stand in it, and who wins."""

import json
import os

import pytest

from regpush.cli.app import run
from regpush.cli.configured import trust
from regpush.cli.flags import Flags
from regpush.cli.keys import keys, settings
from regpush.errors import UsageError
from regpush.project import configuration
from regpush.project.configuration import Configuration, TrustedOwners, parse, read
from tests.flow.test_push_directory import app, has_tag, write
from tests.program import open_directory, open_to_all, regpush, regpush_as_nobody

__all__ = ["app"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty directory that is the current one, in a repository of its own."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


OURS = os.geteuid()


def find(directory, *safe, users=(OURS,), told=None):
    """`configuration.find`, with what was told in `told`."""
    trust = TrustedOwners(users=frozenset(users), safe=frozenset(safe))
    return configuration.find(directory, trust, [].append if told is None else told.append)


def refusal(capsys, *arguments, environ=None) -> str:
    """The one line of a command that was refused before it did anything."""
    code = run(arguments, environ or {})
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if not line.startswith("note: ")]
    assert (code, said.out, len(lines)) == (2, "", 1), said
    return lines[0]


def test_what_is_found_first(here, monkeypatch):
    inner = here / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert find(".") is None
    write(here / "pyproject.toml", "[tool.regpush.apps.top]\n")
    assert find(".").path == "../../pyproject.toml"
    assert find(".").directory == "../.."
    assert list(find(".").apps) == ["top"]
    assert find(".").title("top") == "[tool.regpush.apps.top]"
    write(here / "a" / "pyproject.toml", "[tool.other]\n# regpush\n")
    assert list(find(".").apps) == ["top"]  # a project without our table is passed over
    write(here / "a" / "regpush.toml", "[apps.a]\n")
    assert find(".").path == "../regpush.toml"
    write(inner / "pyproject.toml", "[tool.regpush]\n")
    assert find(".").path == "pyproject.toml"
    write(inner / "regpush.toml", "")
    assert find(".").path == "regpush.toml"
    assert find(str(here / "a")).path == f"{here}/a/regpush.toml"


def test_where_the_search_ends(here, monkeypatch):
    write(here / "regpush.toml", "[apps.outer]\n")
    (here / "repository" / ".git").mkdir(parents=True)
    (here / "shared" / "mine").mkdir(parents=True)
    monkeypatch.chdir(here / "repository")
    assert find(".") is None
    write(here / "shared" / "regpush.toml", "[apps.somebody]\n")
    monkeypatch.chdir(here / "shared" / "mine")
    assert list(find(".").apps) == ["somebody"]
    (here / "shared").chmod(0o1777)
    with pytest.raises(UsageError, match="everybody may write to its directory"):
        find(".")
    (here / ".git").rmdir()
    assert find(".") is None  # as /tmp: whoever may write there would decide what we push


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_file_that_may_be_a_strangers_is_not_obeyed(here, mode, capsys, monkeypatch):
    write(here / "app/regpush.toml", "[apps.web]\n")
    monkeypatch.chdir(here / "app")
    stranger = os.geteuid() + 1
    with pytest.raises(UsageError, match=f"user {os.geteuid()} owns it.*--config regpush.toml"):
        find(".", users=(stranger,))
    (here / "app").chmod(mode)
    words = ["--config regpush.toml", f"REGPUSH_SAFE_DIRECTORY={here}/app", "everybody may write"]
    said = refusal(capsys, "plan", "web", "--to", "127.0.0.1:1/x")
    assert all(word in said for word in words), said
    safe = (here, here / "app", "*")
    for one in map(str, safe):
        assert list(find(".", one, users=()).apps) == ["web"]
    with pytest.raises(UsageError):
        find(".", f"{here}/ap")
    (here / "app").chmod(0o775)  # a group may write
    assert list(find(".").apps) == ["web"]
    (here / ".git").rmdir()
    (here / "app").chmod(mode)
    told = []
    assert find(".", told=told) is None
    assert told == [
        "regpush.toml is ignored: everybody may write to its directory; "
        "--config regpush.toml reads it"
    ]


def test_what_lies_above_a_configuration_may_be_no_strangers_either(here, monkeypatch):
    """Whoever may rename a folder puts another of the user's in its place."""
    folder = here / "shared" / "app" / "deep"
    write(folder / "regpush.toml", "[apps.web]\n")
    monkeypatch.chdir(folder)
    (here / "shared").chmod(0o777)
    with pytest.raises(UsageError, match=f"everybody may write to {here}/shared above it"):
        find(".")
    assert list(find(".", str(folder)).apps) == ["web"]
    # In a sticky one, as /tmp is, a folder belongs to its owner: ours, or a stranger.
    (here / "shared").chmod(0o1777)
    assert list(find(".").apps) == ["web"]
    if os.geteuid() == 0:
        os.chown(here / "shared/app", 65534, 65534)
        with pytest.raises(UsageError, match=f"everybody may write to {here}/shared above it"):
            find(".")


def test_a_link_is_judged_as_the_file_it_leads_to_is(here, monkeypatch):
    write(here / "app/.keep", "")
    write(here / "open/regpush.toml", "[apps.web]\n")
    (here / "app/regpush.toml").symlink_to("../open/regpush.toml")
    monkeypatch.chdir(here / "app")
    assert list(find(".").apps) == ["web"]
    (here / "open").chmod(0o777)
    with pytest.raises(UsageError, match="everybody may write to its directory"):
        find(".")
    if os.geteuid() == 0:
        (here / "open").chmod(0o755)
        os.chown(here / "app/regpush.toml", 65534, 65534, follow_symlinks=False)
        with pytest.raises(UsageError, match="user 65534 owns it"):
            find(".")


@pytest.mark.parametrize(
    ("user", "sudo", "users"),
    [
        (1000, None, {0, 1000}),
        (0, None, {0}),
        (0, "1000", {0, 1000}),
        (1001, "1000", {0, 1001}),  # only root was made root by sudo
        (0, "", {0}),
        (0, "-1", {0}),
        (0, "root", {0}),
    ],
)
def test_whose_files_are_trusted(user, sudo, users):
    environ = {} if sudo is None else {"SUDO_UID": sudo}
    assert trust(environ, user).users == users


@pytest.fixture
def there():
    with open_directory() as path:
        yield path


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
def test_another_user_and_root_for_one(there):
    """As they are run: root, root by sudo, and the user himself."""
    nobody, stranger = 65534, 65533
    write(there / "app/regpush.toml", "[apps.web]\nto = 'localhost/web'\n")
    (there / "app/.git").mkdir()
    open_to_all(there / "app")
    run = {"cwd": there / "app"}

    def own(user):
        for path in (there / "app", there / "app/regpush.toml"):
            os.chown(path, user, user)

    own(nobody)
    assert regpush("config", "web", **run).failed(2, "user 65534 owns it", "--config")
    assert "localhost/web" in regpush("config", "web", env={"SUDO_UID": "65534"}, **run).ok().stdout
    assert "localhost/web" in regpush_as_nobody("config", "web", **run).ok().stdout
    own(stranger)
    assert regpush_as_nobody("config", "web", **run).failed(2, "user 65533 owns it")
    own(0)
    assert "localhost/web" in regpush_as_nobody("config", "web", **run).ok().stdout


def test_every_flag_but_those_of_who_we_are_is_a_key():
    fields = {key.field for key in keys().values()}
    everything = set(Flags.__dataclass_fields__)
    assert everything - fields == {"config", "username", "password_stdin", "registry_token"}


def test_every_kind_of_value(here):
    text = """
    [defaults]
    ca-file = "certs/ca.pem"
    digest-file = "/run/digest"
    labels = { team = "web", tier = "1" }
    tags = ["edge"]
    [apps.web]
    target = "dist"
    to = "localhost:5000/web"
    version = "1.2"
    tags = ["a", "b"]
    labels = ["tier=2"]
    annotation = "one=two"
    expose = [8080, "53/udp"]
    user = 1000
    entrypoint = ["node", "my file.js"]
    cmd = "run --port '80 80'"
    max-layers = 7
    stall-timeout = 5
    reuse = "content"
    check = true
    layers = "file=layers.json"
    max-upload = 1000
    created = 2026-11-29T10:00:00+01:00
    [apps.web.env]
    PORT = 8080
    NAME = "x=y"
    """
    (here / "sub").mkdir()
    write(here / "sub" / "regpush.toml", text)
    found = settings(read("sub/regpush.toml"), "web")
    assert {field: setting.value for field, setting in found.items()} == {
        "target": ["sub/dist"],
        "version": "1.2",
        "ca_file": "sub/certs/ca.pem",
        "digest_file": "/run/digest",
        "to": "localhost:5000/web",
        "tag": ["a", "b"],
        "label": ["team=web", "tier=2"],
        "annotation": ["one=two"],
        "expose": ["8080", "53/udp"],
        "user": "1000",
        "entrypoint": ['["node", "my file.js"]'],
        "cmd": ["run --port '80 80'"],
        "max_layers": 7,
        "stall_timeout": 5,
        "reuse": "content",
        "check": True,
        "layers": "file=sub/layers.json",
        "max_upload": "1000",
        "created": "2026-11-29T10:00:00+01:00",
        "env": ["PORT=8080", "NAME=x=y"],
    }
    assert found["tag"].place == "sub/regpush.toml [apps.web]"
    assert found["label"].place == "sub/regpush.toml [defaults], [apps.web]"
    assert found["ca_file"].place == "sub/regpush.toml [defaults]"
    assert settings(read("sub/regpush.toml"), None)["tag"].value == ["edge"]


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        (".", "sub"),
        ("dist", "sub/dist"),
        ("../dist", "dist"),
        ("/srv/app", "/srv/app"),
        ("dir:dist", "dir:sub/dist"),
        ("store:./result", "store:sub/result"),
        ("closure:/x.json", "closure:/x.json"),
        ("nix:.#web", "nix:./sub#web"),
        ("nix:../x#web", "nix:./x#web"),
        ("nix:nixpkgs#hello", "nix:nixpkgs#hello"),
        ("guix:hello", "guix:hello"),
        ("python:.", "python:sub"),
        ("node:web", "node:sub/web"),
        ("tar:root.tar", "tar:sub/root.tar"),
        ("-", "-"),
        ("tar:-", "tar:-"),
    ],
)
def test_targets_are_relative_to_the_file(target, meant):
    configuration = parse("sub/regpush.toml", {"apps": {"web": {"target": target}}})
    assert settings(configuration, "web")["target"].value == [meant]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[apps.x]\ntaget = "."', ["[apps.x]", "'taget'", "did you mean 'target'?"]),
        ("[apps.x]\nmax_layers = 3", ["'max_layers'", "did you mean 'max-layers'?"]),
        ("[apps.x]\nqqqqqq = 3", ["'qqqqqq'", "--help"]),
        ('[defaults]\ntarget = "."', ["[defaults]", "[apps.NAME]"]),
        ('to = "x"', ["'to'", "[defaults]"]),
        ("[app.x]", ["'app'", "did you mean 'apps'?"]),
        ("apps = 3", ["[apps]", "table"]),
        ("[apps]\nx = 3", ["[apps.x]", "table"]),
        ('[apps."a/b"]', ["'a/b'"]),
        ("[apps.x]\n[apps.x]\n", ["regpush.toml:2:8:", "[apps.x] is defined twice"]),
        ("[apps.x]\ncheck = true\ncheck = true", ["regpush.toml:3:13:", "twice"]),
        ("[apps.x]\ntarget\n", ["regpush.toml:2:7:", "'='"]),
        ("\n\nx = [1,\n", ["regpush.toml:3:8:"]),
        ('[apps.x]\nmax-layers = "3"', ["max-layers", '"3"', "whole number"]),
        ("[apps.x]\nmax-layers = true", ["max-layers", "true", "whole number"]),
        ("[apps.x]\njobs = 0", ["jobs", "at least 1"]),
        ("[apps.x]\njobs = 99", ["jobs", "up to 64"]),
        ('[apps.x]\ncheck = "yes"', ["check", "true or false"]),
        ('[apps.x]\nreuse = "contents"', ["recipe, content, none", "mean 'content'?"]),
        ("[apps.x]\nreuse = 1", ["recipe, content, none"]),
        ('[apps.x]\ntags = { a = "b" }', ["tags", "list of strings"]),
        ("[apps.x]\ntags = [[]]", ["tags", "list of strings"]),
        ('[apps.x]\ntag = "a"\ntags = "b"', ["tag and tags"]),
        ("[apps.x]\nenv = { A = true }", ["env", "quotes"]),
        ("[apps.x]\nenv = { A = 1.10 }", ["env", "quotes"]),
        ("[apps.x]\nenv = { A = [] }", ["env", "table of strings"]),
        ("[apps.x]\nworkdir = 1979-05-27", ["workdir", "a string"]),
        ("[apps.x]\ntarget = ['a', 1]", ["target", "a string or a list of strings"]),
        ("[apps.x]\ntarget = '.'\nto = 'localhost:1/x'\nenv = ['A']", ["--env", "[apps.x]"]),
        ("[apps.x]\nto = 'localhost:1/x'", ["[apps.x]", "what to push", "target"]),
        ("[apps.x]\ntarget = '.'", ["[apps.x]", "where to push", "--to"]),
        ("[apps.y]\ntarget = '.'", ["no app 'x'", "apps: y"]),
    ],
    ids=lambda value: None if isinstance(value, list) else value[:40],
)
def test_what_is_wrong_with_it(here, capsys, text, words):
    write(here / "regpush.toml", text)
    line = refusal(capsys, "plan", "x")
    assert "regpush.toml" in line
    for word in words:
        assert word in line, line


@pytest.mark.parametrize("key", ["password", "registry-token", "token", "username", "auth"])
def test_credentials_are_refused(here, capsys, key):
    write(here / "regpush.toml", f"[defaults]\n{key} = 'hunter2'\n")
    line = refusal(capsys, "plan", ".", "--to", "localhost:1/x")
    assert f"{key}: credentials do not belong" in line
    assert "regpush login" in line
    assert "hunter2" not in line


def test_the_table_of_a_project(here, capsys):
    write(here / "pyproject.toml", "[tool.regpush]\nto = 'x'\n")
    assert "[tool.regpush.defaults]" in refusal(capsys, "plan", "x")
    write(here / "pyproject.toml", "[project]\nname = 'regpush-user'\n")
    assert "--to" in refusal(capsys, "plan", "x")
    line = refusal(capsys, "plan", "x", "--to", "h:1/x", "--config", "pyproject.toml")
    assert "no table [tool.regpush]" in line


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"\xff", "not UTF-8"), (b"x = '\0'", "regpush.toml:1:"), (None, "No such file")],
)
def test_files_that_are_none(here, capsys, content, word):
    if content is not None:
        (here / "regpush.toml").write_bytes(content)
    line = refusal(capsys, "plan", ".", "--to", "h:1/x", "--config", "regpush.toml")
    assert "regpush.toml" in line
    assert word in line


def test_bytes_that_editors_add(here):
    (here / "regpush.toml").write_bytes(b"\xef\xbb\xbf[apps.x]\r\ntarget = '.'\r\n")
    assert read("regpush.toml") == Configuration(path="regpush.toml", apps={"x": {"target": "."}})


def test_which_app_is_meant(here, capsys):
    write(here / "regpush.toml", "[apps.web]\n[apps.api]\n")
    assert "web, api" in refusal(capsys, "push")
    assert "no app 'wbe'" in refusal(capsys, "push", "wbe")
    far = refusal(capsys, "push", "wbe", "--to", "localhost:1/x", "--retry-times", "0")
    assert "'web' of regpush.toml" in far
    write(here / "regpush.toml", "")
    assert "no target is given" in refusal(capsys, "push", "--to", "localhost:1/x")


def test_precedence(here, capsys, docker_registry, repository):
    """Command line, then variables, then the app, then the defaults, then what is built in."""
    write(here / "dist" / "main.py")
    defaults = 'workdir = "/file"\nuser = "file"\nstop-signal = "SIGFPE"\ntags = ["file"]'
    app = 'workdir = "/app"\nuser = "app"\ntags = ["app"]'
    variables = {"REGPUSH_WORKDIR": "/env", "REGPUSH_TAG": "env1\nenv2", "REGPUSH_CACHE": "x"}
    to = f"{docker_registry.host}/{repository}"
    write(
        here / "regpush.toml",
        f"[defaults]\n{defaults}\nenv = {{ A = 'file', B = 'file', C = 'file', D = 'file' }}\n"
        f"[apps.x]\n{app}\ntarget = 'dist'\nto = '{to}'\nenv = {{ B = 'app', C = 'app' }}\n",
    )

    def config(*arguments, **environ):
        out = here / "report"
        done = regpush(*arguments, "--metadata-file", out, "--no-cache", cwd=here, env=environ).ok()
        report = json.loads(out.read_text())
        seen = regpush("inspect", done.stdout.strip(), "--format", "json", cwd=here).ok().report
        return seen["config"], report["destinations"][0]["tags"]

    plain, tags = config("x")
    assert plain["WorkingDir"] == "/app"
    assert plain["User"] == "app"
    assert plain["StopSignal"] == "SIGFPE"
    assert set(plain["Env"]) == {"A=file", "B=app", "C=app", "D=file"}
    assert tags == ["app"]
    by_variables, tags = config("push", "x", REGPUSH_ENV="C=env\nD=env", **variables)
    assert by_variables["WorkingDir"] == "/env"
    assert by_variables["User"] == "app"
    assert set(by_variables["Env"]) == {"A=file", "B=app", "C=env", "D=env"}
    assert tags == ["env1", "env2"]
    by_flags, tags = config(
        "x", "-w", "/flag", "-t", "flag", "-e", "D=flag", REGPUSH_ENV="C=env\nD=env", **variables
    )
    assert by_flags["WorkingDir"] == "/flag"
    assert set(by_flags["Env"]) == {"A=file", "B=app", "C=env", "D=flag"}
    assert tags == ["flag"]
    neither, tags = config("dir:dist", "--to", f"{to}-2", "--config", os.devnull)
    assert neither == {"WorkingDir": "/app"}
    assert tags == ["latest"]


def test_an_app_is_pushed_planned_and_explained(app, here, docker_registry, repository):
    to = f"{docker_registry.host}/{repository}"
    write(
        here / "regpush.toml",
        f"[apps.web]\ntarget = 'myapp'\nto = '{to}'\ntags = ['v1', 'stable']\n"
        "root-dir = '/srv'\nlayers = 'app-deps'\nplatforms = ['linux/amd64']\n",
    )
    below = here / "myapp" / "static"
    planned = regpush("plan", "web", "--format", "json", cwd=below).ok()
    assert "note: web: ../../regpush.toml [apps.web]" in planned.stderr
    assert len(planned.actions) == 2
    assert not has_tag(docker_registry, repository, "v1")
    # With a single app there is nothing to choose.
    pushed = regpush("push", cwd=below).ok()
    assert pushed.stdout.startswith(f"{to}@sha256:")
    assert has_tag(docker_registry, repository, "v1")
    assert has_tag(docker_registry, repository, "stable")
    assert not has_tag(docker_registry, repository, "latest")
    write(here / "myapp" / "main.py", "print('changed')\n")
    # It was pushed with the app's flags, and is made again with them.
    assert regpush("verify", f"{to}:v1", "web", cwd=below).code == 8
    regpush("push", "web", cwd=below).ok()
    regpush("verify", f"{to}:v1", "web", cwd=below).ok()
    (here / "web").mkdir()  # the app is meant, not a directory that is called like it
    assert regpush("plan", "web", "--format", "json", cwd=here).ok().report["changed"] is False


def test_access_flags_of_the_file_are_for_other_commands_too(
    here, docker_registry_tls, repository, app
):
    registry = docker_registry_tls
    (here / "conf").mkdir()
    write(here / "conf" / "ca.pem", registry.ca_file.read_bytes())
    write(here / "conf" / "regpush.toml", "[defaults]\nca-file = 'ca.pem'\n")
    to = f"{registry.host}/{repository}"
    said = {"REGPUSH_CONFIG": "conf/regpush.toml"}
    regpush(app, "--to", to, env=said, cwd=here).ok()
    regpush("inspect", to, env=said, cwd=here).ok()
    regpush("inspect", to, "--retry-times", "0", cwd=here).failed(2, "--retry-times")
    regpush("inspect", to, cwd=here).failed(4, "--ca-file")


def test_commands_without_targets_have_errors_of_their_own(here, capsys):
    """What is said of apps does not reach them, nor does it explain what they refuse."""
    write(here / "regpush.toml", "[defaults]\ntags = ['a']\nenv = ['no value']\n")
    line = refusal(capsys, "copy", "localhost:1/Bad", "localhost:1/x")
    assert line.endswith("lower case: bad")
    write(here / "regpush.toml", "[defaults]\nenvs = 1\n")
    assert "did you mean 'env'?" in refusal(capsys, "inspect", "localhost:1/x")


def test_apps_may_not_hide_what_a_command_needs(here, capsys):
    """A word with a prefix is never an app, and the help never needs a file that is right."""
    write(here / "regpush.toml", "[apps.x]\nqqq = 1\n")
    assert run(["push", "--help"], {}) == 0
    assert "--to" in capsys.readouterr().out
    assert run(["--version"], {}) == 0
    with pytest.raises(UsageError):
        parse("regpush.toml", {"apps": {"dir:x": {}}})
