"""What an image runs, as whom and where: what is said, and what takes away a base's."""

import json
import subprocess

import pytest

from tests.flow.test_from import layer, put_base
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


def test_the_date_of_an_image(docker_registry, repository, app, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    last = "9999-12-31T23:59:59Z"
    for said, date in (
        ("2026-11-29T10:00:00.7+01:00", "2026-11-29T09:00:00Z"),
        ("1700000000", "2023-11-14T22:13:20Z"),
        (last, last),
    ):
        done = push(app, to, "--created", said, env={"SOURCE_DATE_EPOCH": "9"}).ok()
        words = ["inspect", "--tls-verify=false", "--format", "{{.Created}}", f"docker://{to}"]
        seen = subprocess.run([real_part("skopeo"), *words], capture_output=True, text=True)
        assert seen.stdout.strip().replace(" ", "T", 1).replace(" +0000 UTC", "Z") == date
    (tmp_path / "regpush.toml").write_text(
        f'[apps.web]\ntarget = "{app}"\nto = "{to}"\ncreated = {last}\n'
    )
    same = regpush("web", "--format", "json", cwd=tmp_path).ok()
    assert same.report["digest"] == done.report["digest"]
    for said, meant in (("2026-11-29", "say 2026-11-29T00:00:00Z"), ("253402300800", "9999")):
        push(app, f"{to}:x", "--created", said).failed(2, "bad time", meant)


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


PASSWD = "root:x:0:0::/:/bin/sh\nweb:x:5:5::/:\n"


@pytest.mark.parametrize(
    ("whose", "files", "user", "unknown"),
    [
        ("ours", {"a": ""}, "web:adm", None),  # perhaps the base has both
        ("foreign", {"etc/passwd": PASSWD}, "web:adm", None),  # perhaps the base has the group
        ("ours", {"etc/passwd": PASSWD}, "me:adm", "me"),
        ("foreign", {"etc/group": "adm:x:5:\n"}, "web:wheel", "wheel"),
        ("foreign", {"etc/passwd": PASSWD, "etc/group": "adm:x:5:\n"}, "adm:web", "adm and web"),
        ("foreign", {"etc/passwd": PASSWD}, "6:7", None),
        ("foreign", {"etc/passwd": "../p"}, "me", None),  # a link, to a file of the base
        ("foreign", {"etc": "/usr/etc"}, "me", None),
    ],
)
def test_a_user_of_an_image_on_a_base(
    docker_registry, repository, tmp_path, whose, files, user, unknown
):
    """What a base holds is not read: only files that the app puts in their place tell."""
    base, to = f"{docker_registry.host}/{repository}/base", f"{docker_registry.host}/{repository}"
    if whose == "ours":
        write(tmp_path / "base/b")
        push(tmp_path / "base", base).ok()
    else:
        base = put_base(docker_registry, f"{repository}/base", [layer("etc/os")])
    for path, content in files.items():
        if content.startswith(("/", ".")):
            (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "root" / path).symlink_to(content)
        else:
            write(tmp_path / "root" / path, content)
    flags = ("--root-dir", "/", "--from", base, "--user", user, "--entrypoint", "/serve")
    done = push(tmp_path / "root", to, *flags).ok()
    said = f"names {unknown}, so" if unknown else None
    assert ("--user" in done.stderr) == (unknown is not None), done.stderr
    assert said is None or said in done.stderr
    assert config(to)["User"] == user


def test_a_passwd_that_is_pushed_alone(docker_registry, repository, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    write(tmp_path / "etc/passwd", PASSWD)
    flags = ("--root-dir", "/etc", "--entrypoint", "", "--strict")
    push(tmp_path / "etc", to, "--user", "web", *flags).ok()
    regpush(tmp_path / "etc", "--to", to, "--user", "me", *flags).failed(2, "names me, so")
