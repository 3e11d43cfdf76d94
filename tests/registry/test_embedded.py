"""The embedded registry under load, attack and restart, and to skopeo, umoci and oras."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oras.client import OrasClient  # type: ignore[attr-defined]  # no type information

import regpush
from regpush.embedded.errors import RequestError
from regpush.embedded.names import parse_manifest_reference, parse_name
from regpush.embedded.server import running
from regpush.embedded.storage import Storage
from tests.images import tree, unpack
from tests.registry.api import MANIFEST, Api, code, connect, descriptor, digest, image, index
from tests.registry.parts import real_part
from tests.registry.servers import EmbeddedRegistry

MIB = 1024 * 1024


@pytest.fixture
def embedded(embedded_registry: EmbeddedRegistry, repository: str) -> Iterator[Api]:
    with connect(embedded_registry.url) as http:
        yield Api(http, repository)


# Many at once


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="memory is read from /proc")
def test_uploads_side_by_side_in_little_memory(
    embedded: Api, embedded_registry: EmbeddedRegistry
) -> None:
    count, blocks = 8, 40
    seeds = [os.urandom(MIB) for _ in range(count)]
    names = [digest(seed * blocks) for seed in seeds]
    embedded.push(b"warm")
    before = peak_rss(embedded_registry.pid)

    def upload(which: int) -> int:
        location = embedded.start()
        answer = embedded.request("PATCH", location, (seeds[which] for _ in range(blocks)))
        return embedded.put(answer.headers["location"], b"", names[which]).status_code

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(upload, range(count))) == [201] * count
    for name in names:
        head = embedded.request("HEAD", f"blobs/{name}")
        assert head.headers["content-length"] == str(blocks * MIB)
    # 8 uploads of 1 MiB gathered, joined and on their way: far from the 320 MiB sent.
    assert peak_rss(embedded_registry.pid) - before < 48 * MIB


def peak_rss(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024


def test_the_same_blob_and_tag_from_many_pushers(embedded: Api) -> None:
    api = embedded  # docker-registry 2.8 answers some of these 400
    data = os.urandom(MIB)

    def push(_: int) -> int:
        assert api.put(api.start(), data, digest(data)).status_code == 201
        return api.manifest(image(data), "t").status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(push, range(16))) == [201] * 16
    assert api.request("GET", f"blobs/{digest(data)}").content == data


def test_one_writer_an_upload(embedded: Api) -> None:
    location = embedded.start()
    entered, leave = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"a" * MIB
        entered.set()
        assert leave.wait(10)
        yield b"b"

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(embedded.request, "PATCH", location, slow())
        assert entered.wait(10)
        while embedded.request("GET", location).headers["range"] == "0-0":
            pass  # until the first writer has the upload
        second = embedded.request("PATCH", location, b"c")
        leave.set()
        assert first.result().status_code == 202
    assert (second.status_code, code(second)) == (400, "BLOB_UPLOAD_INVALID")
    assert embedded.put(location, b"", digest(b"a" * MIB + b"b")).status_code == 201


# Names that would be paths

HOSTILE = [
    "/v2/../../x/blobs/uploads/",
    "/v2/%2e%2e/%2e%2e/x/blobs/uploads/",
    "/v2/a%2f..%2f..%2fx/blobs/uploads/",
    "/v2/a/./b/blobs/uploads/",
    "/v2//a/blobs/uploads/",
    "/v2/a/_blobs/blobs/uploads/",
    "/v2/a%00b/blobs/uploads/",
    "/v2/a%0ab/blobs/uploads/",
    "/v2/a:tag/blobs/uploads/",
    f"/v2/a@sha256:{'0' * 64}/blobs/uploads/",
    f"/v2/{'a' * 300}/blobs/uploads/",
    "/v2/a/manifests/..",
    "/v2/a/manifests/%2e%2e%2f%2e%2e%2fx",
    "/v2/a/manifests/sha256:..%2f..",
    "/v2/a/manifests/sha1:0",
    "/v2/a/blobs/sha256:..%2f..%2flock",
    "/v2/a/blobs/..%2f..%2flock",
    "/v2/a/blobs/uploads/..%2f..%2flock",
    "/v2/a/blobs/uploads/%2e%2e",
    "/v2/../tags/list",
    "/v2/%2e%2e/tags/list",
]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH", "DELETE"])
def test_hostile_paths(tmp_path: Path, method: str) -> None:
    with running(str(tmp_path / "storage")) as address:
        (tmp_path / "secret").write_text("secret")
        before = tree(tmp_path)
        connection = http.client.HTTPConnection(str(address))
        for path in HOSTILE:
            connection.request(method, path, body=b"x", headers={"Content-Type": MANIFEST})
            answer = connection.getresponse()
            body = answer.read()
            assert 400 <= answer.status < 500, (path, body)
            assert b"secret" not in body
        connection.close()
        assert tree(tmp_path) == before


@given(st.text() | st.from_regex(r"[a-z./_%:@-]{1,20}"))
def test_what_names_a_file_stays_below(text: str) -> None:
    for parse in (parse_name, parse_manifest_reference):
        try:
            accepted = str(parse(text))
        except RequestError:
            continue
        assert accepted == text
        assert text.isascii()
        for component in text.split("/"):
            assert component not in ("", ".", "..")
            assert len(component) <= 255
    if "/" in text:
        with pytest.raises(RequestError):
            parse_manifest_reference(text)


# The server


@pytest.mark.parametrize("end", [EmbeddedRegistry.stop, EmbeddedRegistry.kill])
def test_a_restart_keeps_everything_but_uploads(
    tmp_path: Path, end: Callable[[EmbeddedRegistry], None]
) -> None:
    registry = EmbeddedRegistry(tmp_path)
    with registry, connect(registry.url) as http:
        api = Api(http, "a/b")
        data = api.image("t")
        location = api.start()
        assert api.request("PATCH", location, b"x" * 1000).status_code == 202
        end(registry)
    with registry, connect(registry.url) as http:
        api = Api(http, "a/b")
        assert api.request("GET", "manifests/t").content == data
        assert api.request("GET", f"blobs/{digest(b'layer')}").content == b"layer"
        assert api.request("GET", location).status_code == 404
        assert list((registry.storage / "incoming").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with EmbeddedRegistry(tmp_path) as registry, connect(registry.url) as http:
        Api(http, "a/b").image()  # the connection stays open
        process = registry.process
        process.send_signal(number)
        assert process.wait(10) == 0
        assert "Traceback" not in registry.log()


def run_embedded(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """The registry's program; `before` is code that runs first."""
    start = f"{before}\nimport sys; from regpush.embedded.__main__ import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", start, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(regpush.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_directory_serves_one_registry(tmp_path: Path) -> None:
    with EmbeddedRegistry(tmp_path) as registry:
        done = run_embedded("--dir", str(registry.storage), "--port", "0")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "another registry uses" in done.stderr


def test_a_port_that_is_taken(tmp_path: Path, embedded_registry: EmbeddedRegistry) -> None:
    port = embedded_registry.host.partition(":")[2]
    done = run_embedded("--dir", str(tmp_path), "--port", port)
    assert done.returncode == 2
    assert re.fullmatch(rf"error: cannot listen on 127\.0\.0\.1:{port}: .+\n", done.stderr)


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_embedded("--dir", str(tmp_path / "file" / "x"), "--port", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot keep a registry in")


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_the_extra(tmp_path: Path, missing: str) -> None:
    absent = f"import sys; sys.modules['{missing}'] = None"
    done = run_embedded("--dir", str(tmp_path), before=absent)
    assert done.returncode == 2
    assert "pip install 'regpush[registry]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_in_a_thread(tmp_path: Path) -> None:
    with running(str(tmp_path)) as address, connect(f"http://{address}") as http:
        Api(http, "a/b").image()
    with Storage(str(tmp_path)) as storage:  # the lock is free again
        assert storage.repositories() == ["a/b"]
    with pytest.raises(ConnectionRefusedError):
        http_get(str(address))


def http_get(host: str) -> None:
    connection = http.client.HTTPConnection(host)
    try:
        connection.request("GET", "/v2/")
    finally:
        connection.close()


# Clients of others


@pytest.fixture
def layout(tmp_path: Path) -> tuple[Path, Path]:
    """A directory, and an OCI layout that holds it as one layer."""
    source, oci = tmp_path / "source", tmp_path / "layout"
    (source / "bin").mkdir(parents=True)
    (source / "bin" / "program").write_bytes(os.urandom(200_000))
    (source / "bin" / "program").chmod(0o755)
    (source / "link").symlink_to("bin/program")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for child in ("bin", "link"):
            archive.add(source / child, child)
    layer = gzip.compress(tar.getvalue())
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest(tar.getvalue())]},
        }
    ).encode()
    manifest = image(config, layer)
    blobs = oci / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for blob in (layer, config, manifest):
        (blobs / hashlib.sha256(blob).hexdigest()).write_bytes(blob)
    (oci / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    top = json.loads(index(manifest))
    top["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "t"}
    (oci / "index.json").write_text(json.dumps(top))
    return source, oci


def test_skopeo_and_umoci(
    embedded_registry: EmbeddedRegistry,
    repository: str,
    layout: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    source, oci = layout
    skopeo, name = real_part("skopeo"), f"{embedded_registry.host}/{repository}:t"
    copy = [skopeo, "copy", "--quiet"]
    subprocess.run(
        [*copy, "--dest-tls-verify=false", f"oci:{oci}:t", f"docker://{name}"], check=True
    )
    rootfs = unpack(name, tmp_path / "out")
    assert tree(rootfs) == tree(source)
    blobs = {path.name for path in (oci / "blobs" / "sha256").iterdir()}
    assert {path.name for path in (tmp_path / "out/oci/blobs/sha256").iterdir()} == blobs
    listed = subprocess.run(
        [skopeo, "list-tags", "--tls-verify=false", f"docker://{name.removesuffix(':t')}"],
        check=True,
        capture_output=True,
    )
    assert json.loads(listed.stdout)["Tags"] == ["t"]


def test_skopeo_mounts_between_repositories(
    embedded_registry: EmbeddedRegistry, repository: str, layout: tuple[Path, Path]
) -> None:
    host = embedded_registry.host
    first, second = (f"docker://{host}/{repository}{end}:t" for end in ("", "-copy"))
    copy = [real_part("skopeo"), "copy", "--quiet"]
    subprocess.run([*copy, "--dest-tls-verify=false", f"oci:{layout[1]}:t", first], check=True)
    plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run([*copy, *plain, first, second], check=True)
    with connect(embedded_registry.url) as http:
        one, two = (http.get(f"/v2/{repository}{end}/manifests/t").content for end in ("", "-copy"))
    assert one == two


def test_oras_pulls(embedded: Api, tmp_path: Path) -> None:
    data = os.urandom(100_000)
    embedded.push(b"{}")
    embedded.push(data)
    layer = descriptor(data, "application/octet-stream")
    layer["annotations"] = {"org.opencontainers.image.title": "data.bin"}
    assert embedded.manifest(image(b"{}", layers=[layer]), "t").status_code == 201
    host = embedded.http.base_url.netloc.decode()
    client = OrasClient(hostname=host, insecure=True)
    try:
        pulled = client.pull(target=f"{host}/{embedded.repository}:t", outdir=str(tmp_path))
    finally:
        client.session.close()
    assert [Path(path).read_bytes() for path in pulled] == [data]
