"""Every document that is read from a registry, damaged: with each command, any exit code but 1.

No command prints what a terminal or the runner of a CI service obeys. A little runs always;
`-m soak` runs for minutes.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.commands import HOSTILE, Ended, check, mutated, regpush, serialized
from tests.registry.api import CONFIG_TYPE, INDEX_TYPE, LAYER_TYPE, MANIFEST_TYPE
from tests.registry.static import StaticRegistry, digest_of, run_static_registry


@dataclass
class World:
    """A registry with an image of each kind, an app, and what stands there undamaged."""

    registry: StaticRegistry
    app: Path
    clean: StaticRegistry
    images: dict[str, tuple[dict[str, Any], dict[str, Any]]]

    def reset(self) -> None:
        for name in ("manifests", "blobs"):
            setattr(self.registry, name, dict(getattr(self.clean, name)))
        for name in ("tags", "referrers", "failure"):
            setattr(self.registry, name, getattr(self.clean, name))

    def ref(self, tag: str) -> str:
        return f"{self.registry.host}/team/app:{tag}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    app = tmp_path_factory.mktemp("fuzz") / "app"
    for name, text in (("main.py", "run()"), ("node_modules/a/package.json", '{"name":"a"}'),
                       ("node_modules/a/x.js", "x" * 3000)):  # fmt: skip
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(text)
    with run_static_registry() as registry:
        registry.referrers = json.dumps(
            {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
        ).encode()
        to = f"{registry.host}/team/app"
        base = {
            "os": "linux", "architecture": "amd64", "created": "2024-01-01T00:00:00Z",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "Labels": {"a": "b"},
                       "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "User": "1"},
            "history": [{"created_by": "sh"}, {"created_by": "x", "empty_layer": True}],
        }  # fmt: skip
        layer = gzip.compress(bytes(10240), mtime=0)
        base["rootfs"] = {"type": "layers", "diff_ids": [digest_of(bytes(10240))]}
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": {"mediaType": CONFIG_TYPE},
            "layers": [{"mediaType": LAYER_TYPE, "digest": registry.add_blob(layer),
                        "size": len(layer)}],
            "annotations": {"org.opencontainers.image.base.name": "docker.io/library/x"},
        }  # fmt: skip
        images = {"base": (manifest, base)}
        put_image(registry, "base", manifest, json.dumps(base).encode())
        flags = ["--no-cache", "--progress", "none", "--layers", "auto", "--sbom", "spdx"]
        done = regpush(app, "--to", f"{to}:app", "--from", f"{to}:base", *flags)
        assert done.code == 0, done.stderr
        (app / "main.py").write_text("run(2)")
        done = regpush(app, "--to", f"{to}:next", "--from", f"{to}:base", *flags)
        assert done.code == 0, done.stderr
        for tag in ("app", "next"):
            manifest = json.loads(registry.manifests[tag])
            images[tag] = manifest, json.loads(registry.blobs[manifest["config"]["digest"]])
        artifacts = [
            (digest, json.loads(data))
            for digest, data in registry.manifests.items()
            if digest.startswith("sha256:") and b'"subject"' in data
        ]
        registry.referrers = json.dumps({
            "schemaVersion": 2, "mediaType": INDEX_TYPE,
            "manifests": [
                {"mediaType": MANIFEST_TYPE, "digest": digest,
                 "size": len(registry.manifests[digest]),
                 "artifactType": one.get("artifactType") or one["config"]["mediaType"],
                 "annotations": {"a": "b"}}
                for digest, one in artifacts
            ],
        }).encode()  # fmt: skip
        assert artifacts
        registry.tags = json.dumps({"name": "team/app", "tags": ["base", "app", "next"]}).encode()
        index = {
            "schemaVersion": 2, "mediaType": INDEX_TYPE, "annotations": {"a": "b"},
            "manifests": [
                {"mediaType": MANIFEST_TYPE, "digest": digest_of(registry.manifests[tag]),
                 "size": len(registry.manifests[tag]),
                 "platform": {"os": "linux", "architecture": "amd64"}}
                for tag in ("app", "next")
            ],
        }  # fmt: skip
        index["manifests"][1]["platform"]["architecture"] = "arm64"
        registry.put("index", json.dumps(index).encode())
        images["index"] = index, {}
        yield World(registry=registry, app=app, clean=copy.copy(registry), images=images)


def put_image(registry: StaticRegistry, tag: str, manifest: Any, config: bytes) -> None:
    """Serve a manifest with a config; the manifest's descriptor of it is made right."""
    registry.add_blob(config)
    described = manifest.get("config") if isinstance(manifest, dict) else None
    if isinstance(described, dict):
        described |= {"digest": digest_of(config), "size": len(config)}
    registry.put(tag, json.dumps(manifest).encode())


def commands(world: World, tag: str, chance: random.Random) -> list[list[object]]:
    ref, other, app = world.ref(tag), world.ref("app"), world.app
    quiet = ["--no-cache", "--progress", "none", "--retry-times", "0"]
    loud = chance.choice([[], ["-v"], ["-vv"], ["-q"]])
    return [
        ["inspect", ref, *loud],
        ["inspect", ref, "--deep"],
        ["inspect", ref, other, "--format", "json"],
        ["inspect", ref, "--platform", "linux/arm64"],
        ["verify", ref, *loud],
        ["verify", ref, app],
        ["why", ref, other],
        ["why", other, ref],
        ["why", ref, app],
        ["history", f"{world.registry.host}/team/app"],
        ["sbom", ref],
        ["copy", ref, world.ref("copy"), "--referrers", "--progress", "none", "--retry-times", "0"],
        ["rebase", ref, "--from", world.ref("base"), "--progress", "none"],
        ["rebase", other, "--from", ref, "--progress", "none"],
        ["index", world.ref("joined"), ref, world.ref("next"), "--progress", "none"],
        ["plan", app, "--to", ref, *quiet[:3], "--layers", "auto"],
        [app, "--to", ref, *quiet, *loud],
        [app, "--to", ref, *quiet, "--layers", "auto", "--sbom", "cyclonedx", "--format", "json"],
        [app, "--to", world.ref("new"), "--from", ref, *quiet],
        [app, "--to", ref, "--if-exists", "skip", *quiet],
        ["doctor", f"{world.registry.host}/team/app"],
    ]


def damage(world: World, chance: random.Random) -> str:
    """Damage something that the registry says, and give the tag that it concerns."""
    registry = world.registry
    tag = chance.choice(["base", "app", "app", "index"])
    manifest, config = copy.deepcopy(world.images[tag])
    match chance.randrange(10):
        case 0 | 1 | 2:
            config = mutated(config, chance)
            put_image(registry, tag, manifest, serialized(config, chance))
        case 3 | 4 | 5:
            put_image(registry, tag, manifest, json.dumps(config).encode())
            registry.put(tag, serialized(mutated(manifest, chance), chance))
        case 6:
            registry.referrers = serialized(
                mutated(json.loads(registry.referrers or b"{}"), chance), chance
            )
        case 7:
            tags = [*json.loads(registry.tags or b"{}")["tags"], *chance.sample(HOSTILE, 3)]
            told = {"name": "team/app", "tags": tags}
            registry.tags = serialized(mutated(told, chance), chance)
        case 8:
            said = {"errors": [{"code": "DENIED", "message": "no", "detail": {"a": "b"}}]}
            registry.failure = serialized(mutated(said, chance), chance)
        case 9:
            for digest, data in list(registry.manifests.items()):
                if b'"subject"' in data:
                    registry.manifests[digest] = serialized(
                        mutated(json.loads(data), chance), chance
                    )
            documents = [one for one, data in registry.blobs.items() if data[:1] == b"{"]
            for digest in documents:
                if chance.random() < 0.3:
                    registry.blobs[digest] = serialized(
                        mutated(json.loads(registry.blobs[digest]), chance), chance
                    )
    return tag


def fuzz(world: World, count: int, seed: int) -> Counter[int]:
    chance, codes = random.Random(seed), Counter[int]()
    for number in range(count):
        world.reset()
        tag = damage(world, chance)
        words = chance.choice(commands(world, tag, chance))
        try:
            ended: Ended = regpush(*words, env={"REGPUSH_DEBUG": "1"})
            check(ended)
        except BaseException as error:
            error.add_note(f"number {number} of seed {seed}: {words} of {tag}")
            raise
        codes[ended.code] += 1
    return codes


def test_all_commands_work_on_what_is_undamaged(world: World) -> None:
    for tag in ("base", "app", "index"):
        for words in commands(world, tag, random.Random(1)):
            world.reset()
            ended = regpush(*words)
            check(ended)
            assert ended.code in (0, 2, 4, 6, 8), (words, ended.stderr)


@pytest.mark.parametrize(
    ("of", "field", "value"),
    [
        ("manifest", "annotations", ["x"]),
        ("manifest", "annotations", "x"),
        ("config", "history", 5),
        ("config", "history", ["x"]),
        ("config", "history", {"a": 1}),
    ],
)
def test_fields_of_another_type(world: World, of: str, field: str, value: object) -> None:
    """Each of these was a bug of regpush in verify, rebase or --from."""
    for tag in ("base", "app"):
        for at in range(len(commands(world, tag, random.Random(1)))):
            world.reset()
            manifest, config = copy.deepcopy(world.images[tag])
            (manifest if of == "manifest" else config)[field] = value
            put_image(world.registry, tag, manifest, json.dumps(config).encode())
            words = commands(world, tag, random.Random(1))[at]
            ended = regpush(*words, env={"REGPUSH_DEBUG": "1"})
            check(ended)
            if words[:2] == ["verify", world.ref(tag)] or words[:2] == ["rebase", world.ref(tag)]:
                assert (ended.code, field in ended.stderr) == (8, True), ended


@pytest.mark.parametrize("seed", range(3))
def test_no_document_is_a_bug_of_ours(world: World, seed: int) -> None:
    codes = fuzz(world, 40, seed)
    assert codes[0]
    assert codes[8]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 104))
def test_no_document_of_many_is_a_bug_of_ours(world: World, seed: int) -> None:
    print(dict(fuzz(world, 3000, seed)))
