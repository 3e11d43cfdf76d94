"""What an image runs, as whom and where: what is said, and what takes away a base's."""

import json
import subprocess

import pytest

from tests.flow.test_push_directory import app, write
from tests.program import push, regpush
from tests.registry.parts import real_part

__all__ = ["app"]

BASE = ("--entrypoint", "/serve", "--cmd", "all", "-u", "7:7", "-w", "/srv")


def config(reference):
    """The run configuration that skopeo reads."""
    words = ["inspect", "--tls-verify=false", "--config", "--raw", f"docker://{reference}"]
    done = subprocess.run([real_part("skopeo"), *words], capture_output=True, check=True)
    return json.loads(done.stdout)["config"]


@pytest.mark.parametrize(
    ("flags", "gone"),
    [
        (("--entrypoint", "[]"), {"Entrypoint", "Cmd"}),  # as ENTRYPOINT [] of a Dockerfile
        (("--entrypoint", ""), {"Entrypoint", "Cmd"}),
        (("--cmd", "[]"), {"Cmd"}),
        (("-u", ""), {"User"}),
        (("-w", ""), {"WorkingDir"}),
        ((), set()),
    ],
    ids=["entrypoint-list", "entrypoint", "cmd-list", "user", "workdir", "nothing"],
)
def test_what_is_empty_takes_away_what_a_base_says(
    docker_registry, repository, app, tmp_path, flags, gone
):
    base, to = (f"{docker_registry.host}/{repository}{name}" for name in ("/base", "/app"))
    write(tmp_path / "base/b")
    push(tmp_path / "base", base, "--root-dir", "/opt", *BASE).ok()
    before = config(base)
    assert before.keys() >= {"Entrypoint", "Cmd", "User", "WorkingDir"}
    done = push(app, to, "--from", base, *flags).ok()
    assert config(to) == {key: value for key, value in before.items() if key not in gone}
    assert push(app, to, "--from", base, *flags).ok().report["digest"] == done.report["digest"]


def test_a_user_that_no_passwd_names(docker_registry, repository, app, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    warned = push(app, to, "--user", "web:adm").ok().stderr
    assert "warning: --user: no /etc/passwd or /etc/group in the image names web and adm" in warned
    strict = ("--entrypoint", "", "--strict")
    regpush(app, "--to", to, "--user", "web", *strict).failed(2, "web", "--strict")
    root = tmp_path / "root"
    write(root / "etc/passwd", "root:x:0:0::/:\nweb:x:5:5::/:\n")
    write(root / "etc/group", "adm:x:5:\n")
    for user, user_to in (("web:adm", "a"), ("1000:1000", "b"), ("web", "c"), ("", "d")):
        into = f"{to}:{user_to}"
        flags = ("--user", user, "--entrypoint", "", "--strict")
        push(root, into, "--root-dir", "/", *flags).ok()
    regpush(root, "--to", to, "--root-dir", "/", "--user", "me", "--strict").failed(2, "me")
