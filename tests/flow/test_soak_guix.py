"""Packages of a real Guix (1.5.0, Debian sid) with its daemon; and the stand-in beside it."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.chroots import Chroot
from tests.flow.test_push_guix import seen
from tests.guix import CHANNELS, DEBIAN_CHANNELS, FakeGuix, fake_guix
from tests.guix_daemon import COMMIT, MODULES, OURS, Guix, running_guix
from tests.images import unpack

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(os.getuid() != 0, reason="a chroot needs root"),
]


@pytest.fixture(scope="module")
def guix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guix]:
    with running_guix(tmp_path_factory.mktemp("guix")) as made:
        yield made


@pytest.fixture
def to(docker_registry, repository) -> str:
    return f"{docker_registry.host}/{repository}"


def test_21_a_profile_out_of_the_cache_of_guix_shell(guix: Guix, to: str) -> None:
    guix.supply("hello", of=guix.described, ours=False)
    for _ in range(2):
        assert guix.described.run("guix", "shell", "hello", "--", "true").returncode == 0
    # Where the link exists, no root is registered and nothing fails.
    (guix.inside.root / "tmp/cached").unlink(missing_ok=True)
    words = ("shell", "--root=/tmp/cached", "--search-paths", "hello")
    crashed = guix.described.run("guix", *words)
    assert (crashed.returncode, "(add-indirect-root #f" in crashed.stderr) == (1, True)
    done = guix.described.push("hello", to=to).ok()
    assert any(item.endswith("-profile") for item in done.items)


def test_22_provenance_of_two_kinds_of_guix(guix: Guix, to: str) -> None:
    guix.supply("regpush-tool@1.0")
    flags = ("regpush-tool@1.0", "--save-provenance")
    done = guix.inside.push(*flags, to=f"{to}:debian", env=OURS).ok()
    assert "a channel of this Guix has no url" in done.said
    annotations = seen(f"{to}:debian", "--raw")["annotations"]
    assert "dev.regpush.guix.channels" not in annotations
    assert json.loads(annotations["dev.regpush.guix.options"]) == ["regpush-tool@1.0"]
    guix.described.push(*flags, to=f"{to}:fetched", env=OURS).ok()
    channels = seen(f"{to}:fetched", "--raw")["annotations"]["dev.regpush.guix.channels"]
    assert f'(commit "{COMMIT}")' in channels
    assert "(introduction" in channels
    assert f';; warning: GUIX_PACKAGE_PATH="{MODULES}"' in channels


@pytest.mark.parametrize("names", [("first", "second"), ("second", "first")])
def test_23_packages_stand_in_the_order_of_guix_pack(
    guix: Guix, to: str, tmp_path: Path, names: tuple[str, str]
) -> None:
    """Both have a file bin/same: the first package of a profile has it there."""
    packages = [f"regpush-{name}" for name in names]
    for order in (packages, packages[::-1]):
        guix.supply(*order)
    pack = guix.inside.output("guix", "pack", "-d", "--no-grafts", *packages, env=OURS)
    guix.stand_in(pack)
    text = (guix.inside.root / pack.lstrip("/")).read_text()
    (profile,) = set(re.findall(r"/gnu/store/[^\"]*-profile\.drv", text))
    packed = guix.inside.output("guix", "build", "--no-grafts", profile, env=OURS)
    expected = guix.inside.output("sh", f"{packed}/bin/same")
    guix.inside.push(*packages, "--link-root", ".", to=to, env=OURS).ok()
    link = os.readlink(unpack(f"{to}:latest", tmp_path / "out") / "bin/same")
    assert guix.inside.output("sh", link) == expected == names[0]


def test_23_two_versions_of_a_package(guix: Guix, to: str) -> None:
    packages = ["regpush-tool@1.0", "regpush-tool@2.0"]
    guix.supply(*packages[::-1])
    packed = guix.inside.run("guix", "pack", "-d", "--no-grafts", *packages, env=OURS)
    assert packed.returncode == 1
    conflict = re.findall(r"entry: regpush-tool@(\S+) (\S+)", packed.stderr)
    assert [version for version, _ in conflict] == ["1.0", "2.0"]
    done = guix.inside.push(*packages, to=to, env=OURS)
    done.failed(9, "two versions of regpush-tool", *(word for pair in conflict for word in pair))


def test_24_bars_stay_out_of_logs_and_reasons_are_kept(guix: Guix, to: str) -> None:
    modules = "build utils|build union|elf|build graft|progress|records|sets|build syscalls"
    some = random.sample(modules.split("|"), 5)  # never compiled together before
    listed = " ".join(f"(guix {name})" for name in dict.fromkeys(("build utils", *some)))
    heavy = f"((@ (regpush packages) compiling) '({listed}))"
    guix.supply("-e", heavy)
    done = guix.inside.push("--expression", heavy, to=to, env=OURS).ok()
    assert not re.search(r"[\x1b\r▕]", done.said), done.said
    assert "building " in done.said
    assert any(re.search(r"/[a-z0-9]{32}-profile$", item) for item in done.items)
    wrong = guix.inside.push("--expression", "(undefined-thing)", to=to, env=OURS)
    wrong.failed(9, "failed to evaluate", "Unbound variable: undefined-thing")
    guix.inside.push("guix:no-such-package", to=to).failed(9, "no-such-package: unknown package")


def test_25_the_guix_of_other_channels(guix: Guix, to: str) -> None:
    """Without a network it gets as far as fetching them."""
    channels = guix.inside.write(
        "/tmp/channels.scm",
        '(list (channel (name \'guix) (url "file:///no/such/place") (commit "' + COMMIT + '")))',
    )
    real = guix.inside.run("guix", "time-machine", f"--channels={channels}", "--", "describe")
    assert real.returncode == 1
    reason = "failed to resolve path '/no/such/place': No such file or directory"
    assert reason in real.stderr
    done = guix.inside.push("hello", "--channels", channels, to=to)
    done.failed(9, f"guix time-machine failed: {reason}")


@dataclass(frozen=True, slots=True)
class Both:
    """A real `guix` and the stand-in, which is told to answer with the same profile."""

    real: Chroot
    fake: FakeGuix
    profile: str
    scratch: Path

    def check(self, *words: str, env: dict[str, str] | None = None) -> None:
        """Both answer `words` with the same status, stdout, link and last line on stderr."""
        inside, outside = self.real.root / "tmp/compared", self.scratch / "compared"
        for link in (inside, outside):
            link.unlink(missing_ok=True)
        real = self.real.run(
            "guix", *(word.format(root="/tmp/compared") for word in words), env=env
        )
        program = [self.fake.directory / "guix", *(word.format(root=outside) for word in words)]
        fake = subprocess.run(program, capture_output=True, text=True)
        assert (fake.returncode, fake.stdout) == (real.returncode, real.stdout), real.stderr
        assert outside.is_symlink() == inside.is_symlink()
        if inside.is_symlink():
            assert os.readlink(outside) == os.readlink(inside)
        if real.returncode:
            last = [one.stderr.rstrip().splitlines()[-2:] for one in (fake, real)]
            assert last[0][-1] == last[1][-1]


@pytest.fixture
def both(guix: Guix, tmp_path: Path) -> Both:
    guix.supply("regpush-tool@1.0")
    root = "/tmp/to-compare"
    (guix.inside.root / "tmp/to-compare").unlink(missing_ok=True)
    guix.inside.output(
        "guix", "shell", f"--root={root}", "--search-paths", "regpush-tool@1.0", env=OURS
    )
    profile = os.readlink(guix.inside.root / "tmp/to-compare")
    return Both(guix.inside, fake_guix(tmp_path / "bin", profile), profile, tmp_path)


def test_27_the_stand_in_answers_as_the_real_one(guix: Guix, both: Both) -> None:
    shell = ("shell", "--root={root}", "--search-paths")
    both.check(*shell, "regpush-tool@1.0", env=OURS)
    both.check(*shell, "--rebuild-cache", "regpush-tool@1.0", env=OURS)
    both.check(*shell, "no-such-package")
    both.check(*shell, "--expression=(undefined-thing)")
    expression = (
        "(begin (use-modules (gnu) (gnu packages) (guix profiles)) (profile (content "
        '(specifications->manifest (list "regpush-tool@1.0")))))'
    )
    both.check("build", "--root={root}", "-e", expression, env=OURS)
    both.check("build", "--root={root}", "-e", "(undefined-thing)")
    both.fake.answer(channels=DEBIAN_CHANNELS)
    both.check("describe", "--format=channels", env={"GUIX_PACKAGE_PATH": "/opt/modules"})
    both.fake.answer(channels=CHANNELS)
    described = replace(both, real=guix.described)
    described.check("describe", "--format=channels")
    guix.supply("hello", of=guix.described, ours=False)
    for _ in range(2):
        guix.described.output("guix", "shell", "hello", "--", "true")
    link = guix.inside.root / "tmp/to-compare"
    link.unlink()
    guix.inside.output("guix", "shell", "--root=/tmp/to-compare", "--search-paths", "hello")
    both.fake.answer(cached_profile_fails=True, profile=os.readlink(link))
    described.check(*shell, "hello")
