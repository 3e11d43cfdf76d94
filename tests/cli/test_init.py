"""`regpush init` and `regpush config`: a first file, and where every value comes from."""

import json
import subprocess

import pytest

from regpush.cli.app import run
from regpush.cli.keys import settings
from regpush.project.configuration import loads, read
from regpush.project.init import starter
from regpush.project.survey import look
from tests.flow.test_push_directory import has_tag, write
from tests.program import environment, regpush
from tests.project.test_configuration import here, refusal

__all__ = ["here"]


def said(capsys, *arguments, environ=None) -> str:
    assert run(arguments, environ or {}) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "key", "value"),
    [
        ({}, "target", ["."]),
        ({"flake.nix": "{}"}, "target", ["nix:.#default"]),
        ({"default.nix": "{}"}, "target", ["nix:./default.nix"]),
        ({"manifest.scm": "", "package.json": "{}"}, "manifest", ["manifest.scm"]),
        ({"guix.scm": ""}, "file", ["guix.scm"]),
        ({"go.mod": "module example.com/x/tool\n", "bin/tool": "x"}, "target", ["bin/tool"]),
        ({"Cargo.toml": '[package]\nname = "tool"\n'}, "target", ["target/release/tool"]),
        ({"package.json": '{"name": "@x/tool", "main": "a.js"}'}, "target", ["."]),
        ({"pyproject.toml": '[project]\nname = "Tool_x"\n', ".regpushignore": ""}, "target", ["."]),
    ],
)
def test_what_is_written_is_what_is_read(here, capsys, files, key, value):
    for name, text in files.items():
        write(here / name, text)
    assert said(capsys, "init") == ""
    (name,) = read("regpush.toml").apps
    found = settings(read("regpush.toml"), name)
    assert found[key].value == value
    assert found["to"].value == f"registry.example.com/{name}"
    assert run(["config"], {}) == 0


def test_words_that_start_the_app(here):
    write(here / "package.json", '{"scripts": {"start": "node server.js --port 80"}}')
    assert look(".").start == ("node", "server.js", "--port", "80")
    write(here / "package.json", '{"scripts": {"start": "npm run x && node y"}, "main": "i.js"}')
    assert look(".").start == ("node", "i.js")
    write(here / "package.json", '{"scripts": {"start": "vite"}}')
    assert look(".").start == ()


@pytest.mark.parametrize(
    ("remote", "to"),
    [
        ("https://github.com/Acme/My.App.git", "ghcr.io/acme/my.app"),
        ("git@github.com:acme/app.git", "ghcr.io/acme/app"),
        ("ssh://git@github.com:22/acme/app", "ghcr.io/acme/app"),
        ("https://me:hunter2@gitlab.com/group/sub/app.git", "registry.gitlab.com/group/sub/app"),
        ("https://codeberg.org/me/app/", "codeberg.org/me/app"),
        ("https://git.example.com/me/app.git", "registry.example.com/app"),
        ("/srv/git/app.git", None),
        ("../elsewhere", None),
    ],
)
def test_the_place_is_guessed_by_the_remote(tmp_path, remote, to):
    root = tmp_path / "dir"
    root.mkdir()
    for words in (["init", "-q"], ["remote", "add", "origin", remote]):
        subprocess.run(["git", "-C", root, *words], check=True, env=environment())
    text = starter(look(str(root)))
    assert "hunter2" not in text
    found = settings(loads("regpush.toml", text), look(str(root)).name)
    assert found["to"].value == (to or "registry.example.com/dir")
    assert ("label" in found) == (to is not None)


def test_nothing_is_overwritten(here, capsys):
    write(here / "regpush.toml", "precious")
    assert "--force" in refusal(capsys, "init")
    assert (here / "regpush.toml").read_text() == "precious"
    said(capsys, "init", "--force")
    assert "[apps." in (here / "regpush.toml").read_text()
    (here / "regpush.toml").unlink()
    write(here / "pyproject.toml", "[tool.regpush]\n")
    assert "[tool.regpush]" in refusal(capsys, "init")
    write(here / "pyproject.toml", "broken")
    assert "pyproject.toml" in refusal(capsys, "init")


def test_from_init_to_the_registry(here, docker_registry, repository):
    write(here / "package.json", '{"name": "shop", "version": "1.4.0"}')
    made = regpush("init", cwd=here).ok()
    assert "version 1.4.0 (package.json)" in made.stderr
    text = (here / "regpush.toml").read_text()
    text = text.replace("registry.example.com/shop", f"{docker_registry.host}/{repository}")
    assert 'from = "docker.io/library/node:22-slim"\n' in text
    # The base is in a registry of others, which tests do not ask.
    text = "".join(line for line in text.splitlines(True) if not line.startswith("from = "))
    (here / "regpush.toml").write_text(text.replace('["latest"]', '["{version}"]'))
    regpush("push", cwd=here).ok()
    assert has_tag(docker_registry, repository, "1.4.0")


def test_where_values_come_from(here, capsys, monkeypatch):
    write(
        here / "regpush.toml",
        "[defaults]\njobs = 2\nlabels = { team = 'x', API_TOKEN = 'hunter2' }\n"
        "[apps.web]\ntarget = 'dist'\nto = 'localhost:1/web'\nlabels = { tier = '1' }\n"
        "[apps.api]\n",
    )
    for name, value in {
        "REGPUSH_MAX_LAYERS": "5",
        "REGPUSH_REGISTRY_TOKEN": "hunter3",
        "REGPUSH_LABEL": "tier=2\nb=c",
    }.items():
        monkeypatch.setenv(name, value)
    text = said(capsys, "config", "web", "--format", "json")
    assert "hunter" not in text
    report = json.loads(text)
    assert report["apps"] == ["web", "api"]
    assert report["file"] == "regpush.toml"
    values = {name: (one["value"], one["from"]) for name, one in report["values"].items()}
    assert values["target"] == (["dist"], "regpush.toml [apps.web]")
    assert values["to"] == ("localhost:1/web", "regpush.toml [apps.web]")
    assert values["jobs"] == (2, "regpush.toml [defaults]")
    assert values["max-layers"] == ("5", "REGPUSH_MAX_LAYERS")
    assert values["layers"] == ("stable", "default")
    assert values["registry-token"] == ("(hidden)", "REGPUSH_REGISTRY_TOKEN")
    assert values["label"] == (
        ["team=x", "API_TOKEN=(hidden)", "tier=2", "b=c"],
        "regpush.toml [defaults], [apps.web], REGPUSH_LABEL",
    )
    lines = said(capsys, "config", "web").splitlines()
    assert lines[0].split() == ["target", '["dist"]', "regpush.toml", "[apps.web]"]
    assert lines[-1].endswith("default")
    for_none = json.loads(said(capsys, "config", "--format", "json"))
    assert for_none["app"] is None
    assert for_none["values"]["to"] == {"value": None, "from": "default"}
    assert "no app 'wbe'" in refusal(capsys, "config", "wbe")
    (here / "regpush.toml").unlink()
    assert "regpush init" in refusal(capsys, "config", "web")


def test_a_dockerignore_becomes_a_regpushignore(here, docker_registry, repository):
    write(here / "index.html", "hello")
    write(here / "node_modules/left-pad/index.js", "x")
    write(here / "notes/draft.md", "x")
    write(here / "sub/draft.md", "x")
    write(here / ".dockerignore", "# mine\nnode_modules\nDockerfile\n*.md\nnotes\n!notes/keep.md\n")
    made = regpush("init", cwd=here).ok()
    assert "node_modules of .dockerignore was not converted" in made.stderr
    text = (here / ".regpushignore").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == ["/*.md", "/notes", "!/notes/keep.md"]
    regpush("init", "--force", cwd=here).ok()
    assert (here / ".regpushignore").read_text() == text
