"""The action's own scripts, run as GitHub's runner runs them, against real registries."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from regpush.cli.action.inputs import arguments
from regpush.cli.action.results import outputs
from regpush.report import Tense
from tests.flow.test_interruption import hold
from tests.flow.test_push_directory import app, below, has_tag, write
from tests.images import unpack
from tests.patience import HANG_S
from tests.program import regpush
from tests.programs import builds
from tests.registry.faults import FOREVER, Rule, fault_server
from tests.registry.parts import real_part
from tests.runner import ACTION, STEPS, Runner

__all__ = ["app"]

SECRET = "p%ss: with spaces, and a per cent sign"


@pytest.fixture
def runner(tmp_path: Path, app: Path) -> Runner:
    """A runner whose workspace holds `myapp`."""
    made = Runner(tmp_path / "runner", app.parent)
    made.install_this_python()
    return made


def to_of(registry, repository):
    return f"{registry.host}/{repository}"


def test_no_expression_stands_in_a_script():
    """The runner pastes values into scripts as they are: only the environment is safe."""
    for step in STEPS.values():
        assert "${{" not in step["run"]


def test_every_input_is_handed_over():
    handed = STEPS["Push"]["env"]
    assert handed == {
        f"INPUT_{name.upper().replace('-', '_')}": f"${{{{ inputs.{name} }}}}"
        for name in ACTION["inputs"]
    }


def test_every_output_comes_from_the_step(runner, docker_registry, repository):
    found = runner.push(target="myapp", to=to_of(docker_registry, repository)).ok().outputs
    assert set(found) == set(ACTION["outputs"])
    for name, output in ACTION["outputs"].items():
        assert output["value"] == f"${{{{ steps.{STEPS['Push']['id']}.outputs.{name} }}}}"


def test_a_push_and_an_unchanged_one(runner, docker_registry, repository, app, tmp_path):
    to = to_of(docker_registry, repository)
    first = runner.push(target="./myapp", to=to, tags="v1, v2\nlatest\n").ok()
    skopeo = real_part("skopeo")
    inspect = [skopeo, "inspect", "--tls-verify=false", "--format", "{{.Digest}}"]
    for tag in ("v1", "v2", "latest"):
        seen = subprocess.check_output([*inspect, f"docker://{to}:{tag}"], text=True).strip()
        assert seen == first.outputs["digest"]
    assert first.outputs["image"] == to
    assert first.outputs["ref"] == f"{to}@{first.outputs['digest']}"
    assert first.outputs["tags"] == "v1\nv2\nlatest"
    assert first.outputs["changed"] == "true"
    assert first.outputs["reused-layers"] == "0"
    report = json.loads(first.outputs["metadata"])
    assert int(first.outputs["uploaded-bytes"]) == report["bytes"]["uploaded"] > 700_000
    assert first.outputs["ref"] in first.shown()
    assert below(unpack(to, tmp_path / "unpacked") / "app") == below(app)

    layers = report["images"][0]["layers"]
    again = runner.push(target="./myapp", to=to, tags="v1").ok()
    assert again.outputs["changed"] == "false"
    assert again.outputs["digest"] == first.outputs["digest"]
    assert again.outputs["reused-layers"] == str(len(layers))
    assert again.outputs["uploaded-bytes"] == "0"


def test_the_summary_has_a_row_for_each_layer(runner, docker_registry, repository, app):
    to = to_of(docker_registry, repository)
    runner.push(target="myapp", to=to).ok()
    write(app / "main.py", "print('<b>hello</b>')\n")
    write(app / "node_modules" / "<img src=x>|`x`" / "index.js", "x")
    step = runner.push(target="myapp", to=to).ok()
    layers = json.loads(step.outputs["metadata"])["images"][0]["layers"]
    rows = [line for line in step.summary.splitlines() if line.startswith("<tr><td>")]
    assert [row.count("<td>") for row in rows] == [5] * len(layers)
    for row, layer in zip(rows, layers, strict=True):
        assert f"<td>{layer['action']}</td>" in row
    assert "<td>reused</td>" in step.summary
    assert "saved 7" in step.summary  # 700 kB of random bytes are not compressed
    assert "<img" not in step.summary
    assert "&lt;img src=x&gt;" in step.summary
    assert "\n\n" not in step.summary.rstrip("\n")  # a blank line would end the HTML


def test_several_platforms_and_a_tag_that_stays(runner, docker_registry, repository, tmp_path):
    target, to = builds(tmp_path / "dist", "amd64", "arm64"), to_of(docker_registry, repository)
    given = {"target": target, "to": to, "platforms": "linux/amd64, linux/arm64"}
    step = runner.push(**given).ok()
    report = json.loads(step.outputs["metadata"])
    assert [image["platform"] for image in report["images"]] == ["linux/amd64", "linux/arm64"]
    assert step.summary.count("<table>") == 2
    assert "<caption>linux/arm64</caption>" in step.summary
    layers = [layer for image in report["images"] for layer in image["layers"]]
    assert step.summary.count("<tr><td>") == len(layers)
    again = runner.push(**given).ok()
    assert again.outputs["reused-layers"] == str(len(layers))
    stays = runner.push(**given, extra_args="--if-exists skip").ok()
    assert stays.outputs["digest"] == step.outputs["digest"]
    assert stays.outputs["changed"] == "false"
    assert re.search(r"Unchanged\. Sent 0 B; [0-9]+ requests, [0-9.]+ s\.", stays.summary)


def test_mounted_layers_were_not_sent() -> None:
    layers = [{"action": action} for action in ("uploaded", "reused", "mounted", "mounted")]
    report = {
        "digest": None, "ref": None, "changed": True, "bytes": {"uploaded": 1},
        "destinations": [{"image": "r/app", "tags": []}], "images": [{"layers": layers}],
    }  # fmt: skip
    assert outputs(report, Tense.DONE)["reused-layers"] == "3"


def test_a_plan_sends_nothing(runner, docker_registry, repository):
    to = to_of(docker_registry, repository)
    step = runner.push(target="myapp", to=f"{to}:v1", push="false").ok()
    assert not has_tag(docker_registry, repository, "v1")
    assert step.outputs["digest"] == step.outputs["ref"] == ""
    assert step.outputs["image"] == to
    assert int(step.outputs["uploaded-bytes"]) > 700_000
    assert "Would send about" in step.summary
    assert "<td>upload</td>" in step.summary


def test_names_are_lowered_and_tags_are_not(runner, docker_registry, repository):
    to = to_of(docker_registry, f"{repository}/My-Org/App")
    step = runner.push(
        target="myapp",
        to=f"{to}:V1",
        # As docker/metadata-action gives them.
        tags=f"{to.lower()}:Branch-A\n{to}:Branch-B,plain",
        reuse_from=f"{to}:V0\n{to}",
    ).ok()
    assert step.outputs["image"] == to.lower()
    assert step.outputs["tags"].split() == ["V1", "Branch-A", "Branch-B", "plain"]


def test_lists_and_extra_arguments_arrive_as_they_were_written(runner, docker_registry, repository):
    to = to_of(docker_registry, repository)
    labels = ["org.example.a=one two", "org.example.b=--to=x", 'org.example.c="$(id)" `id` \\ ;']
    step = runner.push(
        target="myapp",
        to=to,
        labels="\n".join(["", *labels, ""]),
        annotations="org.example.d=${{ secrets.X }}\n",
        layers="single",
        max_layers="3",
        max_upload="5MB",
        extra_args="""-e "GREETING=hello world" --entrypoint 'bin/app --name "a b"'\n-e X=1""",
    ).ok()
    config = json.loads(regpush("inspect", to, "--format", "json").ok().stdout)["config"]
    assert config["Labels"] == dict(label.split("=", 1) for label in labels)
    assert config["Env"][-2:] == ["GREETING=hello world", "X=1"]
    assert config["Entrypoint"] == ["/app/bin/app", "--name", "a b"]
    assert len(json.loads(step.outputs["metadata"])["images"][0]["layers"]) == 1


def test_several_targets_are_several_words():
    given = {"target": "nix:.#app\n  nix:nixpkgs#cacert \n\n", "to": "localhost/app"}
    assert arguments(given)[-3:] == ["--", "nix:.#app", "nix:nixpkgs#cacert"]


HOSTILE = """--help" ; touch pwned; ' ; touch pwned; $(touch pwned) `touch pwned`
::set-output name=digest::sha256:0
"""


@pytest.mark.parametrize("name", sorted(set(ACTION["inputs"]) - {"extra-args", "github-token"}))
def test_no_input_is_more_than_a_word(runner, docker_registry, repository, name):
    given = {"target": "myapp", "to": to_of(docker_registry, repository), "max-upload": "1"}
    step = runner.run("Push", given | {name: HOSTILE})
    assert step.code != 0
    assert not (runner.workspace / "pwned").exists()
    assert not step.commands("set-output")
    assert "Usage:" not in step.log
    assert step.outputs == {}


def test_extra_arguments_are_words_without_a_shell(runner, docker_registry, repository):
    to = to_of(docker_registry, repository)
    args = "-l a=$(touch${IFS}pwned) -l b=`id` -l c=$HOME ; touch pwned"
    step = runner.push(target="myapp", to=to, extra_args=args)
    assert step.code == 2
    assert not (runner.workspace / "pwned").exists()
    step = runner.push(target="myapp", to=to, extra_args="-l 'a=open")
    assert step.code == 2
    (error,) = step.messages("error")
    assert error == "the input extra-args cannot be split into words: No closing quotation"


def test_a_target_with_spaces_and_a_name_like_a_command(runner, docker_registry, repository, app):
    for name in ("my app", "serve", "::error::my app", "-x"):
        app = app.rename(app.parent / name)
        step = runner.push(target=name, to=to_of(docker_registry, repository)).ok()
        assert step.outputs["digest"]
        assert not step.commands("error")


def test_names_of_files_give_the_runner_no_orders(runner, docker_registry, repository, app):
    """`##[…]` is obeyed wherever it stands in a line, and set-output still is."""
    write(app / "node_modules" / "##[set-output name=digest]x" / "index.js", os.urandom(300_000))
    step = runner.push(target="myapp", to=to_of(docker_registry, repository)).ok()
    quiet = step.log[step.log.index("::stop-commands::") :]
    mark = quiet.splitlines()[0].removeprefix("::stop-commands::")
    assert f"::{mark}::" in quiet
    assert "##\\x5bset-output name=digest]x" in quiet
    assert "##[" not in step.log


def test_the_log_is_folded(runner, docker_registry, repository):
    to = to_of(docker_registry, repository)
    step = runner.push(target="myapp", to=to, extra_args="--entrypoint ''").ok()
    (group,), (_,) = step.commands("group"), step.commands("endgroup")
    assert group.message.startswith(f"regpush push myapp --to {to}")
    lines = step.log.splitlines()
    assert lines[-3] == "::endgroup::"
    assert lines[-2].startswith("Sent ")
    assert lines[-1] == step.outputs["ref"]


def test_a_password_is_used_and_never_shown(runner, docker_registry_htpasswd, repository):
    registry = docker_registry_htpasswd
    to = to_of(registry, repository)
    step = runner.push(
        target="myapp", to=to, username=registry.username, password=registry.password
    ).ok()
    assert step.messages("add-mask") == [registry.password]
    assert registry.password not in step.shown()
    wrong = runner.push(target="myapp", to=to, username=registry.username, password=SECRET)
    assert wrong.code == 3
    assert wrong.messages("add-mask") == [SECRET]
    assert SECRET not in wrong.shown()
    (error,) = wrong.commands("error")
    assert to in error.message
    assert error.properties == "title=regpush%2C exit 3"


def test_an_earlier_login_is_honoured(runner, docker_registry_htpasswd, repository):
    """docker/login-action leaves Docker's file; the workflow's token is no match for it."""
    registry = docker_registry_htpasswd
    login = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    write(
        runner.home / ".docker" / "config.json",
        json.dumps({"auths": {registry.host: {"auth": login}}}),
    )
    runner.push(target="myapp", to=to_of(registry, repository), github_token="ghs_other").ok()


def test_helpers_see_the_token_and_no_password(
    runner, docker_registry_htpasswd, repository, tmp_path
):
    """What regpush starts runs in the environment of the step, without the inputs."""
    registry = docker_registry_htpasswd
    answer = json.dumps({"Username": registry.username, "Secret": registry.password})
    helper = write(
        tmp_path / "bin" / "docker-credential-spy",
        f"#!/bin/sh\nenv >'{tmp_path}/seen'\necho '{answer}'\n",
    )
    helper.chmod(0o755)
    write(runner.home / ".docker" / "config.json", json.dumps({"credsStore": "spy"}))
    token = "ghs_of_the_workflow"
    given = {"target": "myapp", "to": to_of(registry, repository), "github-token": token}
    path = f"{helper.parent}{os.pathsep}{os.environ['PATH']}"
    step = runner.run("Push", given, PATH=path).ok()
    seen = (tmp_path / "seen").read_text().splitlines()
    assert f"GITHUB_TOKEN={token}" in seen
    assert not [line for line in seen if line.startswith("INPUT_")]
    assert token not in step.shown()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"push": "maybe"}, "the input push is 'maybe': write true or false"),
        ({"username": "me"}, "the inputs username and password must be given together"),
        ({"password": "x"}, "the inputs username and password must be given together"),
        ({"extra-args": "--help"}, "extra-args"),
        ({"extra-args": "-- more"}, "more"),
        ({"layers": "stabel"}, "stable"),
        ({"target": "nowhere"}, "nowhere"),
        ({"to": ""}, "--to"),
    ],
)
def test_wrong_inputs(runner, docker_registry, repository, inputs, message):
    given = {"target": "myapp", "to": to_of(docker_registry, repository), **inputs}
    step = runner.run("Push", given)
    assert step.code == 2
    (error,) = step.messages("error")
    assert message in error
    assert "Traceback" not in step.log
    assert step.outputs == {}


def test_warnings_are_annotations(runner, docker_registry_tls, repository):
    step = runner.push(
        target="myapp",
        to=to_of(docker_registry_tls, repository),
        extra_args="--insecure-skip-tls-verify --entrypoint ''",
    ).ok()
    (warning,) = step.messages("warning")
    assert "certificate" in warning


def test_a_budget_stops_the_job_but_a_plan_still_reports(runner, docker_registry, repository):
    given = {"target": "myapp", "to": to_of(docker_registry, repository), "max_upload": "1kB"}
    pushed, planned = runner.push(**given), runner.push(**given, push="false")
    assert pushed.code == planned.code == 7
    assert "--max-upload" in pushed.messages("error")[0]
    assert pushed.outputs == {}
    assert int(planned.outputs["uploaded-bytes"]) > 1000
    assert "<td>upload</td>" in planned.summary


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_cancelled_job(runner, docker_registry, repository, number, code):
    """The runner tells the shell of the step alone."""
    released, reached = threading.Event(), threading.Event()
    rule = Rule(hold(released, reached), "GET", "tag", times=FOREVER)
    with fault_server(docker_registry.host, rule) as server:
        given = {"target": "myapp", "to": f"{server.host}/{repository}:v1"}
        process, files = runner.start("Push", given)
        assert reached.wait(HANG_S)
        process.send_signal(number)
        step = runner.end(process, files)
        released.set()
    assert step.code == code
    assert "cancelled" in step.messages("error")[0]
    assert not has_tag(docker_registry, repository, "v1")


def test_modules_of_the_workspace_are_not_ours(runner, docker_registry, repository, app):
    for name in ("regpush", "json", "tenacity"):
        write(app.parent / name / "__init__.py", "raise SystemExit('not ours')\n")
    runner.push(target="myapp", to=to_of(docker_registry, repository)).ok()


def test_without_a_python_the_job_says_what_to_do(tmp_path):
    runner = Runner(tmp_path / "runner", tmp_path)
    old = write(tmp_path / "bin" / "python3", "#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    (old.parent / "bash").symlink_to("/bin/bash")
    step = runner.run("Install regpush", {}, PATH=str(old.parent))
    assert step.code == 1
    (error,) = step.messages("error")
    assert "setup-python" in error


@pytest.mark.soak
def test_installing_from_the_locked_requirements(tmp_path, app, docker_registry, repository):
    """With packages from an index, and nothing of the Python of the tests."""
    runner = Runner(tmp_path / "runner", app.parent)
    runner.run("Install regpush", {}).ok()
    runner.run("Install regpush", {}).ok()  # a job may use the action twice
    given = {"target": "myapp", "to": to_of(docker_registry, repository), "sbom": "spdx"}
    assert "regpush[sbom]" in runner.run("Push", given).messages("error")[0]
    runner.run("Install regpush", given).ok()
    runner.run("Push", given).ok()
