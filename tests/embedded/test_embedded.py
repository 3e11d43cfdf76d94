"""The embedded registry beyond what it shares with others: strictness, disk, concurrency."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import oras.client
import pytest

from regpush import embedded
from regpush.embedded.store import ContentStore
from regpush.errors import UsageError
from tests.images import assert_same_tree, tree, unpack
from tests.patience import HANG_S, wait_until
from tests.registry.api import MANIFEST_TYPE, Api, image_manifest, sha256
from tests.registry.parts import real_part
from tests.registry.servers import Registry, run_embedded_registry

DATA = bytes(range(256)) * 700
MIB = 1024 * 1024


@pytest.fixture
def api(embedded_registry: Registry, repository: str) -> Api:
    return Api(embedded_registry.host, repository)


# Uploads


def test_whole_blob_in_the_post(api):
    digest = sha256(DATA)
    created = api.send("POST", f"{api.base}/blobs/uploads/?digest={digest}", DATA)
    assert created.status == 201
    assert api.blob(digest).body == DATA


def test_wrong_digest_in_the_post(api):
    refused = api.send("POST", f"{api.base}/blobs/uploads/?digest={sha256(b'')}", DATA)
    assert (refused.status, refused.code) == (400, "DIGEST_INVALID")


def test_sha512(api):
    digest = f"sha512:{hashlib.sha512(DATA).hexdigest()}"
    assert api.finish(api.start(), digest, DATA).status == 201
    assert api.blob(digest).body == DATA
    wrong = f"sha512:{hashlib.sha512(b'else').hexdigest()}"
    assert api.finish(api.start(), wrong, DATA).status == 400


@pytest.mark.parametrize(
    ("content_range", "status"),
    [
        ("1000-1999", 202),
        ("1001-2000", 416),  # a gap
        ("999-1998", 416),  # an overlap
        ("0-999", 416),  # again
        ("1999-1000", 416),
        ("bytes 1000-1999/*", 416),
        ("1000-", 416),
        ("1000-2000", 400),  # not the length of the body
        ("1000-1998", 400),
    ],
)
def test_chunks_come_in_order(api, content_range, status):
    location = api.start()
    first, second = DATA[:1000], DATA[1000:2000]
    assert api.send("PATCH", location, first, {"Content-Range": "0-999"}).status == 202
    answer = api.send("PATCH", location, second, {"Content-Range": content_range})
    assert answer.status == status
    if status == 416:
        assert answer.headers["Range"] == "0-999"
        assert answer.headers["Location"] == location
    if status != 202:
        # A refused chunk leaves nothing behind.
        again = api.send("PATCH", location, second, {"Content-Range": "1000-1999"})
        assert again.status == 202
    assert api.finish(location, sha256(DATA[:2000])).status == 201


def test_last_chunk_in_the_put_is_checked_too(api):
    location = api.start()
    path = f"{location}?digest={sha256(DATA)}"
    gap = api.send("PUT", path, DATA, {"Content-Range": f"10-{len(DATA) + 9}"})
    assert gap.status == 416
    assert api.send("PUT", path, DATA, {"Content-Range": f"0-{len(DATA) - 1}"}).status == 201


def test_going_on_after_a_connection_that_broke(api):
    location = api.start()
    connection = http.client.HTTPConnection(api.host)
    connection.putrequest("PATCH", location)
    connection.putheader("Content-Length", str(len(DATA)))
    connection.endheaders(DATA[:100_000])
    connection.close()
    arrived = f"0-{100_000 - 1}"
    wait_until(lambda: api.send("GET", location).headers["Range"] == arrived, "the first part")
    rest = {"Content-Range": f"100000-{len(DATA) - 1}"}
    patched = api.send("PATCH", location, DATA[100_000:], rest)
    assert patched.status == 202, patched
    assert api.finish(location, sha256(DATA)).status == 201


def test_a_refusal_is_read_after_a_long_body(api):
    """A client that sends all before it listens must find an answer, not a reset."""
    answer = api.send("PATCH", f"{api.base}/blobs/uploads/unknown", b"x" * (16 * MIB))
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_concurrent_uploads_are_not_held_in_memory(api, embedded_registry):
    """Eight at a time of 24 MiB: the server grows by far less than it is sent."""

    def memory_kb() -> int:
        status = Path(f"/proc/{embedded_registry.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    before = memory_kb()
    blobs = [random.Random(seed).randbytes(MIB) * 24 for seed in range(8)]
    failures: list[BaseException] = []

    def upload(data: bytes) -> None:
        try:
            patched = api.send(
                "PATCH", api.start(), (data[i : i + MIB] for i in range(0, len(data), MIB))
            )
            assert api.finish(api.location(patched), sha256(data)).status == 201
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=upload, args=(data,)) for data in blobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert memory_kb() - before < 96 * 1024
    for data in blobs:
        assert sha256(api.blob(sha256(data)).body) == sha256(data)


def test_the_same_blob_uploaded_by_eight_at_once(api):
    answers: list[int] = []

    def upload() -> None:
        answers.append(api.finish(api.start(), sha256(DATA), DATA).status)

    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 8
    assert api.blob(sha256(DATA)).body == DATA


# Manifests and lists


def test_manifest_past_four_mebibytes(api):
    api.put_blob(b"{}")
    api.put_blob(b"layer")

    def padded(size: int) -> bytes:
        content = image_manifest(b"{}", b"layer")
        return content + b" " * (size - len(content))

    assert api.put_manifest("fits", padded(4 * MIB)).status == 201
    refused = api.put_manifest("large", padded(4 * MIB + 1))
    assert (refused.status, refused.code) == (413, "MANIFEST_INVALID")


@pytest.mark.parametrize(
    "changes",
    [
        {"schemaVersion": 1},
        {"layers": None},
        {"layers": [{}]},
        {"config": "x"},
        {"config": {"mediaType": "a/b", "digest": "sha256:../../x", "size": 1}},
        {"config": {"mediaType": "a/b", "digest": sha256(b"{}"), "size": -1}},
        {"subject": []},
    ],
    ids=str,
)
def test_malformed_manifest(api, changes):
    api.put_blob(b"{}")
    api.put_blob(b"layer")
    refused = api.put_manifest("v1", image_manifest(b"{}", b"layer", **changes))
    assert (refused.status, refused.code) == (400, "MANIFEST_INVALID")


def test_manifest_of_an_unknown_type(api):
    refused = api.put_manifest("v1", b"{}", "text/plain")
    assert (refused.status, refused.code) == (400, "MANIFEST_INVALID")


def test_oci_manifest_without_media_type(api):
    api.put_blob(b"{}")
    api.put_blob(b"layer")
    value = json.loads(image_manifest(b"{}", b"layer"))
    del value["mediaType"]
    assert api.put_manifest("v1", json.dumps(value).encode()).status == 201
    assert api.manifest("v1").headers["Content-Type"] == MANIFEST_TYPE


def test_layers_that_may_not_be_distributed_are_not_asked_for(api):
    api.put_blob(b"{}")
    foreign = {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": sha256(b"elsewhere"),
        "size": 9,
    }
    content = image_manifest(b"{}", b"", layers=[foreign])
    assert api.put_manifest("v1", content).status == 201


def test_get_without_accept(api):
    content = api.put_image("v1")
    assert api.send("GET", f"{api.base}/manifests/v1").body == content


def test_deleting_a_tag_leaves_the_manifest(api):
    content = api.put_image("v1")
    assert api.send("DELETE", f"{api.base}/manifests/v1").status == 202
    assert api.send("DELETE", f"{api.base}/manifests/v1").status == 404
    assert api.manifest("v1").status == 404
    assert api.manifest(sha256(content)).body == content
    assert json.loads(api.send("GET", f"{api.base}/tags/list").body)["tags"] == []


def test_tags_page_by_page(api):
    names = [f"t{i}" for i in range(5)]
    for name in reversed(names):
        api.put_image(name)
    seen: list[list[str]] = []
    path = f"{api.base}/tags/list?n=2"
    while path:
        page = api.send("GET", path)
        seen.append(json.loads(page.body)["tags"])
        link = page.headers.get("Link", "")
        path = link.partition("<")[2].partition(">")[0]
        assert not link or link.endswith('; rel="next"')
    assert seen == [["t0", "t1"], ["t2", "t3"], ["t4"]]
    nothing = api.send("GET", f"{api.base}/tags/list?n=0")
    assert json.loads(nothing.body)["tags"] == []
    assert "Link" not in nothing.headers
    wrong = api.send("GET", f"{api.base}/tags/list?n=-1")
    assert (wrong.status, wrong.code) == (400, "PAGINATION_NUMBER_INVALID")


# Names


BAD_REPOSITORIES = [
    "..", "../..", "a/../../b", "%2e%2e", "a/%2e%2e/%2e%2e/b", "a%2f..%2f..%2fb", "_blobs",
    "a/_tags", "A", "a//b", "a/", "a/.", "a%00", "a%0a", "a:b", "a@b", "a" * 300, "%ff", "a\\..\\b",
]  # fmt: skip
BAD_PATHS = [
    "/v2/{name}/tags/list",
    "/v2/{name}/manifests/v1",
    "/v2/{name}/blobs/" + sha256(DATA),
    "/v2/{name}/blobs/uploads/",
    "/v2/ok/blobs/uploads/?mount=" + sha256(DATA) + "&from={name}",
]


@pytest.mark.parametrize("name", BAD_REPOSITORIES)
def test_bad_repository_names_touch_nothing(embedded_registry, name):
    api = Api(embedded_registry.host, "ok")
    before = files_around(embedded_registry)
    for path in BAD_PATHS:
        method = "POST" if "uploads" in path else "GET"
        answer = api.send(method, path.format(name=name))
        assert answer.status in (400, 404), path
        assert answer.code in ("NAME_INVALID", "UNSUPPORTED")
    assert files_around(embedded_registry) == before


@pytest.mark.parametrize(
    "tag", ["..", "%2e%2e", ".x", "..%2f..%2fx", "-", "a" * 129, "a%00", "%0a"]
)
def test_bad_tags_touch_nothing(api, embedded_registry, tag):
    content = api.put_image("v1")
    before = files_around(embedded_registry)
    assert api.put_manifest(tag, content).status in (400, 404)
    assert api.manifest(tag).status in (400, 404)
    assert files_around(embedded_registry) == before


@pytest.mark.parametrize(
    "digest",
    ["sha256:..", "sha256:%2e%2e%2f%2e%2e", "sha256:" + "/" * 64, "..:" + "a" * 64, "x:y",
     "sha256:" + "A" * 64, "sha256:" + "a" * 63 + "%0a"],
)  # fmt: skip
def test_bad_digests_touch_nothing(api, embedded_registry, digest):
    before = files_around(embedded_registry)
    for path in (f"manifests/{digest}", f"blobs/{digest}"):
        for method in ("GET", "DELETE"):
            assert api.send(method, f"{api.base}/{path}").status in (400, 404, 405)
    assert files_around(embedded_registry) == before


def files_around(registry: Registry) -> list[str]:
    """Every path in the server's folder and beside it, the log apart."""
    return sorted(
        str(path) for path in registry.storage.parent.rglob("*") if path != registry.log_file
    )


def test_paths_and_methods_that_are_not_offered(api):
    for method, path in [("GET", "/"), ("GET", "/v2"), ("POST", "/v2/"), ("GET", "/v2/x/nothing")]:
        answer = api.send(method, path)
        assert answer.status in (404, 405)
        assert answer.code == "UNSUPPORTED"


# Disk and process


def test_a_restart_keeps_what_was_finished(tmp_path):
    with run_embedded_registry(tmp_path) as first:
        api = Api(first.host, "app")
        content = api.put_image("v1")
        unfinished = api.start()
        assert api.send("PATCH", unfinished, DATA).status == 202
        first.stop()
    with run_embedded_registry(tmp_path) as second:
        api = Api(second.host, "app")
        assert api.manifest("v1").body == content
        layer = json.loads(content)["layers"][0]
        assert sha256(api.blob(layer["digest"]).body) == layer["digest"]
        assert api.send("GET", unfinished).status == 404
        assert list((second.storage / "scratch").iterdir()) == []


def test_deleted_content_leaves_the_disk(tmp_path):
    with run_embedded_registry(tmp_path) as registry:
        api = Api(registry.host, "app")
        content = api.put_image("v1")
        manifest = json.loads(content)
        api.send("DELETE", f"{api.base}/manifests/{sha256(content)}")
        for descriptor in [manifest["config"], *manifest["layers"]]:
            api.send("DELETE", f"{api.base}/blobs/{descriptor['digest']}")
        assert [path for path in (registry.storage / "blobs").rglob("*") if path.is_file()] == []


def test_contents_lie_once(tmp_path):
    with run_embedded_registry(tmp_path) as registry:
        for name in ("a", "b/c"):
            Api(registry.host, name).put_blob(DATA)
        stored = [path for path in (registry.storage / "blobs").rglob("*") if path.is_file()]
        assert [path.read_bytes() for path in stored] == [DATA]


def test_one_server_a_directory(tmp_path):
    in_use = pytest.raises(UsageError, match="another registry is serving")
    with run_embedded_registry(tmp_path) as registry, in_use:
        ContentStore(registry.storage)
    ContentStore(registry.storage).close()


def test_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot keep a registry in .*/file: "):
        ContentStore(tmp_path / "file")


def test_running_beside_other_work(tmp_path):
    for _ in range(2):  # and again, over what the first left
        with embedded.running(tmp_path) as registry:
            assert registry.url == f"http://127.0.0.1:{registry.port}"
            assert Api(registry.host, "app").put_image("v1")
    with pytest.raises(ConnectionRefusedError):
        Api(registry.host, "app").send("GET", "/v2/")


def test_port_that_is_taken(tmp_path, embedded_registry):
    port = int(embedded_registry.host.rpartition(":")[2])
    said = f"cannot listen on 127.0.0.1 port {port}: Address already in use; choose another --port"
    with pytest.raises(UsageError, match=f"^{said}$"), embedded.running(tmp_path, port=port):
        pass


@pytest.mark.parametrize("port", [-1, 65536])
def test_port_that_does_not_exist(tmp_path, port):
    wrong = pytest.raises(UsageError, match=f"^bad --port {port}: give a number from 0 to 65535$")
    with wrong, embedded.running(tmp_path, port=port):
        pass


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_signal_ends_it_though_a_client_is_connected(tmp_path, number, code):
    with run_embedded_registry(tmp_path) as registry:
        connection = http.client.HTTPConnection(registry.host)
        connection.request("GET", "/v2/")
        connection.getresponse().read()
        registry.process.send_signal(number)
        assert registry.process.wait(HANG_S) == code
        connection.close()
        assert "Traceback" not in registry.log()


def test_without_the_extra(tmp_path):
    """As on a machine that has only what a push needs."""
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from regpush import embedded\n"
        "with embedded.running(sys.argv[1]): pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(embedded.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert "UsageError: the embedded registry needs uvicorn: pip install 'regpush[registry]'" in (
        done.stderr
    )


# Other clients


@pytest.fixture
def layout(tmp_path: Path) -> tuple[Path, Path]:
    """A folder, and an OCI layout made of it by umoci."""
    source, made = tmp_path / "source", tmp_path / "layout"
    (source / "bin").mkdir(parents=True)
    (source / "bin/app").write_bytes(DATA)
    (source / "bin/app").chmod(0o755)
    (source / "link").symlink_to("bin/app")
    umoci, image = real_part("umoci"), f"{made}:v1"
    rootless = [] if os.getuid() == 0 else ["--rootless"]
    for arguments in (
        ["init", "--layout", str(made)],
        ["new", "--image", image],
        ["insert", *rootless, "--image", image, str(source), "/"],
    ):
        subprocess.run([umoci, *arguments], check=True, capture_output=True)
    return source, made


def test_skopeo_in_and_out(embedded_registry, repository, layout, tmp_path):
    source, made = layout
    reference = f"{embedded_registry.host}/{repository}:v1"
    subprocess.run(
        [real_part("skopeo"), "copy", "--quiet", "--dest-tls-verify=false",
         f"oci:{made}:v1", f"docker://{reference}"],
        check=True, capture_output=True,
    )  # fmt: skip
    inspected = subprocess.run(
        [real_part("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"],
        check=True, capture_output=True,
    )  # fmt: skip
    digest = json.loads((made / "index.json").read_bytes())["manifests"][0]["digest"]
    assert sha256(inspected.stdout) == digest
    assert_same_tree(tree(unpack(reference, tmp_path)), tree(source))


def test_oras_in_and_out(embedded_registry, repository, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_bytes(DATA)
    monkeypatch.chdir(tmp_path)
    target = f"{embedded_registry.host}/{repository}:v1"
    client = oras.client.OrasClient(hostname=embedded_registry.host, insecure=True)
    try:
        client.push(target=target, files=["notes.txt"])
        assert client.get_tags(target) == ["v1"]
        (pulled,) = client.pull(target=target, outdir=str(tmp_path / "out"))
    finally:
        client.session.close()
    assert Path(pulled).read_bytes() == DATA
