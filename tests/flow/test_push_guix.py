"""Packages of Guix: a faked `guix` (tests/guix.py) over a store that guix-daemon wrote."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.flow.test_push_directory import has_tag
from tests.guix import CHANNELS, DEBIAN_CHANNELS, FakeGuix, fake_guix
from tests.images import unpack
from tests.program import regpush
from tests.registry.parts import real_part
from tests.stores import guix_store

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """One with Guix: its store, its profile by the path it has there, its programs."""

    def __init__(self, root: Path) -> None:
        self.profile, database = guix_store(root / "guix")
        self.path = f"/gnu/store/{self.profile.name}"
        self.guix: FakeGuix = fake_guix(root / "bin", self.path)
        self.without_guix = {"GUIX_STATE_DIRECTORY": str(database.parent)}
        self.environment = {
            **self.without_guix,
            "PATH": f"{self.guix.directory}{os.pathsep}{os.environ['PATH']}",
        }

    def push(self, *words, to, **more):
        arguments = [*words, "--to", to, "--format", "json", "--no-cache"]
        return regpush(*arguments, env=self.environment, **more)


@pytest.fixture
def machine(tmp_path) -> Machine:
    root = tmp_path / "machine"
    root.mkdir()
    return Machine(root)


@pytest.fixture
def to(docker_registry, repository) -> str:
    return f"{docker_registry.host}/{repository}"


def seen(to: str, *flags: str) -> dict:
    command = [real_part("skopeo"), "inspect", "--tls-verify=false", *flags, f"docker://{to}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def test_packages_become_a_profile_that_runs(machine, to, tmp_path):
    entry = ["--entry-point", "bin/hello", "-A", "--greeting", "-A", "two words"]
    done = machine.push("guile@2.2.6", "bash", "-S", "/bin=bin", *entry, to=to).ok()
    assert machine.guix.calls == [["shell", "--search-paths", "bash", "guile@2.2.6"]]
    assert "The following derivation will be built:" in done.stderr
    assert "Guix profile" in done.stderr
    config = seen(to, "--config")["config"]
    assert config["Entrypoint"] == [f"{machine.path}/bin/hello", "--greeting", "two words"]
    assert f"PATH={machine.path}/bin:{DEFAULT_PATH}" in config["Env"]
    root = unpack(f"{to}:latest", tmp_path / "out")
    if os.getuid() == 0:
        hello = subprocess.run(["chroot", root, "/bin/hello"], capture_output=True, text=True)
        assert hello.stdout == "hello from guix store\n"


def test_a_damaged_item_is_not_pushed_and_guix_is_told_to_repair_it(
    machine, to, docker_registry, repository
):
    """Guix manual, "Invoking guix gc": only it knows where good contents come from."""
    (program,) = machine.profile.parent.glob("*-hello-*/bin/hello")
    before, mode = program.read_bytes(), program.stat().st_mode
    os.chmod(program, 0o755)
    program.write_bytes(before + b"one line more\n")
    os.chmod(program, mode)
    item = program.parent.parent.name
    done = machine.push("hello", to=to)
    done.failed(9, f"/gnu/store/{item} is damaged", "guix gc --verify=contents,repair")
    assert not has_tag(docker_registry, repository, "latest")
    os.chmod(program, 0o755)
    program.write_bytes(before)
    os.chmod(program, mode)
    machine.push("hello", to=to).ok()


def test_a_profile_of_everything_guix_takes(machine, to, tmp_path):
    """In the terms of `guix shell`; transformations as Guix's users write them."""
    words = ["guix:git:send-email hello", "-m", "a.scm", "-m", "b.scm", "--file", "c.scm",
             "--expression", "(@ (gnu packages base) hello)", "--system", "i686-linux",
             "--with-input=openssl=libressl", "--with-latest", "gcc", "--tune",
             "--guix-option=--no-grafts", "python"]  # fmt: skip
    machine.push(*words, to=to).ok()
    assert machine.guix.calls == [
        ["shell", "--search-paths", "--system=i686-linux", "--with-input=openssl=libressl",
         "--with-latest=gcc", "--tune", "--no-grafts", "--manifest=a.scm", "--manifest=b.scm",
         "--expression=(@ (gnu packages base) hello)", "--file=c.scm",
         "python", "hello", "git:send-email"]
    ]  # fmt: skip


def test_a_manifest_is_enough(machine, to):
    done = machine.push("-m", "manifest.scm", to=to).ok()
    assert machine.guix.calls == [["shell", "--search-paths", "--manifest=manifest.scm"]]
    assert machine.path in str(done.report["images"])


def test_the_platform_is_what_guix_builds_for(machine, to):
    both = ["--platform", "linux/arm64", "--platform", "linux/arm/v7"]
    done = machine.push("hello", *both, to=to).ok()
    assert len(done.report["images"]) == 2
    systems = [call[2] for call in machine.guix.calls]
    assert systems == ["--system=aarch64-linux", "--system=armhf-linux"]


def test_cross_building_takes_an_expression(machine, to, tmp_path):
    words = ["hello", "guile@3.0", "-m", "/m.scm", "--file", "/f.scm", "--expression", "(e)"]
    done = machine.push(*words, "--guix-target", "aarch64-linux-gnu", to=to).ok()
    ((*options, expression),) = machine.guix.calls
    assert options == ["build", "--target=aarch64-linux-gnu", "-e"]
    assert done.report["images"][0]["platform"] == "linux/arm64"
    assert expression == (
        "(begin (use-modules (gnu) (gnu packages) (guix profiles)) (profile (content "
        '(concatenate-manifests (list (load "/m.scm") '
        '(specifications->manifest (list "hello" "guile@3.0")) '
        '(packages->manifest (list (e) (load "/f.scm"))))))))'
    )
    refused = machine.push("hello", "--guix-target", "x", "--with-latest=hello", to=to)
    refused.failed(2, "--with-latest=hello", "options->transformation")


def test_provenance_is_in_annotations_and_labels(machine, to):
    machine.push("hello", "--with-latest=hello", "--save-provenance", to=to).ok()
    manifest = seen(to, "--raw")
    labels = seen(to, "--config")["config"]["Labels"]
    for said in (manifest["annotations"], labels):
        assert said["dev.regpush.guix.channels"] == CHANNELS
        assert json.loads(said["dev.regpush.guix.options"]) == ["--with-latest=hello", "hello"]
    machine.push("hello", to=f"{to}:without").ok()
    assert "dev.regpush.guix.channels" not in seen(f"{to}:without", "--raw")["annotations"]


def test_what_guix_does_not_build(machine, to, docker_registry, repository):
    done = machine.push("no-such-package", to=to)
    done.failed(9, "guix shell failed: no-such-package: unknown package")
    assert "guix shell: error: no-such-package: unknown package" in done.stderr
    wrong = machine.push("--expression", "(undefined-thing)", to=to)
    wrong.failed(9, "expression '(undefined-thing)': Unbound variable: undefined-thing")
    machine.push("guix:", to=to).failed(2, "names no package")
    machine.push("guix:--fallback", to=to).failed(2, "bad Guix package '--fallback'")
    assert not has_tag(docker_registry, repository, "latest")


def test_without_guix_a_name_is_no_package(machine, to, tmp_path):
    bare = {**machine.without_guix, "PATH": str(tmp_path)}
    regpush("hello", "--to", to, env=bare).failed(2, "'hello'", "'guix' must be on the PATH")
    regpush("-m", "m.scm", "--to", to, env=bare).failed(2, "'guix' is not on the PATH")


def test_what_lies_here_comes_before_a_package_of_that_name(machine, to, tmp_path):
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello/main.py").write_text("")
    machine.push("hello", to=to, cwd=tmp_path).ok()
    assert machine.guix.calls == []


def test_a_profile_that_is_there_says_its_environment_too(machine, to, tmp_path):
    """As `~/.guix-profile` does; without any guix, and without running anything of it."""
    (tmp_path / "link").symlink_to(machine.path)
    env = {**machine.without_guix, "PATH": str(tmp_path)}
    regpush(tmp_path / "link", "--to", to, env=env).ok()
    assert f"PATH={machine.path}/bin:{DEFAULT_PATH}" in seen(to, "--config")["config"]["Env"]
    mine = ["-e", "PATH=/mine", "-e", "LANG=C"]
    regpush(tmp_path / "link", "--to", f"{to}:mine", *mine, env=env).ok()
    assert seen(f"{to}:mine", "--config")["config"]["Env"][:2] == ["PATH=/mine", "LANG=C"]


def test_a_profile_and_its_trees_in_the_root(machine, to, tmp_path):
    machine.push("hello", "--link-root", ".", to=to).ok()
    root = unpack(f"{to}:latest", tmp_path / "out")
    assert (root / "bin").is_dir()
    assert os.readlink(root / "bin/hello").startswith("/gnu/store/")
    assert os.readlink(root / "bin/hello").endswith("-hello-2.12/bin/hello")
    assert not (root / "manifest").exists()


def test_a_profile_out_of_guix_s_cache(machine, to):
    """Guix 1.5.0 fails to register a root for it: asked again without its cache."""
    machine.guix.answer(cached_profile_fails=True)
    machine.push("hello", to=to).ok()
    assert machine.guix.calls == [
        ["shell", "--search-paths", "hello"],
        ["shell", "--search-paths", "--rebuild-cache", "hello"],
    ]


def test_channels_without_an_address_are_a_warning(machine, to):
    """As Debian's guix describes itself."""
    machine.guix.answer(channels=DEBIAN_CHANNELS)
    done = machine.push("hello", "--save-provenance", to=to).ok()
    assert "a channel of this Guix has no url" in done.stderr
    annotations = seen(to, "--raw")["annotations"]
    assert "dev.regpush.guix.channels" not in annotations
    assert json.loads(annotations["dev.regpush.guix.options"]) == ["hello"]


def test_the_guix_of_other_channels(machine, to):
    machine.push("hello", "--channels", "channels.scm", "--save-provenance", to=to).ok()
    before = ["time-machine", "--channels=channels.scm", "--"]
    assert [call[:4] for call in machine.guix.calls] == [[*before, "shell"], [*before, "describe"]]


def test_two_versions_of_a_package(machine, to, docker_registry, repository):
    """`guix pack` refuses such a profile; `guix shell` lets one hide the other."""
    manifest = machine.profile / "manifest"
    manifest.chmod(0o644)
    one, two = (f"/gnu/store/{letter * 32}-guile-2.2.{letter}" for letter in "67")
    manifest.write_text(
        f'(manifest (version 4) (packages (("guile" "2.2.6" "out" "{one}") '
        f'("guile" "2.2.7" "out" "{two}") ("guile" "2.2.7" "debug" "{two}-debug"))))'
    )
    machine.guix.answer(profile=str(machine.profile))
    done = machine.push("guile@2.2.6", "guile@2.2.7", to=to)
    done.failed(9, "two versions of guile: 2.2.6", one, "and 2.2.7", two)
    assert not has_tag(docker_registry, repository, "latest")


def test_bars_of_guix_stay_out_of_logs(machine, to):
    machine.guix.answer(bars=True)
    done = machine.push("hello", to=to).ok()
    assert "registering" not in done.stderr
    assert "building profile with 1 package..." in done.stderr
