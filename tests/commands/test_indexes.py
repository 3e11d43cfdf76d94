"""Indexes as the image-spec allows them, through every command that reads one.

The index of most tests is of one shape and every oddity: an attestation first, an artifact for
the very platform that is asked for, an inner index of Docker's type, an image that says its
platform in its config alone, one twice. What is right for a platform is what its maker put.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.flow.test_from import app, layer
from tests.program import push, regpush
from tests.registry.api import (
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    Api,
    descriptor,
    sha256,
)
from tests.registry.servers import Registry

__all__ = ["app"]

DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ARTIFACT = "application/vnd.example.chart.v1+json"
Entry = dict[str, Any]


class Shelf(Api):
    """One repository that takes images and indexes of any shape."""

    def image(self, name: str, architecture: str, *, docker: bool = False, **said: str) -> Entry:
        """An image of one layer that holds the file `name`; its descriptor, with no platform."""
        unpacked = gzip.decompress(layer(f"base/{name}", name))
        packed = layer(f"base/{name}", name)
        where = {"os": "linux", "architecture": architecture, **said}
        rootfs = {"type": "layers", "diff_ids": [sha256(unpacked)]}
        config = json.dumps({**where, "config": {}, "rootfs": rootfs}).encode()
        for blob in (packed, config):
            self.put_blob(blob)
        return self.document(
            DOCKER_MANIFEST if docker else MANIFEST_TYPE,
            config=descriptor(config, DOCKER_CONFIG if docker else CONFIG_TYPE),
            layers=[descriptor(packed, DOCKER_LAYER if docker else LAYER_TYPE)],
        )

    def artifact(self, config_type: str = ARTIFACT, *, about: str = "") -> Entry:
        self.put_blob(b"{}")
        config = descriptor(b"{}", config_type)
        return self.document(MANIFEST_TYPE, config=config, layers=[], annotations={"about": about})

    def index(self, *entries: Entry, tag: str = "", docker: bool = False) -> Entry:
        return self.document(
            DOCKER_INDEX if docker else INDEX_TYPE, tag=tag, manifests=list(entries)
        )

    def document(self, media_type: str, *, tag: str = "", **content: Any) -> Entry:
        data = json.dumps({"schemaVersion": 2, "mediaType": media_type, **content}).encode()
        assert self.put_manifest(tag or sha256(data), data, media_type).status == 201
        return descriptor(data, media_type)

    def read(self, reference: str) -> dict[str, Any]:
        types = ", ".join((MANIFEST_TYPE, INDEX_TYPE, DOCKER_INDEX, DOCKER_MANIFEST))
        got = self.send("GET", f"{self.base}/manifests/{reference}", headers={"Accept": types})
        assert got.status == 200
        return json.loads(got.body)


def on(entry: Entry, architecture: str, variant: str = "", **more: Any) -> Entry:
    said = {"variant": variant} if variant else {}
    return {**entry, "platform": {"os": "linux", "architecture": architecture, **said, **more}}


def attestation(shelf: Shelf, of: Entry, **more: Any) -> Entry:
    """What BuildKit lists beside an image."""
    about = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": of["digest"],
    }
    statement = shelf.artifact(CONFIG_TYPE, about=of["digest"])
    unknown = {"os": "unknown", "architecture": "unknown"}
    return {**statement, "annotations": about, "platform": unknown, **more}


@dataclass(frozen=True, slots=True)
class Odd:
    """`ref` names the odd index; `right` is the image for each platform."""

    shelf: Shelf
    ref: str
    right: dict[str, Entry]
    attestations: tuple[Entry, ...]


@pytest.fixture
def odd(docker_registry: Registry, repository: str) -> Odd:
    shelf = Shelf(docker_registry.host, f"{repository}-base")
    amd64 = shelf.image("amd64", "amd64")
    arm64 = shelf.image("arm64", "arm64", docker=True, variant="v8")
    arm = shelf.image("arm", "arm", variant="v7")
    s390x = shelf.image("s390x", "s390x")
    about = attestation(shelf, amd64), attestation(shelf, arm64)
    shelf.index(
        about[0],
        on(shelf.artifact(), "amd64"),
        {**shelf.artifact(), "artifactType": ARTIFACT},
        shelf.artifact(),
        on(shelf.index(on(arm64, "arm64", "v8"), about[1], docker=True), "arm64"),
        shelf.index(on(s390x, "s390x")),
        on(amd64, "amd64"),
        arm,
        on(amd64, "amd64"),
        tag="odd",
    )
    right = {
        "linux/amd64": amd64,
        "linux/arm64": arm64,
        "linux/arm/v7": arm,
        "linux/s390x": s390x,
    }
    return Odd(shelf, f"{docker_registry.host}/{repository}-base:odd", right, about)


PLATFORMS = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_one_image_is_found_wherever_it_lies(odd: Odd, platform: str) -> None:
    wanted = odd.right[platform]["digest"]
    flags = ("--platform", platform, "--format", "json")
    assert regpush("inspect", odd.ref, *flags).ok().report["digest"] == wanted
    (checked,) = regpush("verify", odd.ref, *flags).ok().report["images"]
    assert checked["digest"] == wanted
    copied = regpush("copy", odd.ref, f"{odd.ref}-copy", *flags).ok().report
    assert copied["digest"] == wanted


def test_bases_are_found_wherever_they_lie(odd: Odd, repository: str, app: Path) -> None:
    to = f"{odd.shelf.host}/{repository}:v1"
    done = push(app, to, "--from", odd.ref, "--platform", ",".join(PLATFORMS)).ok().report
    bases = {one["platform"]: one["base"]["digest"] for one in done["images"]}
    wanted = {platform: entry["digest"] for platform, entry in odd.right.items()}
    assert bases == wanted


def test_all_images_of_it_are_verified_once_each(odd: Odd) -> None:
    report = regpush("verify", odd.ref, "--format", "json").ok().report
    found = [one["digest"] for one in report["images"]]
    order = ["linux/arm64", "linux/s390x", "linux/amd64", "linux/arm/v7"]
    assert found == [odd.right[platform]["digest"] for platform in order]


def test_a_copy_of_it_is_whole(odd: Odd, embedded_registry: Registry, repository: str) -> None:
    to = f"{embedded_registry.host}/{repository}:odd"
    regpush("copy", odd.ref, to).ok()
    copied = Shelf(embedded_registry.host, repository)
    assert copied.read("odd") == odd.shelf.read("odd")
    for entry in (*odd.right.values(), *odd.attestations):
        assert copied.read(entry["digest"]) == odd.shelf.read(entry["digest"])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_index_of_it_keeps_attestations_and_says_what_it_drops(
    odd: Odd, repository: str, elsewhere: bool
) -> None:
    name = repository if elsewhere else f"{repository}-base"
    done = regpush("index", f"{odd.shelf.host}/{name}:all", odd.ref).ok()
    made = Shelf(odd.shelf.host, name).read("all")
    right, about = odd.right, odd.attestations
    # Entries that say their platform stand as they were, down to a v8 that is no other platform.
    assert made["manifests"] == [
        on(right["linux/arm64"], "arm64", "v8"),
        on(right["linux/s390x"], "s390x"),
        on(right["linux/amd64"], "amd64"),
        on(right["linux/arm/v7"], "arm", "v7"),
        about[1],
        about[0],
    ]
    assert "the new index leaves out entries of the index" in done.stderr
    assert "attestations about these images: 1\n" in done.stderr
    for entry in about:
        assert Shelf(odd.shelf.host, name).read(entry["digest"])


def test_foreign_entries_of_an_index_are_kept_as_they_are(
    docker_registry: Registry, repository: str
) -> None:
    shelf = Shelf(docker_registry.host, repository)
    one = on(
        shelf.image("one", "aarch64"),
        "aarch64",
        **{"os.version": "1.2", "os.features": ["x"]},
        annotations={"org.example": "kept"},
    )
    shelf.index(one, tag="one")
    shelf.document(
        MANIFEST_TYPE, tag="two", **{k: shelf.read(one["digest"])[k] for k in ("config", "layers")}
    )
    at = f"{shelf.host}/{repository}"
    regpush("index", f"{at}:all", "one").ok()
    assert shelf.read("all")["manifests"] == [one]
    # An image alone has no entry yet: the one made for it is spelt as runtimes look for it.
    regpush("index", f"{at}:new", "two").ok()
    assert shelf.read("new")["manifests"][0]["platform"] == {
        "os": "linux",
        "architecture": "arm64",
    }


def test_two_spellings_of_one_platform_do_not_go_into_one_index(
    docker_registry: Registry, repository: str
) -> None:
    shelf = Shelf(docker_registry.host, repository)
    shelf.index(on(shelf.image("a", "arm64"), "arm64"), tag="a")
    shelf.index(on(shelf.image("b", "aarch64", variant="v8"), "arm64", "v8"), tag="b")
    regpush("index", f"{shelf.host}/{repository}:all", "a", "b").failed(2, "two images are for")


def test_a_rebase_of_it_leaves_out_what_is_about_the_images_before(
    odd: Odd, repository: str, app: Path
) -> None:
    shelf = Shelf(odd.shelf.host, repository)
    at = f"{shelf.host}/{repository}"
    pair = "linux/amd64,linux/arm64"
    push(app, f"{at}:own", "--from", odd.ref, "--platform", pair).ok()
    amd64, arm64 = shelf.read("own")["manifests"]
    shelf.index(attestation(shelf, amd64), amd64, on(shelf.index(arm64), "arm64"), tag="v1")
    same = regpush("rebase", f"{at}:v1", "--from", odd.ref, "--format", "json").ok()
    assert not same.report["changed"]
    assert len(shelf.read("v1")["manifests"]) == 3
    new = odd.shelf.image("new", "amd64"), odd.shelf.image("newer", "arm64")
    odd.shelf.index(odd.shelf.index(new[0]), on(new[1], "arm64"), tag="new")
    base = odd.ref.replace(":odd", ":new")
    done = regpush("rebase", f"{at}:v1", "--from", base, "--format", "json").ok()
    assert "entries of the old one that are not images, such as attestations" in done.stderr
    assert "before the rebase: 1\n" in done.stderr
    entries = shelf.read("v1")["manifests"]
    assert [one["platform"] for one in entries] == [amd64["platform"], arm64["platform"]]
    assert [one["digest"] for one in entries] == [one["digest"] for one in done.report["images"]]
    bases = [one["base"]["digest"] for one in done.report["images"]]
    assert bases == [one["digest"] for one in new]


@pytest.mark.parametrize(
    ("base", "platform", "code"),
    [
        (("arm", "v7"), "linux/arm/v6", 2),
        (("arm", "v6"), "linux/arm/v7", 0),
        (("arm", "v5"), "linux/arm", 0),
        (("arm", "v8"), "linux/arm", 2),
        (("arm", ""), "linux/arm/v6", 2),
        (("arm", ""), "linux/arm/v7", 0),
        (("amd64", "v3"), "linux/amd64/v2", 2),
        (("amd64", "v3"), "linux/amd64", 2),
        (("amd64", "v2"), "linux/amd64/v3", 0),
        (("amd64", "v1"), "linux/amd64", 0),
        (("arm64", "v8"), "linux/arm64", 0),
        (("arm64", ""), "linux/arm64/v8", 0),
        (("aarch64", ""), "linux/arm64", 0),
        (("arm64", "v9"), "linux/arm64", 2),
        (("386", ""), "linux/amd64", 2),
    ],
)
@pytest.mark.parametrize("indexed", [False, True])
def test_a_base_must_run_where_the_image_is_for(
    docker_registry: Registry,
    repository: str,
    app: Path,
    base: tuple[str, str],
    platform: str,
    code: int,
    indexed: bool,
) -> None:
    """By containerd's rules, of the same architecture; the image alone, and in an index."""
    shelf = Shelf(docker_registry.host, repository)
    architecture, variant = base
    said = {"variant": variant} if variant else {}
    image = shelf.image("one", architecture, **said)
    if indexed:
        shelf.index(on(image, architecture, variant), tag="base")
    else:
        shelf.document(
            MANIFEST_TYPE,
            tag="base",
            **{key: shelf.read(image["digest"])[key] for key in ("config", "layers")},
        )
    at = f"{shelf.host}/{repository}"
    done = push(app, f"{at}:v1", "--from", f"{at}:base", "--platform", platform)
    if code:
        done.failed(code, platform)
        assert shelf.send("GET", f"{shelf.base}/manifests/v1").status == 404
    else:
        done.ok()


def test_the_best_variant_is_chosen(docker_registry: Registry, repository: str) -> None:
    shelf = Shelf(docker_registry.host, repository)
    variants = {name: shelf.image(name, "arm", variant=name) for name in ("v5", "v7", "v6")}
    shelf.index(*(on(one, "arm", name) for name, one in variants.items()), tag="v1")
    at = f"{shelf.host}/{repository}:v1"
    for platform, best in {"arm": "v7", "arm/v8": "v7", "arm/v6": "v6", "arm/v5": "v5"}.items():
        flags = ("--platform", f"linux/{platform}", "--format", "json")
        found = regpush("inspect", at, *flags).ok().report
        assert found["digest"] == variants[best]["digest"], platform


def test_indexes_without_an_end_are_refused(docker_registry: Registry, repository: str) -> None:
    shelf = Shelf(docker_registry.host, repository)
    inner = on(shelf.image("x", "amd64"), "amd64")
    for _ in range(6):
        inner = shelf.index(inner)
    shelf.index(inner, tag="deep")
    at = f"{shelf.host}/{repository}:deep"
    regpush("inspect", at, "--platform", "linux/amd64").failed(8, "indexes nested more than 4 deep")
    regpush("verify", at).failed(8, "indexes nested more than 4 deep")


def test_a_wrong_size_in_an_index_is_found(docker_registry: Registry, repository: str) -> None:
    """Registries take it, and containerd pulls nothing by it: no new index repeats it."""
    shelf = Shelf(docker_registry.host, repository)
    image = on(shelf.image("x", "amd64"), "amd64")
    wrong = image | {"size": image["size"] + 1}
    shelf.index(wrong, tag="wrong")
    shelf.index(shelf.index(wrong), tag="nested")
    said = f"states {wrong['size']} bytes for {image['digest']}, which has {image['size']}"
    for tag in ("wrong", "nested"):
        at = f"{shelf.host}/{repository}:{tag}"
        regpush("verify", at).failed(8, said)
        regpush("index", f"{shelf.host}/{repository}:joined", at).failed(8, said)
        regpush("inspect", at, "--platform", "linux/amd64").ok()


def test_an_index_without_images_says_so(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    shelf = Shelf(docker_registry.host, f"{repository}-base")
    shelf.index(tag="empty")
    shelf.index(attestation(shelf, shelf.image("x", "amd64")), tag="statements")
    for tag in ("empty", "statements"):
        at = f"{shelf.host}/{repository}-base:{tag}"
        for flags in ((), ("--platform", "linux/amd64")):
            regpush("inspect", at, *flags).failed(8, "is an index without images")
        to = f"{shelf.host}/{repository}:v1"
        push(app, to, "--from", at).failed(8, "is an index without images")


def test_an_image_without_a_date_names_none(docker_registry: Registry, repository: str) -> None:
    shelf = Shelf(docker_registry.host, repository)
    shelf.index(on(shelf.image("x", "amd64"), "amd64"), tag="v1")
    at = f"{shelf.host}/{repository}:v1"
    shown = regpush("inspect", at, "--platform", "linux/amd64").ok().stdout.splitlines()
    assert shown[1] == "linux/amd64"


def test_an_image_made_on_a_nested_base_runs_as_one(
    odd: Odd, repository: str, app: Path, tmp_path: Path
) -> None:
    """Unpacked by skopeo and umoci: the base's file and the app's."""
    to = f"{odd.shelf.host}/{repository}:v1"
    push(app, to, "--from", odd.ref, "--platform", "linux/s390x").ok()
    rootfs = images.unpack(to, tmp_path / "out")
    assert (rootfs / "base/s390x").read_text() == "s390x"
    assert (rootfs / "app").is_dir()


def test_what_is_attached_to_an_index_and_to_its_images_is_shown(
    embedded_registry: Registry, repository: str
) -> None:
    shelf = Shelf(embedded_registry.host, repository)
    amd64, arm64 = (shelf.image(name, name) for name in ("amd64", "arm64"))
    index = shelf.index(on(amd64, "amd64"), on(shelf.index(on(arm64, "arm64")), "arm64"), tag="v1")
    shelf.index(on(amd64, "amd64"), tag="one")

    def attach(subject: Entry, kind: str) -> str:
        manifest = {**shelf.read(shelf.artifact(kind, about=subject["digest"])["digest"])}
        del manifest["schemaVersion"], manifest["mediaType"]
        return str(shelf.document(MANIFEST_TYPE, **manifest, subject=subject)["digest"])

    signature = attach(index, "application/x-signature")
    bill = attach(arm64, "application/x-bill")
    at = f"{shelf.host}/{repository}"
    told = regpush("inspect", f"{at}:v1", "--format", "json").ok().report["images"]
    assert [[one["digest"] for one in image["referrers"]] for image in told] == [[], [bill]]
    for image in told:
        assert (image["index"]["digest"], image["index"]["media_type"]) == (
            index["digest"],
            INDEX_TYPE,
        )
        assert [one["digest"] for one in image["index"]["referrers"]] == [signature]
    shown = regpush("inspect", f"{at}:v1").ok().stdout.splitlines()
    assert shown[-2:] == [
        f"attached to 2: application/x-bill {bill}",
        f"attached to the index {at}:v1: application/x-signature {signature}",
    ]
    one = regpush("inspect", f"{at}:v1", "--platform", "linux/arm64").ok().stdout
    assert f"attached: application/x-bill {bill}\n" in one
    assert f"attached to the index: application/x-signature {signature}\n" in one
    (bare,) = (
        regpush("inspect", f"{at}@{arm64['digest']}", "--format", "json").ok().report["referrers"]
    )
    assert bare["digest"] == bill
    alone = regpush("inspect", f"{at}@{amd64['digest']}", "--format", "json").ok().report
    assert "index" not in alone
    assert "attached" not in regpush("inspect", f"{at}:one").ok().stdout
