"""Several platforms in one push: an image for each, an index over them, and tags last."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from regpush.platform import Platform
from tests import images
from tests.program import Outcome, push, regpush
from tests.programs import builds, program
from tests.registry.api import Api
from tests.registry.faults import (
    FOREVER,
    Answer,
    Asked,
    Rule,
    Upstream,
    error,
    fault_server,
)
from tests.registry.outcomes import verify_image
from tests.registry.parts import real_part
from tests.registry.servers import Registry

BOTH = "linux/amd64,linux/arm64"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def dist(tmp_path: Path) -> str:
    return builds(tmp_path / "dist", "amd64", "arm64")


def raw(reference: str) -> dict:
    """The manifest that a reference names, as skopeo reads it."""
    command = [real_part("skopeo"), "inspect", "--raw", "--tls-verify=false"]
    done = subprocess.run([*command, f"docker://{reference}"], capture_output=True, check=True)
    return json.loads(done.stdout)


def actions(outcome: Outcome) -> list[list[str]]:
    """What became of the layers of each image."""
    return [[one["action"] for one in image["layers"]] for image in outcome.report["images"]]


def tags(registry: Registry, repository: str) -> list[str]:
    answer = Api(registry.host, repository).send("GET", f"/v2/{repository}/tags/list")
    return json.loads(answer.body).get("tags") or [] if answer.status == 200 else []


def test_two_platforms_become_an_index_of_two_images(
    registry: Registry, repository: str, dist: str, tmp_path: Path
) -> None:
    to = f"{registry.host}/{repository}"
    report = push(dist, f"{to}:v1", "--platform", BOTH, "-t", "latest").ok().report
    assert report["media_type"] == INDEX
    assert report["destinations"][0]["tags"] == ["v1", "latest"]
    assert [one["platform"] for one in report["images"]] == ["linux/amd64", "linux/arm64"]

    index = raw(f"{to}@{report['digest']}")
    assert index == raw(f"{to}:v1") == raw(f"{to}:latest")
    assert index["mediaType"] == INDEX
    assert [one["platform"] for one in index["manifests"]] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64"},
    ]
    assert [one["digest"] for one in index["manifests"]] == [
        one["digest"] for one in report["images"]
    ]
    for image, architecture in zip(report["images"], ("amd64", "arm64"), strict=True):
        root = images.unpack(f"{to}@{image['digest']}", tmp_path / "unpacked")
        expected = images.as_store(images.tree(dist.replace("{arch}", architecture)))
        images.assert_same_tree(images.tree(root / "app"), expected)


def test_a_runtime_of_the_other_architecture_gets_its_own(
    registry: Registry, repository: str, dist: str, tmp_path: Path
) -> None:
    to = f"{registry.host}/{repository}"
    push(dist, to, "--platform", BOTH).ok()
    command = [real_part("skopeo"), "copy", "--quiet", "--override-arch", "arm64"]
    source = ["--src-tls-verify=false", f"docker://{to}"]
    subprocess.run([*command, *source, f"dir:{tmp_path / 'got'}"], check=True)
    manifest = json.loads((tmp_path / "got/manifest.json").read_bytes())
    config = json.loads((tmp_path / "got" / manifest["config"]["digest"][7:]).read_bytes())
    assert config["architecture"] == "arm64"


def test_what_platforms_share_is_sent_once(registry: Registry, repository: str, dist: str) -> None:
    outcome = push(dist, f"{registry.host}/{repository}", "--platform", BOTH).ok()
    first, second = actions(outcome)
    assert first == ["uploaded", "uploaded"]
    assert second == ["reused", "uploaded"]
    assert outcome.report["images"][1]["layers"][0]["why"] == "same as in linux/amd64"


def test_the_second_push_sends_nothing_and_a_change_sends_its_own(
    registry: Registry, repository: str, dist: str
) -> None:
    to = f"{registry.host}/{repository}"
    first = push(dist, to, "--platform", BOTH).ok().report
    second = push(dist, to, "--platform", BOTH).ok().report
    assert second["bytes"]["uploaded"] == 0
    assert (second["digest"], second["changed"]) == (first["digest"], False)
    Path(dist.replace("{arch}", "arm64"), "start.sh").write_text("exec something else\n")
    third = push(dist, to, "--platform", BOTH).ok()
    assert actions(third) == [["reused", "reused"], ["reused", "uploaded"]]
    assert third.report["images"][0]["digest"] == first["images"][0]["digest"]


def test_the_order_is_that_of_the_flag_and_repeating_it_is_the_same(
    embedded_registry: Registry, repository: str, dist: str
) -> None:
    to = f"{embedded_registry.host}/{repository}"
    one = push(dist, f"{to}:one", "--platform", "linux/arm64,linux/amd64").ok().report
    two = push(
        dist, f"{to}:two", "--platform", "linux/arm64", "--platform", "linux/amd64", "--reuse",
        "none",
    ).ok().report  # fmt: skip
    assert one["digest"] == two["digest"]
    assert [one["platform"] for one in one["images"]] == ["linux/arm64", "linux/amd64"]


def test_plan_and_why_look_at_every_platform(
    embedded_registry: Registry, repository: str, dist: str
) -> None:
    to = f"{embedded_registry.host}/{repository}"
    planned = regpush(
        "plan", dist, "--to", to, "--platform", BOTH, "--exact", "--format", "json"
    ).ok()
    assert actions(planned) == [["upload", "upload"], ["reuse", "upload"]]
    report = push(dist, to, "--platform", BOTH).ok().report
    assert planned.report["digest"] == report["digest"]
    again = regpush("plan", dist, "--to", to, "--platform", BOTH).ok()
    assert "Would send 0 B" in again.stdout
    rows = again.stdout.splitlines()
    assert [rows[0].split()[0], rows[1], rows[4]] == ["layer", "linux/amd64", "linux/arm64"]
    Path(dist.replace("{arch}", "arm64"), "start.sh").write_text("exec something else\n")
    pushed = push(dist, f"{to}-changed", "--platform", BOTH, "--reuse-from", to).ok()
    assert pushed.code == 0
    words = ("why", to, f"{to}-changed", "--format", "json", "--platform")
    why = regpush(*words, "linux/arm64").ok().report
    assert [layer["number"] for layer in why["layers"]] == [2]
    assert regpush(*words, "linux/amd64").ok().report["layers"] == []


def test_a_budget_is_of_all_platforms_together(
    embedded_registry: Registry, repository: str, dist: str
) -> None:
    to = f"{embedded_registry.host}/{repository}"
    exact = regpush("plan", dist, "--to", to, "--platform", BOTH, "--exact", "--format", "json")
    size = exact.ok().report["bytes"]["uploaded"]
    push(dist, to, "--platform", BOTH, "--max-upload", f"{size - 1}").failed(7)
    assert tags(embedded_registry, repository) == []
    push(dist, to, "--platform", BOTH, "--max-upload", f"{size}").ok()


def test_a_single_image_takes_no_place_of_several_unless_told(
    registry: Registry, repository: str, dist: str
) -> None:
    to = f"{registry.host}/{repository}"
    before = push(dist, to, "--platform", BOTH).ok().report["digest"]
    single = dist.replace("{arch}", "amd64")
    push(single, to, "--platform", "linux/amd64").failed(6, "several platforms", "--replace-index")
    assert (
        Api(registry.host, repository).manifest("latest").headers["Docker-Content-Digest"] == before
    )
    push(single, to, "--platform", "linux/amd64", "--replace-index").ok()
    assert push(dist, to, "--platform", BOTH).ok().report["digest"] == before


def test_platforms_that_a_push_drops_are_said(
    embedded_registry: Registry, repository: str, dist: str, tmp_path: Path
) -> None:
    builds(tmp_path / "dist", "riscv64")
    to = f"{embedded_registry.host}/{repository}"
    push(dist, to, "--platform", f"{BOTH},linux/riscv64").ok()
    outcome = push(dist, to, "--platform", BOTH).ok()
    warned = f"warning: {to}:latest also contains linux/riscv64; this push removes it"
    assert warned in outcome.stderr


@pytest.mark.parametrize("status", [403, 500])
def test_no_tag_moves_where_one_image_fails(
    registry: Registry, repository: str, dist: str, status: int
) -> None:
    refused = Rule(error(status, "DENIED"), "PUT", "manifest", times=FOREVER, after=1)
    with fault_server(registry.host, refused) as server:
        outcome = push(dist, f"{server.host}/{repository}:v1", "--platform", BOTH,
                       "--retry-times", "0")  # fmt: skip
    outcome.failed(4 if status == 403 else 5)
    assert tags(registry, repository) == []


def test_an_image_that_the_registry_lost_is_sent_again(
    registry: Registry, repository: str, dist: str
) -> None:
    to = f"{registry.host}/{repository}"
    report = push(dist, f"{to}:v1", "--platform", BOTH).ok().report
    api = Api(registry.host, repository)
    lost = report["images"][1]
    for blob in (layer["digest"] for layer in lost["layers"][1:]):
        assert api.send("DELETE", f"{api.base}/blobs/{blob}").status == 202

    def forget(asked: Asked, upstream: Upstream) -> Answer:
        # After the push has looked, and before the tag is moved.
        assert api.send("DELETE", f"{api.base}/manifests/{lost['digest']}").status == 202
        return upstream.forward(asked)

    with fault_server(registry.host, Rule(forget, "PUT", "tag")) as server:
        outcome = push(dist, f"{server.host}/{repository}:v2", "--platform", BOTH).ok()
    assert "again" in outcome.stderr
    assert outcome.report["digest"] == report["digest"]
    for image in outcome.report["images"]:
        assert verify_image(registry.host, repository, image["digest"]) == image["digest"]
    assert raw(f"{to}:v2") == raw(f"{to}@{report['digest']}")


def test_a_tag_with_a_condition_is_judged_as_the_index(
    registry: Registry, repository: str, dist: str
) -> None:
    to = f"{registry.host}/{repository}:v1"
    first = push(dist, to, "--platform", BOTH, "--if-exists", "same").ok().report["digest"]
    push(dist, to, "--platform", BOTH, "--if-exists", "same").ok()
    push(dist, to, "--platform", BOTH, "--if-exists", "fail").failed(6)
    Path(dist.replace("{arch}", "arm64"), "start.sh").write_text("exec something else\n")
    push(dist, to, "--platform", BOTH, "--if-exists", "same").failed(6, first)
    skipped = push(dist, to, "--platform", BOTH, "--if-exists", "skip").ok().report
    assert (skipped["digest"], skipped["media_type"]) == (first, INDEX)
    push(dist, to, "--platform", BOTH, "--if-current", first).ok()
    push(dist, to, "--platform", BOTH, "--if-current", first).ok()  # it is there already


def test_what_the_placeholders_stand_for(
    embedded_registry: Registry, repository: str, tmp_path: Path
) -> None:
    for name in ("linux-arm-v7", "linux-amd64"):
        builds(tmp_path / name, "armv7" if "arm" in name else "amd64")
    (tmp_path / "linux-arm-v7/armv7").rename(tmp_path / "linux-arm-v7/arm-v7-linux")
    (tmp_path / "linux-amd64/amd64").rename(tmp_path / "linux-amd64/amd64--linux")
    target = f"{tmp_path}/{{platform}}/{{arch}}-{{variant}}-{{os}}"
    to = f"{embedded_registry.host}/{repository}"
    push(target, to, "--platform", "linux/arm/v7,linux/amd64").ok()
    variants = [one["platform"].get("variant") for one in raw(to)["manifests"]]
    assert variants == ["v7", None]


@pytest.mark.parametrize(
    ("platforms", "words"),
    [
        ("linux/amd64,linux/amd64", "linux/amd64 is given twice"),
        ("linux/amd64,arm64", "bad platform 'arm64'"),
        ("linux/amd64,linux/s390x", "s390x' does not exist"),
    ],
)
def test_platforms_that_make_no_sense(
    embedded_registry: Registry, repository: str, dist: str, platforms: str, words: str
) -> None:
    push(dist, f"{embedded_registry.host}/{repository}", "--platform", platforms).failed(2, words)
    assert (
        Api(embedded_registry.host, repository).send("GET", f"/v2/{repository}/tags/list").status
        == 404
    )


# What a target is for where nobody says.


@pytest.fixture
def to(embedded_registry: Registry, repository: str) -> str:
    return f"{embedded_registry.host}/{repository}"


def test_a_directory_is_for_what_its_programs_run_on(to: str, tmp_path: Path) -> None:
    target = builds(tmp_path, "riscv64").replace("{arch}", "riscv64")
    outcome = push(target, to).ok()
    assert outcome.report["images"][0]["platform"] == "linux/riscv64"
    assert "the image is for linux/riscv64, the platform of the program bin/app" in outcome.stderr
    said = push(target, to, "--platform", "linux/riscv64").ok()
    assert not said.report["changed"]
    assert "marks its image" not in said.stderr
    other = push(target, to, "--platform", "linux/s390x").ok()
    assert other.report["images"][0]["platform"] == "linux/s390x"
    assert (
        "is for linux/riscv64 (bin/app), but --platform marks its image as linux/s390x"
        in other.stderr
    )


def test_programs_of_several_platforms_are_for_this_one_if_it_is_among_them(
    to: str, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    for architecture in ("riscv64", "s390x"):
        program(app / "lib" / f"{architecture}.so", architecture)
    push(app, to).failed(
        2, "linux/riscv64 (lib/riscv64.so), linux/s390x (lib/s390x.so)", "by --platform"
    )
    push(app, to, "--platform", "linux/s390x").ok()
    shutil.copy(sys.executable, app / "python")
    outcome = push(app, to, "--replace-index").ok()
    host = outcome.report["images"][0]["platform"]
    assert host == str(Platform.of_system(f"{os.uname().machine}-linux"))
    assert f"the image is for {host}, the platform of this machine" in outcome.stderr


def test_one_directory_for_several_platforms_holds_no_program_of_one_alone(
    to: str, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "main.py").write_text("print('the same everywhere')\n" * 3)
    outcome = push(app, to, "--platform", BOTH).ok()
    assert actions(outcome) == [["uploaded"], ["reused"]]
    assert [one["platform"]["architecture"] for one in raw(to)["manifests"]] == ["amd64", "arm64"]
    program(app / "bin/app", "amd64")
    push(app, to, "--platform", BOTH).failed(
        2, "is for linux/amd64 (bin/app), not for linux/arm64", "{arch}"
    )
    program(app / "bin/other", "arm64")
    push(app, to, "--platform", BOTH).ok()


def test_placeholders_without_a_platform_stand_for_this_machine(to: str, tmp_path: Path) -> None:
    host = Platform.of_system(f"{os.uname().machine}-linux")
    assert host
    push(builds(tmp_path, host.architecture), to).ok()
    assert raw(to)["mediaType"] != INDEX
