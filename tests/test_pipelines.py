"""The workflows, and the pipelines that the documents show: valid, pinned, and run if possible."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import blocks
from tests.flow.test_push_directory import app
from tests.patience import HANG_S
from tests.program import ROOT, environment, program_on_path, regpush
from tests.programs import builds
from tests.registry.parts import real_part
from tests.runner import ACTION, Runner

__all__ = ["app"]

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
_MATRIX = ("amd64", "arm64")
_USES = re.compile(r"uses: (\S+)(?: # (\S.*))?$", re.MULTILINE)


def check(schema: str, *files: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def steps(text: str) -> Iterator[Mapping[str, Any]]:
    for job in yaml.safe_load(text)["jobs"].values():
        yield from job["steps"]


def test_the_action_is_one():
    check("vendor.github-actions", ROOT / "action.yml")


def test_workflows_are_some():
    check("vendor.github-workflows", *WORKFLOWS)
    check("custom.github-workflows-require-timeout", *WORKFLOWS)
    check("vendor.dependabot", ROOT / ".github" / "dependabot.yml")


@pytest.mark.parametrize(
    ("marker", "schema"),
    [("github-workflow", "vendor.github-workflows"), ("gitlab-ci", "vendor.gitlab-ci")],
)
def test_pipelines_of_the_readme_are_some(tmp_path, marker, schema):
    files = []
    for number, text in enumerate(blocks(marker)):
        files.append(tmp_path / f"{number}.yml")
        files[-1].write_text(text)
    check(schema, *files)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_our_workflows_use_is_pinned(path):
    """A tag can be moved, by whoever takes an account over; a commit cannot."""
    for used, comment in _USES.findall(path.read_text()):
        if used != "./":
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", used), used
            assert re.fullmatch(r"v\d+\.\d+\.\d+", comment), used


def test_values_reach_scripts_by_the_environment():
    for text in (*map(Path.read_text, WORKFLOWS), *blocks("github-workflow")):
        for step in steps(text):
            assert "${{" not in step.get("run", ""), step


def test_examples_use_inputs_and_outputs_that_exist():
    for text in blocks("github-workflow"):
        ours = {}
        for step in steps(text):
            if "/regpush@" in step.get("uses", ""):
                ours[step["id"]] = step
                assert set(step["with"]) <= set(ACTION["inputs"]), step
        for name, output in re.findall(r"steps\.([\w-]+)\.outputs\.([\w-]+)", text):
            assert name in ours
            assert output in ACTION["outputs"]


def test_who_has_regpush_is_said_once(tmp_path):
    """Nothing that is copied names an account but by OWNER, which one command fills in."""
    workflows = tmp_path / ".github" / "workflows"
    workflows.mkdir(parents=True)
    for number, text in enumerate(blocks("github-workflow")):
        (workflows / f"{number}.yml").write_text(text)
    (script,) = blocks("owner-substitution")
    (tmp_path / "gh").write_text("#!/bin/sh\n")
    (tmp_path / "gh").chmod(0o755)
    env = environment(OWNER="an-account", REGPUSH="a-wheel")
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=env, check=True)
    for workflow in workflows.iterdir():
        text = workflow.read_text()
        assert "OWNER" not in text.replace("$GITHUB", "")
        assert "uses: an-account/regpush@v" in text


def test_the_matrix_pushes_and_its_images_are_joined(tmp_path, docker_registry, repository):
    """The steps of both jobs but those of others; `pipx run` is ours."""
    (jobs,) = (jobs for text in blocks("github-workflow")
               if "build" in (jobs := yaml.safe_load(text)["jobs"]))  # fmt: skip
    push, note = jobs["build"]["steps"][2:4]
    assert [one["arch"] for one in jobs["build"]["strategy"]["matrix"]["include"]] == [*_MATRIX]
    joined = tmp_path / "joined"
    joined.mkdir()
    for arch in _MATRIX:
        workspace = tmp_path / arch / "workspace"
        builds(workspace, arch)
        runner = Runner(tmp_path / arch / "runner", workspace)
        runner.install_this_python()
        inputs = {name: value.replace("${{ matrix.arch }}", arch)
                  for name, value in push["with"].items()}  # fmt: skip
        inputs |= {"target": arch, "to": f"{docker_registry.host}/{repository}"}
        ref = runner.run("Push", inputs).ok().outputs["ref"]
        script = ["bash", "-e", "-c", note["run"]]
        subprocess.run(script, cwd=joined, env={"ARCH": arch, "REF": ref}, check=True)
    env = environment(
        HOME=str(tmp_path), GITHUB_REPOSITORY=repository.title(), GITHUB_REF_NAME="V1"
    )
    env["PATH"] = program_on_path(tmp_path / "bin", env["PATH"])
    script = jobs["image"]["steps"][-1]["run"].replace('pipx run --spec "$REGPUSH" ', "")
    script = script.replace("ghcr.io", docker_registry.host)
    subprocess.run(["bash", "-e", "-c", script], cwd=joined, env=env, check=True)
    raw = subprocess.run(
        [real_part("skopeo"), "inspect", "--raw", "--tls-verify=false",
         f"docker://{docker_registry.host}/{repository}:V1"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    platforms = [one["platform"]["architecture"] for one in json.loads(raw)["manifests"]]
    assert platforms == [*_MATRIX]


def test_the_gitlab_pipeline_runs(tmp_path, app, docker_registry_htpasswd, repository):
    """Its script as GitLab's runner runs it; installing excepted."""
    registry = docker_registry_htpasswd
    (text,) = blocks("gitlab-ci")
    job = yaml.safe_load(text)["push-image"]
    script = [line for line in job["script"] if not line.startswith("pip install")]
    known = {
        "CI_REGISTRY": registry.host,
        "CI_REGISTRY_IMAGE": f"{registry.host}/{repository}",
        "CI_REGISTRY_USER": registry.username,
        "CI_REGISTRY_PASSWORD": registry.password,
        "CI_COMMIT_SHORT_SHA": "0a1b2c3d",
        "CI_COMMIT_REF_SLUG": "main",
        "CI_PROJECT_DIR": str(app),
    }

    def value(text: str) -> str:
        return re.sub(r"\$(\w+)", lambda found: known[found[1]], text)

    said = {name: value(text) for name, text in job["variables"].items()}
    env = environment(HOME=str(tmp_path), **known, **said)
    env["PATH"] = program_on_path(tmp_path / "bin", env["PATH"])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=app, env=env, capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert registry.password not in done.stderr
    name, _, ref = (app / job["artifacts"]["reports"]["dotenv"]).read_text().partition("=")
    assert name == "IMAGE"
    assert ref.strip().startswith(f"{registry.host}/{repository}@sha256:")


def test_the_recipe_for_any_pipeline_runs(tmp_path, app, docker_registry_htpasswd, repository):
    """With Git and a stand-in for kubectl; installing excepted."""
    registry = docker_registry_htpasswd
    (text,) = blocks("any-pipeline")
    script = re.sub("^python3 -m venv .*$", "", text, flags=re.MULTILINE)
    script = script.replace(".regpush/bin/regpush", "regpush").replace("./dist", app.name)
    script = script.replace("registry.example.com/app", f"{registry.host}/{repository}")
    script = script.replace("registry.example.com", registry.host)
    env = environment(HOME=str(tmp_path), NAME=registry.username, PASSWORD=registry.password)
    env["PATH"] = program_on_path(tmp_path / "bin", env["PATH"])
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.write_text('#!/bin/sh\necho "$@"\n')
    kubectl.chmod(0o755)
    commit = "git init -q && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m a"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{commit}\n{script}\ngit rev-parse --short HEAD"],
        cwd=app.parent, env=env, capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    deployed, commit = done.stdout.splitlines()
    assert f"app={registry.host}/{repository}@sha256:" in deployed
    for tag in (commit, "main"):
        login = ("--username", registry.username, "--password-stdin")
        image = f"{registry.host}/{repository}:{tag}"
        regpush("inspect", image, *login, stdin=registry.password).ok()
