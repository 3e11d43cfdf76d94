"""`regpush index`: what runners of several platforms pushed by digest becomes one image."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from regpush.commands.join import name_member
from regpush.reference import Reference
from tests.program import push, regpush
from tests.programs import builds
from tests.registry.api import CONFIG_TYPE, INDEX_TYPE, Api, descriptor, image_manifest, sha256
from tests.registry.faults import FOREVER, Rule, answers, error, fault_server
from tests.registry.outcomes import verify_image
from tests.registry.parts import real_part
from tests.registry.servers import Registry


def runner(tmp_path: Path, architecture: str, repository: str, *flags: str) -> str:
    """What the runner of one platform does: the reference it hands on."""
    target = builds(tmp_path / "dist", architecture).replace("{arch}", architecture)
    platform = ("--platform", f"linux/{architecture}")
    return push(target, repository, *platform, "--by-digest", *flags).ok().report["ref"]


@pytest.fixture
def pair(docker_registry: Registry, repository: str, tmp_path: Path) -> tuple[str, str, str]:
    """A repository, and the images in it of two runners."""
    at = f"{docker_registry.host}/{repository}"
    return at, runner(tmp_path, "amd64", at), runner(tmp_path, "arm64", at)


def raw(reference: str) -> dict:
    command = [real_part("skopeo"), "inspect", "--raw", "--tls-verify=false"]
    done = subprocess.run([*command, f"docker://{reference}"], capture_output=True, check=True)
    return json.loads(done.stdout)


def tags(registry: Registry, repository: str) -> list[str]:
    answer = Api(registry.host, repository).send("GET", f"/v2/{repository}/tags/list")
    return json.loads(answer.body).get("tags") or [] if answer.status == 200 else []


def test_runners_that_push_by_digest_and_one_that_joins(
    registry: Registry, repository: str, tmp_path: Path
) -> None:
    at = f"{registry.host}/{repository}"
    amd64, arm64 = runner(tmp_path, "amd64", at), runner(tmp_path, "arm64", at)
    files = ("--metadata-file", tmp_path / "meta", "--digest-file", tmp_path / "digest")
    done = regpush("index", f"{at}:v1", amd64, arm64, "-t", "latest", *files).ok()
    index = raw(f"{at}:v1")
    assert index == raw(f"{at}:latest") == raw(done.stdout.strip())
    assert [(one["platform"]["architecture"], one["digest"]) for one in index["manifests"]] == [
        ("amd64", amd64.rpartition("@")[2]),
        ("arm64", arm64.rpartition("@")[2]),
    ]
    report = json.loads((tmp_path / "meta").read_text())
    assert [one["platform"] for one in report["images"]] == ["linux/amd64", "linux/arm64"]
    assert report["destinations"][0]["moved"] == ["v1", "latest"]
    assert (tmp_path / "digest").read_text().strip() == report["digest"]
    # It is what one push of both gives, to the byte.
    both = push(tmp_path / "dist/{arch}", f"{at}:v1", "--platform", "linux/amd64,linux/arm64").ok()
    assert (both.report["digest"], both.report["changed"]) == (report["digest"], False)
    copy = [real_part("skopeo"), "copy", "--quiet", "--override-arch", "arm64"]
    source = ["--src-tls-verify=false", f"docker://{at}:latest"]
    subprocess.run([*copy, *source, f"dir:{tmp_path / 'got'}"], check=True)
    assert sha256((tmp_path / "got/manifest.json").read_bytes()) == arm64.rpartition("@")[2]


def test_what_may_name_an_image(
    pair: tuple[str, str, str], docker_registry: Registry, repository: str
) -> None:
    at, amd64, arm64 = pair
    other = arm64.rpartition("@")[2]
    regpush("index", f"{at}:v1", amd64, other, "--by-digest").failed(2, "--by-digest")
    said = {
        regpush("index", at, amd64, name, "--by-digest").ok().stdout
        for name in (other, f"@{other}", arm64)
    }
    assert len(said) == 1
    assert tags(docker_registry, repository) == []
    regpush("index", f"{at}:one", other).ok()
    regpush("index", f"{at}:two", amd64, "one", f"{at}:one").ok()  # an index stands for its images
    assert raw(f"{at}:two") == raw(said.pop().strip())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("v1", "h.example/me/app:v1"),
        (":v1", "h.example/me/app:v1"),
        (f"sha256:{'0' * 64}", f"h.example/me/app@sha256:{'0' * 64}"),
        (f"@sha256:{'0' * 64}", f"h.example/me/app@sha256:{'0' * 64}"),
        ("debian:12", "docker.io/library/debian:12"),
        ("other.example/app", "other.example/app"),
        ("me/app", "docker.io/me/app"),
    ],
)
def test_a_name_alone_is_of_the_same_repository(text: str, named: str) -> None:
    assert str(name_member(text, Reference.parse("h.example/me/app:v2"))) == named


def test_nothing_is_tagged_where_an_image_is_missing_or_two_are_for_one_platform(
    pair: tuple[str, str, str], docker_registry: Registry, repository: str, tmp_path: Path
) -> None:
    at, amd64, arm64 = pair
    nobody = f"{at}@sha256:{'0' * 64}"
    regpush("index", f"{at}:v1", amd64, nobody).failed(4, "no such image", nobody)
    regpush("index", f"{at}:v1", amd64, "gone").failed(4, f"no such image: {at}:gone")
    (tmp_path / "dist/amd64/start.sh").write_text("another\n")
    twice = push(tmp_path / "dist/amd64", at, "--platform", "linux/amd64", "--by-digest").ok()
    regpush("index", f"{at}:v1", amd64, arm64, twice.report["ref"]).failed(
        2, "two images are for linux/amd64", amd64, twice.report["ref"]
    )
    regpush("index", f"{at}:v1", "@sha256:12").failed(2, "not a digest")
    regpush("index", f"{at}@sha256:{'0' * 64}", amd64).failed(2, "cannot push to a digest")
    assert tags(docker_registry, repository) == []


def test_what_is_no_image_is_refused(docker_registry: Registry, repository: str) -> None:
    registry = docker_registry
    api = Api(registry.host, repository)
    config, layer = b'{"not":"an image"}', b"x"
    for blob in (config, layer):
        api.put_blob(blob)
    other = {**descriptor(config, CONFIG_TYPE), "mediaType": "application/vnd.example+json"}
    artifact = image_manifest(config, layer, config=other)
    assert api.put_manifest("artifact", artifact).status == 201
    empty = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}).encode()
    assert api.put_manifest("empty", empty, INDEX_TYPE).status == 201
    at = f"{registry.host}/{repository}"
    regpush("index", f"{at}:v1", "artifact").failed(8, f"{at}:artifact", "not an image")
    regpush("index", f"{at}:v1", "empty").failed(2, f"{at}:empty", "without an image")
    assert "v1" not in tags(registry, repository)


def test_images_of_other_repositories_and_registries_are_copied(
    docker_registry: Registry, embedded_registry: Registry, repository: str, tmp_path: Path
) -> None:
    amd64 = runner(tmp_path, "amd64", f"{docker_registry.host}/{repository}/one")
    arm64 = runner(tmp_path, "arm64", f"{embedded_registry.host}/{repository}/two")
    at = f"{docker_registry.host}/{repository}/all"
    done = regpush("index", f"{at}:v1", amd64, arm64, "--format", "json").ok()
    actions = [{layer["action"] for layer in one["layers"]} for one in done.report["images"]]
    # What both share came with the first.
    assert actions == [{"mounted"}, {"reused", "uploaded"}]
    assert [one["digest"] for one in raw(f"{at}:v1")["manifests"]] == [
        one.rpartition("@")[2] for one in (amd64, arm64)
    ]
    for one in (amd64, arm64):
        digest = one.rpartition("@")[2]
        assert verify_image(docker_registry.host, f"{repository}/all", digest) == digest
    assert tags(docker_registry, f"{repository}/all") == ["v1"]
    again = regpush("index", f"{at}:v1", amd64, arm64, "--format", "json").ok().report
    assert (again["changed"], again["bytes"]["uploaded"]) == (False, 0)


def test_rules_for_tags_hold(pair: tuple[str, str, str]) -> None:
    at, amd64, arm64 = pair
    first = regpush("index", f"{at}:v1", amd64, arm64, "--if-exists", "fail").ok().stdout.strip()
    for rule in ("fail", "same"):
        regpush("index", f"{at}:v1", amd64, "--if-exists", rule).failed(6, f"{at}:v1")
    regpush("index", f"{at}:v1", amd64, arm64, "--if-exists", "same").ok()
    left = regpush("index", f"{at}:v1", amd64, "--if-exists", "skip").ok()
    assert left.stdout.strip() == first
    current = first.rpartition("@")[2]
    moved = regpush("index", f"{at}:v1", amd64, "--if-current", current, "-a", "who=me").ok()
    assert "v1 also contains linux/arm64; this push removes it" in moved.stderr
    assert raw(f"{at}:v1")["annotations"] == {"who": "me"}
    regpush("index", f"{at}:v1", amd64, arm64, "--if-current", current).failed(6, "somebody moved")


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (Rule(error(403, "DENIED"), "PUT", "manifest", times=FOREVER), 4),
        (Rule(answers(500), "GET", "blob", times=FOREVER), 5),
    ],
)
def test_no_tag_moves_where_the_registry_fails(
    docker_registry: Registry, repository: str, tmp_path: Path, rule: Rule, code: int
) -> None:
    registry = docker_registry
    amd64 = runner(tmp_path, "amd64", f"{registry.host}/{repository}").rpartition("@")[2]
    with fault_server(registry.host, rule) as server:
        regpush(
            "index", f"{server.host}/{repository}:v1", amd64, "--retry-times", "0"
        ).failed(code)  # fmt: skip
    assert tags(registry, repository) == []
