"""Placeholders: pure rendering, and what git, the CI and the app's own files say."""

import contextlib
import datetime
import re
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regpush.cli.placeholders import facts
from regpush.errors import UsageError
from regpush.project.templates import render_reference, render_tag, render_text
from regpush.reference import Reference
from tests.flow.test_push_directory import has_tag, write
from tests.program import environment, regpush

VALUES = {"git_sha": lambda: "c0ffee", "git_branch": lambda: "feature/x", "version": lambda: "1.2"}


def unasked():
    raise AssertionError("asked without need")


@pytest.mark.parametrize(
    ("template", "tag"),
    [
        ("v1", "v1"),
        ("{git_branch}", "feature-x"),
        ("{version}-{git_sha}", "1.2-c0ffee"),
        ("{{version}}", "{version}"),
        ("{{{version}}}", "{1.2}"),
        ("", ""),
    ],
)
def test_tags(template, tag):
    assert render_tag(template, VALUES) == tag


def test_only_what_is_used_is_asked_for():
    values = {"git_sha": unasked, "version": lambda: "1"}
    assert render_tag("v{version}", values) == "v1"
    assert render_text("v{version} {{git_sha}}", values) == "v1 {git_sha}"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{git_sah}", ["{git_sah}", "did you mean {git_sha}?"]),
        ("{}", ["{}", "{git_branch}"]),
        ("{git sha}", ["did you mean {git_sha}?"]),
        ("a{", ["lone '{'"]),
        ("a}", ["lone '}'"]),
        ("{version", ["lone '{'"]),
    ],
)
def test_wrong_templates(template, words):
    with pytest.raises(UsageError) as refused:
        render_tag(template, VALUES)
    for word in words:
        assert word in str(refused.value)


def test_references():
    assert render_reference("h:5000/a/b:{version}", VALUES) == "h:5000/a/b:1.2"
    assert render_reference("h:5000/a/b", VALUES) == "h:5000/a/b"
    assert render_reference("a:{git_branch}", VALUES) == "a:feature-x"
    for wrong in ("h/{git_sha}", "{git_sha}/a:b", "{git_sha}:5000/a"):
        with pytest.raises(UsageError, match="tag alone"):
            render_reference(wrong, VALUES)


def test_labels_may_hold_the_braces_of_others():
    assert render_text("{git_branch} at {git_sha}", VALUES) == "feature/x at c0ffee"
    for text in ('{"a": {"b": 1}}', "{{.Node}}", "{unknown}", "{", "}}", "{ git_sha }"):
        assert render_text(text, VALUES) == text
    assert render_text("{{git_sha}}", VALUES) == "{git_sha}"


values = st.text(max_size=300)
literals = st.text("abcXYZ019_.-", max_size=20)


@given(parts=st.lists(st.tuples(literals, values), min_size=1, max_size=4))
@example(parts=[("", "feature/x"), ("-", "a" * 300)])
@example(parts=[("", "../..")])
@example(parts=[("v", "日本"), ("", "x")])
def test_whatever_the_values_the_tag_is_valid(parts):
    """distribution-spec: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`; else an error says why not."""
    named = {f"v{index}": (lambda value=value: value) for index, (_, value) in enumerate(parts)}
    template = "".join(f"{text}{{v{index}}}" for index, (text, _) in enumerate(parts))
    if not all(re.search(r"[a-zA-Z0-9_]", value) for _, value in parts):
        with contextlib.suppress(UsageError):  # nothing of a value can be in a tag
            Reference.parse(f"localhost/app:{render_tag(template, named)}")
        return
    tag = render_tag(template, named)
    if template[0] in ".-":
        return  # the user's own mistake stays one
    Reference.parse(f"localhost/app:{tag}")
    for text, value in parts:
        assert text in tag or len(tag) == 128
        if value.isascii() and value.isalnum() and len(tag) < 128:
            assert value in tag


def test_a_long_value_gives_way_to_the_others():
    long = {"git_branch": lambda: "b" * 300, "git_sha": lambda: "c" * 40}
    tag = render_tag("{git_branch}-{git_sha}", long)
    assert tag == "b" * 87 + "-" + "c" * 40


def git(directory, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(directory), *arguments],
        check=True,
        capture_output=True,
        env=environment(HOME="/nowhere"),
    )


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit on `feature/x`."""
    git(tmp_path, "init", "-q", "-b", "feature/x")
    write(tmp_path / "app" / "main.py")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def commit_of(checkout):
    """As git itself keeps it."""
    return (checkout / ".git" / "refs" / "heads" / "feature" / "x").read_text().strip()


def asked(directory, environ=None, *, target=None, version=None):
    said = []
    directories = [str(directory)] if target is None else [target, str(directory)]
    return facts(environ or {}, directories, version, said.append), said


def test_git_says(checkout):
    values, said = asked(checkout / "app")
    assert values["git_sha"]() == commit_of(checkout)
    assert commit_of(checkout).startswith(values["git_sha_short"]())
    assert values["git_branch"]() == "feature/x"
    write(checkout / "untracked")
    assert "-" not in asked(checkout)[0]["git_sha"]()
    assert not said
    write(checkout / "app" / "main.py", "changed")
    values, said = asked(checkout)
    assert values["git_sha"]() == f"{commit_of(checkout)}-dirty"
    assert values["git_sha_short"]().endswith("-dirty")
    assert len(said) == 1


def test_the_ci_says_what_git_cannot(checkout, tmp_path_factory):
    git(checkout, "checkout", "-q", "--detach")
    with pytest.raises(UsageError, match="GITHUB_REF_NAME"):
        asked(checkout)[0]["git_branch"]()
    assert asked(checkout, {"GITHUB_REF_NAME": "12/merge"})[0]["git_branch"]() == "12/merge"
    assert asked(checkout, {"CI_COMMIT_REF_NAME": "main"})[0]["git_branch"]() == "main"
    assert asked(checkout, {"GITHUB_SHA": "f" * 40})[0]["git_sha"]() == commit_of(checkout)
    bare = tmp_path_factory.mktemp("no-checkout")
    with pytest.raises(UsageError, match="not a git repository"):
        asked(bare)[0]["git_sha"]()
    assert asked(bare, {"GITHUB_SHA": "f" * 40})[0]["git_sha"]() == "f" * 40
    assert asked(bare, {"CI_COMMIT_SHA": "f" * 40})[0]["git_sha_short"]() == "f" * 7


def test_the_date():
    assert asked(".", {"SOURCE_DATE_EPOCH": "951782400"})[0]["date"]() == "20000229"
    before = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d")
    today = asked(".")[0]["date"]()
    assert before <= today <= datetime.datetime.now(datetime.UTC).strftime("%Y%m%d")


@pytest.mark.parametrize(
    ("file", "text", "version"),
    [
        ("pyproject.toml", '[project]\nname = "a"\nversion = "1.2.3"\n', "1.2.3"),
        ("pyproject.toml", '[tool.poetry]\nversion = "1.2.4"\n', "1.2.4"),
        ("package.json", '{"version": "2.0.0-rc.1"}', "2.0.0-rc.1"),
        ("Cargo.toml", '[package]\nversion = "0.3.0"\n', "0.3.0"),
        (
            "Cargo.toml",
            '[workspace.package]\nversion = "0.4.0"\n[package]\nversion.workspace = true\n',
            "0.4.0",
        ),
    ],
)
def test_the_app_says_its_version(checkout, file, text, version):
    write(checkout / file, text)
    assert asked(checkout)[0]["version"]() == version
    assert asked(checkout, version="9")[0]["version"]() == "9"
    write(checkout / "app" / "package.json", '{"version": "7.0.0"}')
    target = str(checkout / "app")
    assert asked(checkout, target=target)[0]["version"]() == "7.0.0"


def test_else_a_tag_of_git_does(checkout):
    write(checkout / "pyproject.toml", '[project]\nname = "a"\ndynamic = ["version"]\n')
    with pytest.raises(UsageError, match=r"pyproject\.toml, package\.json"):
        asked(checkout)[0]["version"]()
    git(checkout, "tag", "v1.5.0")
    assert asked(checkout)[0]["version"]() == "1.5.0"
    git(checkout, "commit", "-q", "--allow-empty", "-m", "second")
    assert asked(checkout)[0]["version"]().startswith("1.5.0-1-g")


@pytest.mark.parametrize(
    ("file", "text"), [("package.json", "{"), ("pyproject.toml", "x"), ("Cargo.toml", b"\xff")]
)
def test_files_that_cannot_be_read(tmp_path, file, text):
    write(tmp_path / file, text)
    with pytest.raises(UsageError, match=file):
        asked(tmp_path)[0]["version"]()


def test_a_push_under_the_names_of_the_commit(checkout, docker_registry, repository):
    to = f"{docker_registry.host}/{repository}"
    done = regpush(
        "app",
        *("--to", f"{to}:{{git_branch}}", "-t", "{git_sha}", "-t", "{version}"),
        *("-l", "org.opencontainers.image.revision={git_sha}", "-l", 'x={"a": 1}'),
        *("-a", "branch={git_branch}"),
        cwd=checkout,
        env={"CI_COMMIT_SHA": "f" * 40},
    )
    done.failed(2, "{version}")
    git(checkout, "tag", "v2")
    done = regpush(
        "app",
        *("--to", f"{to}:{{git_branch}}", "-t", "{git_sha}", "-t", "{version}"),
        *("-l", "org.opencontainers.image.revision={git_sha}", "-l", 'x={"a": 1}'),
        cwd=checkout,
    ).ok()
    commit = commit_of(checkout)
    for tag in ("feature-x", commit, "2"):
        assert has_tag(docker_registry, repository, tag)
    labels = regpush("inspect", done.stdout.strip(), "--format", "json").ok().report["config"]
    assert labels["Labels"] == {"org.opencontainers.image.revision": commit, "x": '{"a": 1}'}
