"""`regpush verify`: a registry whose storage was tampered with, and images that lie."""

import gzip
import hashlib
import json
import os
import subprocess

import pytest
import zstandard

from regpush.commands.verify import Sample
from regpush.digest import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Digest
from regpush.errors import UsageError, VerificationError
from regpush.pack.compression import decompressed
from tests.program import push, regpush
from tests.registry.api import INDEX_TYPE, Api
from tests.registry.parts import real_part
from tests.stores import NixStore, guix_store


@pytest.fixture
def app(tmp_path, repository):
    """One of its own for each test: blobs that are spoiled are nobody else's."""
    root = tmp_path / "app"
    for name in ("left-pad", "right-pad", "is-odd"):
        (root / "node_modules" / name).mkdir(parents=True)
        (root / "node_modules" / name / "index.js").write_text(f"{name} {repository}\n" * 3000)
    (root / "main.js").write_text(f"run({repository})\n")
    return root


@pytest.fixture
def pushed(docker_registry, repository, app):
    """An image of some layers: its reference, and its layers as reported."""
    to = f"{docker_registry.host}/{repository}"
    done = push(app, to, "--layers", "size", "--max-layers", "9").ok()
    return to, done.report["images"][0]["layers"]


def stored(registry, digest):
    """Where Debian's registry keeps a blob."""
    plain = digest.partition(":")[2]
    return registry.storage / "docker/registry/v2/blobs/sha256" / plain[:2] / plain / "data"


def verify(*arguments, **more):
    done = regpush("verify", *arguments, "--format", "json", **more)
    return done.code, json.loads(done.stdout), done.stderr


def wrong(*arguments, code=8, **more):
    """The report's problems by layer number, 0 being the image; the error line agrees."""
    found, report, stderr = verify(*arguments, **more)
    assert found == code, stderr
    problems = {}
    for image in report["images"]:
        if image["problems"]:
            problems[0] = image["problems"]
        problems |= {one["number"]: one["problems"] for one in image["layers"] if one["problems"]}
    assert report["ok"] is (code == 0)
    assert bool(problems) is (code == 8)
    line = stderr.splitlines()[-1] if stderr else ""
    for number in problems:
        if number:
            layer = next(o for i in report["images"] for o in i["layers"] if o["number"] == number)
            if f"layer {number} of" in line:
                assert layer["digest"] in line
    return problems, line


def test_what_was_pushed_is_right(registry, repository, app):
    to = f"{registry.host}/{repository}"
    for flags in ([], ["--compression", "zstd"], ["--compression", "none"]):
        push(app, to, "--reuse", "none", *flags).ok()
        assert wrong(to, code=0)[0] == {}
    code, report, _ = verify(to, app)
    assert code == 0
    (image,) = report["images"]
    assert all(layer["bytes_read"] == layer["size"] for layer in image["layers"])
    assert all(layer["compared"] for layer in image["layers"])
    shown = regpush("verify", to, app).ok().stdout
    assert "all right" in shown
    assert "packed again from the target" in shown


def spoil_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_byte, "is damaged: the bytes that the registry sent have another digest"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "bytes instead of"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes instead of"),
        (lambda path: path.unlink(), "is missing in the registry, though a manifest names it"),
    ],
    ids=["flipped", "cut", "longer", "gone"],
)
def test_a_blob_that_was_changed_on_disk(docker_registry, pushed, spoil, words):
    to, layers = pushed
    layer = layers[1]
    spoil(stored(docker_registry, layer["digest"]))
    problems, line = wrong(to)
    assert list(problems) == [2]
    assert words in problems[2][0]
    assert f"layer 2 of {len(layers)} ({layer['digest']}; " in line
    assert "node_modules" in layer["items"][0]
    assert layer["items"][0].rpartition("/")[2] in line


def test_a_config_that_was_changed_on_disk(docker_registry, pushed):
    to, _ = pushed
    raw = subprocess.run(
        [real_part("skopeo"), "inspect", "--tls-verify=false", "--raw", f"docker://{to}"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    path = stored(docker_registry, json.loads(raw)["config"]["digest"])
    spoil_byte(path)
    regpush("verify", to).failed(8, "another digest")


def changed(registry, repository, change):
    """Put the image back with its manifest and config `change`d."""
    api = Api(registry.host, repository)
    manifest = json.loads(api.manifest("latest").body)
    config = json.loads(api.blob(manifest["config"]["digest"]).body)
    change(manifest, config)
    body = json.dumps(config).encode()
    digest = api.put_blob(body)
    manifest["config"] |= {"digest": digest, "size": len(body)}
    assert api.put_manifest("latest", json.dumps(manifest).encode()).status == 201
    return api


OTHER = "sha256:" + hashlib.sha256(b"other").hexdigest()


def diff_id(manifest, config):
    config["rootfs"]["diff_ids"][2] = OTHER


def size(manifest, config):
    manifest["layers"][2]["annotations"]["dev.regpush.size"] = "1234"


def no_size(manifest, config):
    manifest["layers"][2]["annotations"]["dev.regpush.size"] = "many"


def history(manifest, config):
    del config["history"][0]


def twice(manifest, config):
    config["history"][2]["comment"] = config["history"][1]["comment"]


def version(manifest, config):
    del manifest["annotations"]["dev.regpush.recipe-version"]


def media_type(manifest, config):
    manifest["layers"][2]["mediaType"] = OCI_LAYER_ZSTD


@pytest.mark.parametrize(
    ("change", "number", "words"),
    [
        (diff_id, 3, f"not to the layer's diff ID {OTHER}"),
        (size, 3, "bytes, not to 1234 as the layer's annotation says"),
        (no_size, 0, "layer 3: the annotation dev.regpush.size is 'many', not a number"),
        (history, 0, "the history in the config describes"),
        (twice, 0, "is in two layers, 2 and 3"),
        (version, 0, "the image states no recipe version"),
        (media_type, 3, "not zstd data"),
    ],
)
def test_an_image_that_contradicts_itself(
    docker_registry, repository, pushed, change, number, words
):
    changed(docker_registry, repository, change)
    problems, _ = wrong(pushed[0])
    assert words in problems[number][0]


def recipe(manifest, config):
    manifest["layers"][2]["annotations"]["dev.regpush.recipe"] = OTHER


def no_recipe(manifest, config):
    manifest["layers"][2]["annotations"]["dev.regpush.recipe"] = "sha256:12"


def test_a_recipe_that_is_none(docker_registry, repository, pushed):
    changed(docker_registry, repository, no_recipe)
    regpush("verify", pushed[0]).failed(
        8, "layer 3 (", "annotation dev.regpush.recipe is not a digest"
    )


def test_a_recipe_of_something_else(docker_registry, repository, pushed, app):
    changed(docker_registry, repository, recipe)
    assert wrong(pushed[0], code=0)[0] == {}
    problems, _ = wrong(pushed[0], app)
    assert list(problems) == [3]
    assert "the layer's recipe is not that of" in problems[3][0]


def later_version(manifest, config):
    recipe(manifest, config)
    manifest["annotations"]["dev.regpush.recipe-version"] = "2"


def test_a_recipe_of_another_version_is_not_compared(docker_registry, repository, pushed, app):
    """It is computed in a way that this regpush does not know: it may well be right."""
    changed(docker_registry, repository, later_version)
    code, report, _ = verify(pushed[0], app)
    assert code == 0
    for layer in report["images"][0]["layers"]:
        assert not layer["compared"]
        said = "the layer's recipe has version 2, but this regpush computes version 1: not compared"
        assert f"{said} with the target" in layer["remarks"]


def test_a_planted_layer_under_a_right_recipe(docker_registry, repository, pushed, app):
    """What whoever may push can do, and only packing the sources shows."""
    api = Api(docker_registry.host, repository)
    planted = gzip.compress(b"\0" * 10240, mtime=0)
    digest = api.put_blob(planted)

    def plant(manifest, config):
        manifest["layers"][1] |= {"digest": digest, "size": len(planted)}
        manifest["layers"][1]["annotations"]["dev.regpush.size"] = "10240"
        unpacked = hashlib.sha256(b"\0" * 10240).hexdigest()
        config["rootfs"]["diff_ids"][1] = f"sha256:{unpacked}"

    changed(docker_registry, repository, plant)
    assert wrong(pushed[0], code=0)[0] == {}
    problems, _ = wrong(pushed[0], app)
    assert list(problems) == [2]
    assert "does not hold what its recipe says" in problems[2][0]


def test_a_target_that_changed(docker_registry, pushed, app):
    (app / "node_modules/left-pad/index.js").write_text("changed\n")
    problems, line = wrong(pushed[0], app)
    assert len(problems) == 1
    assert "in the target now" in line
    (app / "node_modules" / "new").mkdir()
    (app / "node_modules" / "new" / "index.js").write_text("x" * 9000)
    assert "/app/node_modules/new of the target" in wrong(pushed[0], app)[0][0][0]


def test_flags_must_be_those_of_the_push(docker_registry, repository, app):
    to = f"{docker_registry.host}/{repository}"
    flags = ["-S", "/x=main.js", "--chown", "1:1", "--root-dir", "/srv"]
    push(app, to, *flags).ok()
    assert wrong(to, app, *flags, code=0)[0] == {}
    assert "holds /srv" in str(wrong(to, app)[0])
    _, line = wrong(to, app, *flags[2:])
    assert "give -S, --chown and such flags as for the push" in line


def test_a_sample_reads_few_and_asks_for_the_rest(docker_registry, repository, pushed, app, wire):
    _, layers = pushed
    proxy = wire(docker_registry)
    to = f"{proxy.host}/{repository}"

    def read(*flags):
        proxy.reset()
        _, report, _ = verify(to, *flags)
        found = [o["digest"] for o in report["images"][0]["layers"] if o["bytes_read"]]
        requests = proxy.stats().requests
        assert sum("/blobs/" in one.target and one.method == "HEAD" for one in requests) == len(
            layers
        ) - len(found)
        return found

    assert len(read("--sample", "1%")) == 1
    assert read("--sample", "1%") == read("--sample", "1%")
    assert len({read("--sample", "1%", "--seed", seed)[0] for seed in "abcdefgh"}) > 1
    assert len(read("--sample", "50%")) == -(-len(layers) // 2)
    stored(docker_registry, layers[0]["digest"]).unlink()
    problems, _ = wrong(to, "--sample", "1%", "--seed", "a")
    assert list(problems) == [1]


def test_samples():
    digests = [Digest.of(bytes([n])) for n in range(100)]
    assert len(Sample.parse("5%", "").choose(digests)) == 5
    assert Sample.parse("5%", "").choose(digests) < Sample.parse("50%", "").choose(digests)
    assert Sample.parse("0.5%", "").choose(digests) == Sample.parse("1%", "").choose(digests[::-1])
    assert Sample().choose(digests) == frozenset(digests)
    assert Sample.parse("1%", "").choose([]) == frozenset()
    for bad in ("5", "0%", "101%", "-1%", "x%", "", "1e1%"):
        with pytest.raises(UsageError, match="--sample"):
            Sample.parse(bad, "")


def test_an_index_is_verified_image_by_image(docker_registry, repository, app, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    (app / "arm64").write_text("other")
    push(app, to, "--platform", "linux/amd64,linux/arm64").ok()
    code, report, _ = verify(to)
    assert code == 0
    assert [one["platform"] for one in report["images"]] == ["linux/amd64", "linux/arm64"]
    assert len(verify(to, "--platform", "linux/arm64")[1]["images"]) == 1
    regpush("verify", to, app).failed(2, "--platform linux/amd64")
    assert wrong(to, app, "--platform", "linux/arm64", code=0)[0] == {}
    api = Api(docker_registry.host, repository)
    index = json.loads(api.manifest("latest").body)
    gone = index["manifests"][1]["digest"]
    assert api.manifest(gone, "DELETE").status == 202
    regpush("verify", to).failed(8, gone, "which an index names")
    empty = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}).encode()
    assert api.put_manifest("empty", empty, INDEX_TYPE).status == 201
    regpush("verify", f"{to}:empty").failed(8, "without images")


def test_there_is_no_such_image(docker_registry, repository, app):
    to = f"{docker_registry.host}/{repository}"
    regpush("verify", to).failed(4, "no such image")
    push(app, to).ok()
    regpush("verify", to, app.parent / "nothing").failed(2, "does not exist")
    regpush("verify", "127.0.0.1:1/x", "--sample", "7").failed(2, "such as 5%")
    regpush("verify", "127.0.0.1:1/x").failed(5, "cannot reach")


@pytest.mark.skipif(os.getuid() != 0, reason="nix-build here needs root")
def test_a_store_is_not_believed(docker_registry, repository, tmp_path):
    real_part("nix-build")
    nix = NixStore(tmp_path / "nix")
    out = nix.build("1")
    to = f"{docker_registry.host}/{repository}"
    push(out, to, "-S", "/bin=bin", env=nix.environment).ok()
    given = ("-S", "/bin=bin")
    assert wrong(to, out, *given, code=0, env=nix.environment)[0] == {}
    library = next(path for path in nix.closure(out) if "libfoo" in path)
    file = f"{library}/share/foo"
    os.chmod(file, 0o644)
    with open(file, "r+b") as opened:
        opened.write(b"X")
    os.chmod(file, 0o444)
    problems, _ = wrong(to, out, *given, env=nix.environment)
    (found,) = problems.values()
    assert library in found[0]
    assert "do not have the hash in the store's database" in found[0]
    os.rename(library, tmp_path / "away")
    code, report, _ = verify(to, out, *given, env=nix.environment)
    assert code == 0
    (remark,) = [r for one in report["images"][0]["layers"] for r in one["remarks"]]
    assert "only the store's database confirms" in remark


def test_a_guix_profile(docker_registry, repository, tmp_path):
    profile, _ = guix_store(tmp_path / "guix")
    to = f"{docker_registry.host}/{repository}"
    flags = ["-S", "/bin=bin", "--chmod", "/gnu/store/*-hello-*/bin/*=0500"]
    push(profile, to, *flags).ok()
    assert wrong(to, profile, *flags, code=0)[0] == {}


def pieces(data, length):
    return (data[start : start + length] for start in range(0, len(data), length))


def frames(data):
    compressor = zstandard.ZstdCompressor()
    return compressor.compress(data[:999]) + compressor.compress(data[999:])


@pytest.mark.parametrize("length", [1, 1000, 1 << 20])
def test_blobs_of_several_members_and_frames(length):
    data = (os.urandom(4000) + bytes(9000)) if length < 1000 else os.urandom(99) + bytes(9 << 20)
    members = gzip.compress(data[:999], mtime=0) + gzip.compress(data[999:])
    for media_type, blob in (
        (OCI_LAYER_GZIP, members),
        (OCI_LAYER_ZSTD, frames(data)),
        (OCI_LAYER, data),
    ):
        found = list(decompressed(media_type, pieces(blob, length)))
        assert b"".join(found) == data
        assert 0 < max(map(len, found)) <= 1 << 20


@pytest.mark.parametrize(
    ("media_type", "blob"),
    [
        (OCI_LAYER_GZIP, b""),
        (OCI_LAYER_GZIP, b"not gzip at all"),
        (OCI_LAYER_GZIP, gzip.compress(b"x" * 999, mtime=0)[:-4]),
        (OCI_LAYER_GZIP, gzip.compress(b"x", mtime=0) + bytes(99)),
        (OCI_LAYER_ZSTD, b""),
        (OCI_LAYER_ZSTD, b"not zstd at all"),
        (OCI_LAYER_ZSTD, frames(bytes(range(250)) * 99)[:-4]),
        (OCI_LAYER_ZSTD, frames(b"x" * 2000) + bytes(99)),
    ],
)
def test_what_is_not_compressed_as_it_says(media_type, blob):
    with pytest.raises(VerificationError, match=r"not (gzip|zstd) data"):
        list(decompressed(media_type, pieces(blob, 8)))
