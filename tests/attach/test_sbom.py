"""SBOMs: what they say of real stores and directories, judged by the formats' own validators."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.model import Document
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from regpush.attach.provenance import provenance
from regpush.attach.sbom import Bill, writer
from regpush.attach.sbom.bill import Component, Purpose
from regpush.closure import Closure
from regpush.digest import OCI_LAYER_GZIP, Descriptor, Digest
from regpush.image.image import Base, Image, Layer, build
from regpush.options import ImageOptions, PushOptions, Sbom
from regpush.ownership import Rule, Rules
from regpush.platform import Platform
from regpush.settings import StoreLocation
from regpush.sources.links import customise
from tests.patience import HANG_S
from tests.program import environment
from tests.registry.parts import real_part
from tests.sources.conftest import take
from tests.stores import NixStore

LAYER = Layer(descriptor=Descriptor.of(b"x", OCI_LAYER_GZIP), diff_id=Digest.of(b"y"))
BASE = build([LAYER], ImageOptions(), Platform("linux", "amd64"), recipe_version=1)
IMAGE = build(
    [LAYER],
    ImageOptions(),
    Platform("linux", "amd64"),
    recipe_version=1,
    base=Base(name="docker.io/library/debian:12", image=BASE),
)

APP = {
    "main.py": "print('hello')\n",
    "node_modules/.package-lock.json": "{}",
    "node_modules/express/package.json": '{"name": "express", "version": "4.18.2"}',
    "node_modules/express/node_modules/debug/package.json": '{"name":"debug","version":"2.6.9"}',
    "node_modules/express/test/package.json": '{"name": "no", "version": "1"}',
    "node_modules/@babel/core/package.json": '{"name": "@babel/core", "version": "7.0.0"}',
    "node_modules/alias/package.json": '{"name": "left-pad", "version": "1.3.0"}',
    "node_modules/broken/package.json": "{",
    "node_modules/bare/index.js": "x",
    ".venv/pyvenv.cfg": "home = /usr\n",
    ".venv/lib/python3.11/site-packages/yaml/__init__.py": "x = 1\n",
    ".venv/lib/python3.11/site-packages/PyYAML-6.0.1.dist-info/METADATA": "Name: PyYAML\n",
    ".venv/lib/python3.11/site-packages/PyYAML-6.0.1.dist-info/RECORD": (
        "yaml/__init__.py,,\nPyYAML-6.0.1.dist-info/METADATA,,\n"
    ),
    "vendor/modules.txt": "# github.com/gorilla/mux v1.8.0\n## explicit\ngithub.com/gorilla/mux\n",
    "vendor/github.com/gorilla/mux/mux.go": "package mux\n",
    "php/vendor/autoload.php": "<?php\n",
    "php/vendor/composer/installed.json": (
        '{"packages": [{"name": "monolog/monolog", "version": "3.5.0"}]}'
    ),
    "php/vendor/monolog/monolog/src/Logger.php": "<?php\n",
    "root/var/lib/dpkg/status": (
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\n"
        "Version: 2.36-9+deb12u7\nDescription: GNU C Library\n Shared: libraries\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n"
    ),
    "root/lib/apk/db/installed": "C:Q1x\nP:musl\nV:1.2.4-r2\nA:x86_64\n\nP:busybox\nV:1.36\n",
    ".bundle/ruby/3.2.0/gems/rack-3.0.8/lib/rack.rb": "x",
    ".bundle/ruby/3.2.0/specifications/rack-3.0.8.gemspec": "x",
    ".bundle/ruby/3.2.0/gems/nokogiri-1.15.4-x86_64-linux/lib/nokogiri.rb": "x",
    ".bundle/ruby/3.2.0/specifications/nokogiri-1.15.4-x86_64-linux.gemspec": "x",
}


def closure_of(target: Path, stores: tuple[StoreLocation, ...] = ()) -> Closure:
    return customise(take(target, stores).closure, ImageOptions()).closure


def bill(closure: Closure, image: Image = BASE) -> Bill:
    return Bill.of(closure, image, "localhost:5000/team/app")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Bill:
    root = tmp_path_factory.mktemp("sbom") / "myapp"
    for name, text in APP.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return bill(closure_of(root))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[NixStore, Path, Bill]:
    nix = NixStore(tmp_path_factory.mktemp("sbom-store"))
    app = nix.build("2")
    where = StoreLocation(str(nix.store), str(nix.state / "db/db.sqlite"))
    return nix, app, bill(closure_of(app, (where,)))


def spdx_document(data: bytes) -> Document:
    """Read back by the library's own parser, and valid to its own validator."""
    document = JsonLikeDictParser().parse(json.loads(data))
    assert validate_full_spdx_document(document, "SPDX-2.3") == []
    return document


def valid_cyclonedx(data: bytes) -> dict:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    return json.loads(data)


def purls(data: bytes) -> set[str]:
    return {one["purl"] for one in json.loads(data)["components"] if "purl" in one}


def by_name(made: Bill) -> dict[str, Component]:
    return {one.name: one for one in made.components}


def test_packages_of_a_directory(directory: Bill) -> None:
    artifact = writer(Sbom.CYCLONEDX)(directory)
    assert artifact.media_type == "application/vnd.cyclonedx+json"
    assert purls(artifact.data) == {
        "pkg:npm/express@4.18.2",
        "pkg:npm/debug@2.6.9",
        "pkg:npm/%40babel/core@7.0.0",
        "pkg:npm/left-pad@1.3.0",
        "pkg:npm/broken",
        "pkg:npm/bare",
        "pkg:pypi/pyyaml@6.0.1",
        "pkg:golang/github.com/gorilla/mux@v1.8.0",
        "pkg:composer/monolog/monolog@3.5.0",
        "pkg:gem/rack@3.0.8",
        "pkg:gem/nokogiri@1.15.4",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u7?arch=amd64",
        "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64",
        "pkg:apk/alpine/busybox@1.36",
    }
    names = by_name(directory)
    app = names["app"]
    assert (app.purpose, app.path) == (Purpose.APPLICATION, "/app")
    assert names["express"].depends_on == (names["debug"].ref,)
    direct = {names[name].ref for name in ("express", "@babel/core", "pyyaml", "rack", "bare")}
    assert direct <= set(app.depends_on)
    assert names["debug"].ref not in app.depends_on
    # Whatever is in the image belongs to some component, but for what regpush added.
    assert {one.path for one in directory.components if one.purpose is Purpose.FILES} >= {
        "/app/node_modules"
    }
    inside = {"debug", "libc6", "musl", "busybox"}
    assert all(one.identities for one in directory.components if one.name not in inside)


def test_ruled_owners_and_modes_change_neither_names_nor_checksums(
    store: tuple[NixStore, Path, Bill],
) -> None:
    """With --chown an SBOM and a provenance name the same store items by the same NAR hashes."""
    nix, app, made = store
    where = StoreLocation(str(nix.store), str(nix.state / "db/db.sqlite"))
    plain = closure_of(app, (where,))
    closure = Rules([Rule.chown("1000:1000")], plain).apply(plain)
    assert {str(one.identity).partition(":")[0] for one in closure.items} == {
        "nar-ruled",
        "tree-blake3",  # what regpush itself adds
    }
    ruled = bill(closure)
    assert {one.path: one.purl for one in ruled.components} == {
        one.path: one.purl for one in made.components
    }
    spdx, cyclonedx = (
        [json.loads(writer(kind)(one).data) for one in (made, ruled)]
        for kind in (Sbom.SPDX, Sbom.CYCLONEDX)
    )
    checksums = [{one["name"]: one["checksums"] for one in two["packages"]} for two in spdx]
    assert checksums[0] == checksums[1]
    hashes = [{one["name"]: one["hashes"] for one in two["components"]} for two in cyclonedx]
    assert hashes[0] == hashes[1]
    statement = json.loads(provenance(closure, BASE, "h/app", PushOptions(), None).data)
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["target"]["kind"] == "store"
    sri = json.loads(nix.run("nix", "path-info", "--json", str(app)))
    told = sri[str(app)] if isinstance(sri, dict) else sri[0]
    hexed = nix.run("nix", "hash", "to-base16", "--type", "sha256", told["narHash"])
    assert definition["resolvedDependencies"] == [
        {"name": str(app), "digest": {"narSha256": hexed.strip()}}
    ]


def test_items_of_a_store(store: tuple[NixStore, Path, Bill]) -> None:
    """Names, hashes and references as Nix tells them."""
    nix, app, made = store
    told = json.loads(nix.run("nix", "path-info", "--json", "-r", str(app)))
    infos = told if isinstance(told, dict) else {one["path"]: one for one in told}
    parts = {one.path: one for one in made.components}
    assert parts.keys() == infos.keys()
    for path, info in infos.items():
        sri = nix.run("nix", "hash", "to-base16", "--type", "sha256", info["narHash"])
        assert [one.digest.hex for one in parts[path].identities] == [sri]
        refs = {parts[other].ref for other in info["references"] if other != path}
        assert set(parts[path].depends_on) == refs
    versions = {(one.name, one.version) for one in made.components}
    assert versions == {
        ("app", "2"),
        ("libc", "2.36"),
        ("openssl", "3.0.1"),
        ("libfoo", "1.2"),
        ("tzdata", "2024a"),
    }
    assert made.roots == (parts[str(app)].ref,)
    (purl,) = {one for one in purls(writer(Sbom.CYCLONEDX)(made).data) if "openssl" in one}
    (path,) = (one.path for one in made.components if one.name == "openssl")
    assert purl == f"pkg:generic/openssl@3.0.1?store_path={path}"


def test_an_output_is_no_version(tmp_path: Path) -> None:
    base = "/gnu/store/" + "0" * 32
    listed = {
        f"{base}-{name}": {
            "narHash": f"sha256:{'0' * 64}",
            "narSize": 1,
            "references": [],
        }
        for name in ("openssl-3.0.16-bin", "bash-static-5.1.16", "libbin-data")
    }
    file = tmp_path / "closure.json"
    file.write_text(json.dumps(listed))
    made = by_name(bill(closure_of(file)))
    assert made["openssl"].version == "3.0.16"
    assert made["openssl"].purl
    assert ("output", "bin") in made["openssl"].purl.qualifiers
    assert made["bash-static"].version == "5.1.16"
    assert made["libbin-data"].version == ""


@pytest.mark.parametrize("source", ["directory", "store"])
def test_spdx_is_valid(source: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(source)
    made = made if isinstance(made, Bill) else made[2]
    artifact = writer(Sbom.SPDX)(made)
    assert artifact.media_type == "application/spdx+json"
    document = spdx_document(artifact.data)
    assert len(document.packages) == len(made.components) + 1
    edges = sum(len(one.depends_on) for one in made.components)
    assert len(document.relationships) == 1 + len(made.components) + len(made.roots) + edges
    raw = json.loads(artifact.data)
    assert raw["creationInfo"]["created"] == "1970-01-01T00:00:01Z"
    for package in raw["packages"]:
        assert package["licenseConcluded"] == "NOASSERTION"
        assert package["downloadLocation"] == "NOASSERTION"


@pytest.mark.parametrize("source", ["directory", "store"])
def test_cyclonedx_is_valid(source: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(source)
    made = made if isinstance(made, Bill) else made[2]
    value = valid_cyclonedx(writer(Sbom.CYCLONEDX)(made).data)
    assert len(value["components"]) == len(made.components)
    graph = {one["ref"]: set(one.get("dependsOn", ())) for one in value["dependencies"]}
    expected = {one.ref: set(one.depends_on) for one in made.components}
    assert graph == {"image": set(made.roots), **expected}
    image = PackageURL.from_string(value["metadata"]["component"]["purl"])
    assert (image.type, image.name, image.version) == ("oci", "app", str(BASE.descriptor.digest))
    assert image.qualifiers == {"repository_url": "localhost:5000/team/app"}
    assert value["metadata"]["timestamp"] == "1970-01-01T00:00:01+00:00"


def test_the_base_is_named(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/main.py").write_text("print()")
    made = bill(closure_of(tmp_path / "app"), IMAGE)
    digest = str(BASE.descriptor.digest)
    document = spdx_document(writer(Sbom.SPDX)(made).data)
    (base,) = (one for one in document.packages if one.spdx_id == "SPDXRef-base")
    assert (base.name, base.version) == ("docker.io/library/debian:12", digest)
    kinds = {one.relationship_type.name for one in document.relationships}
    assert "DESCENDANT_OF" in kinds
    value = valid_cyclonedx(writer(Sbom.CYCLONEDX)(made).data)
    (ancestor,) = value["metadata"]["component"]["pedigree"]["ancestors"]
    assert (ancestor["name"], ancestor["version"]) == ("docker.io/library/debian:12", digest)
    purl = PackageURL.from_string(ancestor["purl"])
    assert purl.qualifiers == {"repository_url": "docker.io/library/debian"}
    statement = json.loads(
        provenance(closure_of(tmp_path / "app"), IMAGE, "h/app", PushOptions(), None).data
    )
    assert {
        "name": "docker.io/library/debian:12",
        "uri": "docker://docker.io/library/debian:12",
        "digest": {"sha256": BASE.descriptor.digest.hex},
    } in statement["predicate"]["buildDefinition"]["resolvedDependencies"]


@pytest.mark.parametrize("sbom", [Sbom.SPDX, Sbom.CYCLONEDX])
def test_the_same_bytes_in_every_process(sbom: Sbom, directory: Bill, tmp_path: Path) -> None:
    """Whatever the seed of hashes, and so the order of sets."""
    script = f"""
import sys, pickle
from regpush.options import Sbom
from regpush.attach.sbom import writer
sys.stdout.buffer.write(writer({sbom})(pickle.load(sys.stdin.buffer)).data)
"""
    made = {
        subprocess.run(
            [sys.executable, "-c", script],
            input=pickle.dumps(directory),
            env=environment(PYTHONHASHSEED=seed),
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert made == {writer(sbom)(directory).data}


@pytest.mark.parametrize("sbom", [Sbom.SPDX, Sbom.CYCLONEDX])
def test_syft_reads_it(sbom: Sbom, directory: Bill, tmp_path: Path) -> None:
    """Another's reader finds every package, by its purl."""
    syft = real_part("syft")
    artifact = writer(sbom)(directory)
    file = tmp_path / artifact.title
    file.write_bytes(artifact.data)
    done = subprocess.run(
        [syft, "convert", str(file), "-o", "syft-json"],
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SYFT_CHECK_FOR_APP_UPDATE": "false"},
        text=True,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stderr
    found = {one["purl"] for one in json.loads(done.stdout)["artifacts"]}
    assert purls(writer(Sbom.CYCLONEDX)(directory).data) <= found
