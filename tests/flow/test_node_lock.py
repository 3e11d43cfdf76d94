"""`node:` beside everything else that regpush does: plans, strategies, bills, .npmrc, bases."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.flow.test_from import layer as base_layer
from tests.flow.test_from import put_base
from tests.images import unpack
from tests.program import push, regpush
from tests.registry.api import Api
from tests.tarballs import integrity, locked, make_tarball, write_lock
from tests.wheels import Index, serve

BARE = ("--from", "none", "--platform", "linux/amd64")
NAMES = ("accepts", "left-pad", "@acme/queue", "debug")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    app.mkdir()
    (app / "index.js").write_text("console.log('hello')\n")
    return app


def lock(app: Path, index: Index, left_pad: str = "1.2.0") -> dict[str, Any]:
    """A lock of four packages, each of which needs the one before; its table of packages."""
    packages = {}
    for at, name in enumerate(NAMES):
        version = left_pad if name == "left-pad" else "1.0.0"
        tarball = make_tarball(index.folder, name, version, {"data": f"{name} {version}" * 500})
        needs = {"dependencies": {NAMES[at - 1]: "^1"}} if at else {}
        packages[f"node_modules/{name}"] = locked(tarball, index.url, version, **needs)
    write_lock(app, packages, dict.fromkeys(NAMES, "^1"))
    return packages


def test_versions_are_what_plan_and_why_tell(index, app, to):
    lock(app, index)
    push(f"node:{app}", to, *BARE).ok()
    lock(app, index, "1.3.0")
    index.gets.clear()
    planned = regpush("plan", f"node:{app}", "--to", to, *BARE).ok().stdout
    assert "left-pad 1.2.0 -> 1.3.0 changed" in planned
    assert index.gets == []
    newer = to.removesuffix(":1") + ":2"
    push(f"node:{app}", newer, *BARE, "--reuse-from", to).ok()
    told = regpush("why", to, newer, "--format", "json").ok().report
    assert [one["cause"] for one in told["causes"]] == ["left-pad 1.2.0 -> 1.3.0 changed"]
    assert "left-pad 1.2.0 -> 1.3.0 changed" in regpush("why", to, newer).ok().stdout


@pytest.mark.parametrize(
    "strategy", ["app-deps", "auto", "origin", "popularity", "single", "size", "stable", "file="]
)
def test_every_strategy_groups_packages_of_a_lock(index, app, to, strategy, tmp_path):
    if strategy == "file=":
        split = tmp_path / "layers.json"
        split.write_text('{"layers": [["accepts", "left-pad"]]}')
        strategy = f"file={split}"
    lock(app, index)
    flags = (*BARE, "--layers", strategy, "--max-layers", "3")
    first = push(f"node:{app}", to, *flags).ok()
    assert len(first.actions) <= 3
    index.gets.clear()
    again = push(f"node:{app}", to, *flags).ok()
    assert not again.report["changed"]
    assert not index.gets
    lock(app, index, "1.3.0")
    push(f"node:{app}", to, *flags).ok()
    assert "left-pad-1.3.0.tgz" in index.gets


def test_small_packages_share_layers_and_machine_code_lies_alone(index, app, to):
    """A lock of npm names no sizes: 40 packages are not 40 layers of a few hundred bytes."""
    names = [f"p{at:02}" for at in range(40)]
    packages = {}
    for name in names:
        tarball = make_tarball(index.folder, name)
        native = {"cpu": ["x64"]} if name == "p20" else {}
        packages[f"node_modules/{name}"] = locked(tarball, index.url, **native)
    write_lock(app, packages, dict.fromkeys(names, "^1"))
    done = push(f"node:{app}", to, *BARE).ok()
    held = [one["items"] for one in done.report["images"][0]["layers"]]
    assert 10 <= len(held) <= 20
    assert ["/app/node_modules/p20@1.0.0"] in held


def test_several_platforms_share_what_is_for_all(index, app, to, tmp_path):
    packages = lock(app, index)
    for cpu in ("x64", "arm64"):
        made = make_tarball(index.folder, f"tool-{cpu}")
        packages[f"node_modules/tool-{cpu}"] = locked(made, index.url, optional=True, cpu=[cpu])
    optional = {"tool-x64": "^1", "tool-arm64": "^1"}
    write_lock(app, packages, dict.fromkeys(NAMES, "^1"), optionalDependencies=optional)
    flags = ("--from", "none", "--platform", "linux/amd64,linux/arm64")
    done = push(f"node:{app}", to, *flags).ok()
    assert [one["platform"] for one in done.report["images"]] == ["linux/amd64", "linux/arm64"]
    assert len(index.gets) == len(set(index.gets)) == len(NAMES) + 2
    for platform, cpu in (("amd64", "x64"), ("arm64", "arm64")):
        child = next(one for one in done.report["images"] if one["platform"].endswith(platform))
        image = f"{to.rpartition(':')[0]}@{child['digest']}"
        modules = unpack(image, tmp_path / platform) / "app/node_modules"
        assert [one for one in os.listdir(modules) if one.startswith("tool")] == [f"tool-{cpu}"]


def test_a_configuration_above_and_kubernetes_manifests_name_it(index, app, to, tmp_path):
    lock(app, index)
    name, _, tag = to.rpartition(":")
    (tmp_path / "regpush.toml").write_text(
        f'[apps.shop]\ntarget = "node:app"\nto = "{name}"\ntags = ["{tag}"]\nfrom = "none"\n'
        'platform = ["linux/amd64"]\n'
    )
    below = app / "src/deep"
    below.mkdir(parents=True)
    manifest = tmp_path / "pod.yaml"
    manifest.write_text("spec:\n  containers:\n  - image: regpush://shop\n")
    done = regpush("resolve", "-f", manifest, cwd=tmp_path).ok()
    assert f"image: {name}@sha256:" in done.stdout
    index.gets.clear()
    again = regpush("shop", "--format", "json", cwd=below).ok()
    assert [one["action"] for one in again.report["images"][0]["layers"]].count("uploaded") == 0
    assert index.gets == []


def statement(to: str) -> dict[str, Any]:
    """The in-toto statement that is attached to an image, from its envelope if it has one."""
    attached = regpush("inspect", to, "--format", "json").ok().report["referrers"]
    (digest,) = (one["digest"] for one in attached if "in-toto" in one["artifactType"])
    host, _, name = to.rpartition(":")[0].partition("/")
    api = Api(host, name)
    manifest = json.loads(api.manifest(digest).body)
    value = json.loads(api.blob(manifest["layers"][0]["digest"]).body)
    return json.loads(base64.b64decode(value["payload"])) if "payload" in value else value


def test_bill_and_provenance_name_tarballs_by_the_hashes_of_the_lock(index, app, to):
    lock(app, index)
    push(f"node:{app}", to, *BARE, "--sbom", "cyclonedx", "--provenance").ok()
    digests = {
        "accepts": ("pkg:npm/accepts@1.0.0", "accepts-1.0.0.tgz"),
        "left-pad": ("pkg:npm/left-pad@1.2.0", "left-pad-1.2.0.tgz"),
        "@acme/queue": ("pkg:npm/%40acme/queue@1.0.0", "acme-queue-1.0.0.tgz"),
        "debug": ("pkg:npm/debug@1.0.0", "debug-1.0.0.tgz"),
    }
    sha512 = {
        purl: hashlib.sha512((index.folder / file).read_bytes()).hexdigest()
        for purl, file in digests.values()
    }
    bill = json.loads(regpush("sbom", to).ok().stdout)
    found = {one["purl"]: one for one in bill["components"] if "purl" in one}
    assert {purl: found[purl]["hashes"] for purl in sha512} == {
        purl: [{"alg": "SHA-512", "content": digest}] for purl, digest in sha512.items()
    }
    assert {one for one in found if one.startswith("pkg:npm/")} >= sha512.keys()
    materials = statement(to)["predicate"]["buildDefinition"]["resolvedDependencies"]
    said = {one.get("uri") or one["name"]: one["digest"] for one in materials}
    assert {purl: said[purl] for purl in sha512} == {
        purl: {"sha512": digest} for purl, digest in sha512.items()
    }
    text = (app / "package-lock.json").read_bytes()
    assert said["package-lock.json"] == {"sha256": hashlib.sha256(text).hexdigest()}


def test_an_image_is_compared_with_its_lock(index, app, to):
    lock(app, index)
    push(f"node:{app}", to, *BARE).ok()
    assert "all right" in regpush("verify", to, f"node:{app}").ok().stdout
    lock(app, index, "1.3.0")
    other = regpush("verify", to, f"node:{app}")
    assert other.code == 8, other.stderr
    assert "left-pad" in other.stderr + other.stdout


@contextmanager
def registry_that_lists(files: Mapping[str, bytes], name: str) -> Iterator[tuple[str, list]]:
    """A registry of npm with tarballs at `/files/`, where nobody guesses them; what is asked."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Accept", "")))
            body = None
            if self.path == f"/npm/{name}":
                where = f"http://{self.headers['Host']}/files"
                versions = {one: {"dist": {"tarball": f"{where}/{one}.tgz"}} for one in files}
                body = json.dumps({"name": name, "versions": versions}).encode()
            elif self.path.startswith("/files/"):
                body = files.get(self.path.removeprefix("/files/").removesuffix(".tgz"))
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/npm/", asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_lock_without_urls_where_tarballs_have_others_than_usual(app, to, tmp_path):
    """npm documentation, "omit-lockfile-registry-resolved": the registry is asked for the URL."""
    made = make_tarball(tmp_path, "@acme/queue")
    packages = {"node_modules/@acme/queue": {"version": "1.0.0", "integrity": integrity(made)}}
    write_lock(app, packages, {"@acme/queue": "^1"})
    with registry_that_lists({"1.0.0": made.read_bytes()}, "@acme%2fqueue") as (url, asked):
        (app / ".npmrc").write_text(f"@acme:registry={url}\n")
        push(f"node:{app}", to, *BARE).ok()
        assert [path for path, _ in asked] == [
            "/npm/@acme/queue/-/queue-1.0.0.tgz", "/npm/@acme%2fqueue", "/files/1.0.0.tgz",
        ]  # fmt: skip
        assert asked[1][1].startswith("application/vnd.npm.install-v1+json")
        asked.clear()
        push(f"node:{app}", to, *BARE).ok()
        assert asked == []
    other = ("--reuse", "none", "--if-exists", "replace")
    with registry_that_lists({"2.0.0": b"x"}, "@acme%2fqueue") as (url, _):
        (app / ".npmrc").write_text(f"@acme:registry={url}\n")
        push(f"node:{app}", to, *BARE, *other).failed(
            9, "@acme/queue 1.0.0", "lists no tarball of that version", ".npmrc"
        )
    with registry_that_lists({}, "other") as (url, _):
        (app / ".npmrc").write_text(f"@acme:registry={url}\n")
        push(f"node:{app}", to, *BARE, *other).failed(9, "@acme/queue 1.0.0", "404")


def test_certificates_of_npmrc(app, to, tmp_path):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(app / "ca.pem"))
    inline = authority.cert_pem.bytes().decode().strip().replace("\n", "\\n")
    flags = (*BARE, "--retry-times", "1", "--reuse", "none")
    (tmp_path / "index").mkdir()
    with serve(tmp_path / "index", context) as index:
        lock(app, index)

        def pushed(npmrc: str, *more: str, env: dict[str, str] | None = None):
            (app / ".npmrc").write_text(npmrc)
            index.gets.clear()
            return push(f"node:{app}", to, *flags, *more, env=env)

        pushed("").failed(4, "certificate of 127.0.0.1 is not trusted")
        assert not index.gets
        for npmrc in ("cafile=ca.pem\n", f'ca="{inline}"\n', f'ca[] = "{inline}"\n'):
            done = pushed(npmrc).ok()
            assert len(index.gets) == len(NAMES)
            assert "warning" not in done.stderr
        pushed("", env={"NODE_EXTRA_CA_CERTS": str(app / "ca.pem")}).ok()
        done = pushed("strict-ssl=false\n").ok()
        assert "strict-ssl=false in .npmrc: TLS certificates of package registries are not" in (
            done.stderr
        )
        pushed("strict-ssl=false\n", "--strict").failed(2, "strict-ssl=false")
        pushed("cafile=gone.pem\n").failed(2, "gone.pem")


def test_a_base_with_another_node_is_told_of(index, app, docker_registry, repository, to):
    packages = lock(app, index)
    base = put_base(
        docker_registry, f"{repository}/base", [base_layer("etc/os")],
        config={"Env": ["NODE_VERSION=20.11.1"]}, history=[{"created_by": "a base"}],
    )  # fmt: skip
    flags = ("--from", base, "--platform", "linux/amd64")

    def pushed(engines: str, *more: str):
        value = json.loads((app / "package.json").read_text())
        value["engines"] = {"node": engines}
        (app / "package.json").write_text(json.dumps(value))
        return push(f"node:{app}", to, *flags, *more)

    assert "asks for" not in pushed(">=20.10").ok().stderr
    for at, (name, range_) in enumerate(zip(NAMES, (">=22", "^18", "*", "20.x"), strict=True)):
        packages[f"node_modules/{name}"] |= {"engines": {"node": range_}, "optional": at == 1}
    write_lock(app, packages, dict.fromkeys(NAMES, "^1"))
    said = "image has Node 20.11.1, but packages ask for another: accepts 1.0.0 (>=22)\n"
    assert said in pushed("").ok().stderr
    said = "the project asks for Node ^22 || >=23 (engines in package.json), but"
    assert said in pushed("^22 || >=23").ok().stderr
    pushed("^22 || >=23", "--strict").failed(2, said, "/base:1 has Node 20.11.1")
    (app / ".nvmrc").write_text("22\n")
    assert "asks for Node 22 (.nvmrc or .node-version)" in pushed(">=20").ok().stderr
