"""`--strict`: what is otherwise a warning about the input ends a push before any tag moves."""

import pytest

from regpush.errors import UsageError
from regpush.events import InputWarned, Note, Warned, strictly
from tests.flow.test_push_directory import app, has_tag
from tests.program import push, regpush
from tests.programs import program

__all__ = ["app"]

RUNS = ("--platform", "linux/amd64", "--entrypoint", "bin/app")
MATCHES_NOTHING = (*RUNS, "--chmod", "nothing=0700")


def test_a_warning_about_the_input_is_refused_before_a_tag_moves(docker_registry, repository, app):
    to = f"{docker_registry.host}/{repository}:v1"
    program(app / "bin/app", "amd64")
    regpush(app, "--to", to, *MATCHES_NOTHING, "--strict").failed(2, "nothing=0700", "--strict")
    assert not has_tag(docker_registry, repository, "v1")
    warned = push(app, to, *MATCHES_NOTHING).ok()
    assert "warning: --chmod nothing=0700 matched nothing" in warned.stderr
    again = regpush(app, "--to", to, *MATCHES_NOTHING, env={"REGPUSH_STRICT": "1"})
    again.failed(2, "nothing=0700")
    regpush("plan", app, "--to", to, *MATCHES_NOTHING, "--strict").failed(2, "nothing=0700")
    push(app, to, *RUNS, "--strict").ok()
    regpush(app, "--to", to, "--strict").failed(
        2, "the image has no command to start", "'/app/bin/app'"
    )


def test_a_platform_that_the_programs_are_not_for(docker_registry, repository, tmp_path):
    program(tmp_path / "app/bin/app", "s390x")
    to = f"{docker_registry.host}/{repository}"
    flags = ("--platform", "linux/arm64")
    regpush(tmp_path / "app", "--to", to, *flags, "--strict").failed(2, "s390x", "--strict")
    assert "s390x" in push(tmp_path / "app", to, *flags).ok().stderr


def test_an_index_that_loses_a_platform(docker_registry, repository, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    for name in ("amd64", "arm64"):
        program(tmp_path / name / "bin/app", name)
    both = push(tmp_path / "{arch}", to, "--platform", "linux/amd64,linux/arm64").ok()
    one = push(tmp_path / "amd64", f"{to}:one", "--platform", "linux/amd64").ok()
    words = ("index", f"{to}:latest", f"{to}@{one.report['digest']}")
    regpush(*words, "--strict").failed(2, "linux/arm64", "--strict")
    same = push(tmp_path / "{arch}", to, "--platform", "linux/amd64,linux/arm64").ok()
    assert same.report["digest"] == both.report["digest"]
    assert not same.report["changed"]
    regpush(*words).ok()


def test_what_no_input_could_mend_stays_a_warning():
    heard = []
    strict = strictly(heard.append)
    events = [Note(message="a note"), Warned(message="a cache is down")]
    for event in events:
        strict(event)
    assert heard == events
    with pytest.raises(UsageError, match="a user nobody knows"):
        strict(InputWarned(message="a user nobody knows"))
