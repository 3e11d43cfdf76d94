"""`regpush tags` and `regpush tag`: what names what in a repository, by a real registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.test_indexes import Shelf, attestation, on
from tests.flow.test_push_directory import app
from tests.program import push, regpush
from tests.registry.api import sha256
from tests.registry.servers import Registry
from tests.registry_client.front import Answer, Asked, front

__all__ = ["app"]


@pytest.fixture
def shelf(docker_registry: Registry, repository: str) -> Shelf:
    return Shelf(docker_registry.host, repository)


def at(shelf: Shelf) -> str:
    return f"{shelf.host}/{shelf.base.removeprefix('/v2/')}"


def size(shelf: Shelf, *entries: dict) -> int:
    """Bytes of the blobs of images, each once."""
    blobs = {}
    for entry in entries:
        manifest = shelf.read(entry["digest"])
        for blob in (manifest["config"], *manifest["layers"]):
            blobs[blob["digest"]] = blob["size"]
    return sum(blobs.values())


def test_tags_are_listed_with_what_they_name(shelf: Shelf) -> None:
    amd64 = shelf.image("x", "amd64", created="2024-05-06T07:08:09Z")
    arm = shelf.image("x", "arm", variant="v7", created="2025-01-02T03:04:05Z")
    whole = shelf.index(on(amd64, "amd64"), arm, attestation(shelf, amd64), tag="1.10")
    inner = shelf.index(on(amd64, "amd64"), tag="1.9")
    shelf.index(inner, tag="z")
    thing = shelf.document(
        "application/vnd.oci.image.manifest.v1+json",
        tag="chart",
        config=shelf.read(shelf.artifact()["digest"])["config"],
        layers=[],
    )
    shelf.index(tag=f"sha256-{'0' * 64}")
    report = regpush("tags", at(shelf), "--format", "json").ok().report
    assert (report["repository"], report["complete"]) == (at(shelf), True)
    found = {one["tag"]: one for one in report["tags"]}
    assert list(found) == ["chart", "z", "1.9", "1.10"]
    assert found["1.10"]["digest"] == whole["digest"]
    assert found["1.10"]["platforms"] == ["linux/amd64", "linux/arm/v7"]
    assert found["1.10"]["created"] == "2025-01-02T03:04:05Z"
    assert found["1.10"]["size"] == size(shelf, amd64, arm)
    assert found["z"]["platforms"] == ["linux/amd64"]
    assert found["z"]["size"] == size(shelf, amd64)
    assert found["chart"]["digest"] == thing["digest"]
    assert (found["chart"]["platforms"], found["chart"]["problem"]) == ([], "not an image")
    rows = regpush("tags", at(shelf)).ok().stdout.splitlines()
    assert rows[0].split() == ["tag", "digest", "platforms", "size", "created"]
    assert rows[4].split()[:4] == [
        "1.10", whole["digest"][: len("sha256:") + 12], "linux/amd64,", "linux/arm/v7",
    ]  # fmt: skip
    assert rows[4].endswith("2025-01-02")
    assert rows[1].split()[2:] == ["not", "an", "image", "-", "-"]


def test_a_list_that_is_cut_off_is_said_to_be() -> None:
    """Registries that link one page of tags to itself exist; a list of thousands is cut too."""
    again = {"Link": '</v2/x/tags/list>; rel="next"'}

    def answer(asked: Asked) -> Answer:
        return Answer(200, again, b'{"tags":["a"]}') if "/tags/" in asked.target else Answer(404)

    with front(answer) as endless:
        done = regpush("tags", f"{endless.host}/x", "--format", "json").ok()
    assert (done.report["complete"], len(done.report["tags"])) == (False, 1)
    assert "warning: " in done.stderr
    assert "the repository has more tags; only the first 1 were read" in done.stderr


def test_no_such_repository(shelf: Shelf) -> None:
    regpush("tags", at(shelf)).failed(4, at(shelf))


def test_a_tag_that_cannot_be_read_is_no_end(shelf: Shelf, docker_registry: Registry) -> None:
    shelf.index(on(shelf.image("x", "amd64"), "amd64"), tag="good")
    lost = shelf.image("y", "amd64")
    shelf.index(on(lost, "amd64"), tag="bad")
    name, digest = shelf.base.removeprefix("/v2/"), lost["digest"].removeprefix("sha256:")
    revisions = docker_registry.storage / f"docker/registry/v2/repositories/{name}/_manifests"
    (revisions / f"revisions/sha256/{digest}/link").unlink()
    report = regpush("tags", at(shelf), "--format", "json").ok().report
    bad, good = report["tags"]
    assert "lacks" in bad["problem"]
    assert "problem" not in good


def test_further_tags_name_the_image_where_it_stands(shelf: Shelf, app: Path) -> None:
    name = at(shelf)
    digest = push(app, f"{name}:v1").ok().report["digest"]
    done = regpush("tag", f"{name}:v1", "v2", ":v3", f"{name}:v4", "--format", "json").ok()
    assert done.report["destinations"][0]["moved"] == ["v2", "v3", "v4"]
    assert done.report["digest"] == digest
    assert done.report["bytes"]["reused"] == 0  # no blob was looked at
    for tag in ("v2", "v3", "v4"):
        assert sha256(shelf.manifest(tag).body) == digest
    assert not regpush("tag", f"{name}@{digest}", "v2", "--format", "json").ok().report["changed"]


def test_an_index_takes_a_tag_and_gives_it_up(shelf: Shelf) -> None:
    name = at(shelf)
    image = shelf.image("x", "amd64")
    index = shelf.index(on(image, "amd64"), tag="index")
    regpush("tag", f"{name}:index", "latest").ok()
    assert shelf.read("latest") == shelf.read("index")
    regpush("tag", f"{name}@{image['digest']}", "latest").ok()
    assert shelf.read("latest") == shelf.read(image["digest"])
    assert index


@pytest.mark.parametrize(
    ("new", "code", "words"),
    [
        ("other.example/app:v2", 2, "regpush copy"),
        ("bad tag", 2, "bad tag"),
        ("", 2, "bad tag"),
    ],
)
def test_what_is_no_tag_here(shelf: Shelf, app: Path, new: str, code: int, words: str) -> None:
    push(app, f"{at(shelf)}:v1").ok()
    regpush("tag", f"{at(shelf)}:v1", new).failed(code, words)


def test_rules_of_tags_hold(shelf: Shelf, app: Path) -> None:
    name = at(shelf)
    first = push(app, f"{name}:v1").ok().report["digest"]
    (app / "another").write_text("x")
    push(app, f"{name}:v2").ok()
    regpush("tag", f"{name}:v1", "v2", "--if-exists", "fail").failed(6, "v2")
    regpush("tag", f"{name}:v1", "v2", "--if-current", first).failed(6, "v2")
    regpush("tag", f"{name}:gone", "v3").failed(4, "no such image")


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("ls", "localhost:1/x"), "regpush tags"),
        (("list", "localhost:1/x"), "regpush tags"),
        (("retag", "localhost:1/x:1", "2"), "regpush tag"),
        (("tasg", "localhost:1/x"), "regpush tag"),
    ],
)
def test_close_words_lead_to_the_command(words: tuple[str, ...], command: str) -> None:
    regpush(*words).failed(2, f"did you mean '{command}")


def test_help_is_what_the_flag_shows() -> None:
    assert regpush("help").ok().stdout == regpush("--help").ok().stdout
    assert regpush("help", "copy").ok().stdout == regpush("copy", "--help").ok().stdout
    regpush("help", "retag").failed(2, "no command 'retag'", "regpush help tag")
    regpush("help", "zzz").failed(2, "no command 'zzz'")


def test_the_report_is_of_the_schema(shelf: Shelf) -> None:
    schema = json.loads(regpush("schema", "tags").ok().stdout)
    assert schema["$ref"].endswith("/tags")
