"""Who may write to the embedded registry, and what it says when nothing more fits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from regpush import embedded
from tests.flow.test_push_directory import app
from tests.program import regpush
from tests.registry.api import Api, image_manifest, sha256
from tests.registry.parts import real_part
from tests.registry.servers import Registry, run_embedded_registry

__all__ = ["app"]

CONFIG, LAYER = b'{"architecture":"amd64","os":"linux"}', b"layer"


@pytest.fixture
def api(embedded_registry: Registry, repository: str) -> Api:
    return Api(embedded_registry.host, repository)


def port_of(api: Api) -> str:
    return api.host.rpartition(":")[2]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example",
     "127.0.0.1@evil.example", "[::1].evil.example", "2130706433", "[::1", "",
     "host.docker.internal"],
)  # fmt: skip
def test_a_foreign_host_writes_and_reads_nothing(api: Api, host: str) -> None:
    """DNS rebinding: a page's own name leads here, and Host says that name."""
    api.put_blob(CONFIG)
    api.put_blob(LAYER)
    named = {"Host": host.format(port=port_of(api))}
    content = image_manifest(CONFIG, LAYER)
    path = f"{api.base}/manifests/v1"
    typed = {"Content-Type": "application/vnd.oci.image.manifest.v1+json", **named}
    refused = api.send("PUT", path, content, typed)
    assert refused.status in (400, 403), refused
    assert api.manifest("v1").status == 404
    assert api.blob(sha256(LAYER), **named).status in (400, 403)
    if "." in host and "@" not in host and "[" not in host:
        assert refused.code == "DENIED"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost:{port}", "LOCALHOST", "localhost.", "[::1]:{port}", "10.0.0.7:80"],
)
def test_addresses_cannot_be_rebound_and_localhost_is_here(api: Api, host: str) -> None:
    assert api.send("GET", "/v2/", None, {"Host": host.format(port=port_of(api))}).status == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:{port}",
        "http://127.0.0.1",
        "http://10.0.0.7",
    ],
)
def test_a_page_of_another_origin_writes_nothing(api: Api, origin: str) -> None:
    """Browsers send such a POST without a preflight."""
    digest = sha256(LAYER)
    headers = {"Content-Type": "text/plain", "Origin": origin.format(port=port_of(api))}
    refused = api.send("POST", f"{api.base}/blobs/uploads/?digest={digest}", LAYER, headers)
    assert (refused.status, refused.code) == (403, "DENIED")
    assert api.blob(digest, "HEAD").status == 404
    own = {**headers, "Origin": f"http://{api.host}"}
    assert api.send("POST", f"{api.base}/blobs/uploads/?digest={digest}", LAYER, own).status == 201


def test_names_that_it_was_told_to_answer_to(tmp_path: Path) -> None:
    with embedded.running(tmp_path, hosts=["host.docker.internal", "Build.LAN"]) as registry:
        api = Api(registry.host, "app")
        for name in ("host.docker.internal", "build.lan:5000"):
            assert api.send("GET", "/v2/", None, {"Host": name}).status == 200
        assert api.send("GET", "/v2/", None, {"Host": "other.lan"}).status == 403


@pytest.mark.parametrize(
    "value",
    ["bytes=500-0", "bytes=abc", "bytes=", "items=0-5", "bytes", "bytes=1-2-3", "bytes=0-1,5-2"],
)
def test_a_range_that_is_none_is_ignored(api: Api, value: str) -> None:
    digest = api.put_blob(CONFIG * 100)
    read = api.blob(digest, Range=value)
    assert (read.status, read.body) == (200, CONFIG * 100)


def test_a_range_beyond_the_end(api: Api) -> None:
    read = api.blob(api.put_blob(LAYER), Range="bytes=500-600")
    assert (read.status, read.headers["Content-Range"]) == (416, f"bytes */{len(LAYER)}")


def test_no_more_is_kept_than_was_allowed(tmp_path: Path) -> None:
    with embedded.running(tmp_path, max_size=3_000_000) as registry:
        api = Api(registry.host, "app")
        api.put_blob(b"a" * 1_000_000)
        api.put_blob(b"a" * 1_000_000)  # the same again takes no more
        too_much = api.finish(api.start(), sha256(b"b" * 2_500_000), b"b" * 2_500_000)
        assert (too_much.status, too_much.code) == (507, "DENIED")
        assert b"at most 3000000 bytes (--max-size)" in too_much.body
        # What was refused takes no place.
        second = api.put_blob(b"c" * 1_900_000)
        assert api.send("DELETE", f"{api.base}/blobs/{second}").status == 202
        api.put_blob(b"d" * 1_900_000)
    with embedded.running(tmp_path, max_size=3_000_000) as registry:
        api = Api(registry.host, "app")  # what is there counts after a restart
        data = b"e" * 200_000
        assert api.finish(api.start(), sha256(data), data).status == 507


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    where = tmp_path / "disk"
    where.mkdir()
    mount = [real_part("mount"), "-t", "tmpfs", "-o", "size=2m", "none", str(where)]
    subprocess.run(mount, check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def test_a_full_disk_is_told_to_the_client_and_logged_once(
    small_disk: Path, tmp_path: Path, app: Path
) -> None:
    (app / "large").write_bytes(os.urandom(3_000_000))
    with run_embedded_registry(small_disk) as registry:
        done = regpush(app, "--to", f"{registry.host}/app", "--no-cache", "--retry-times", "2")
        done.failed(5, "507", "no space left on device")
        again = regpush(app, "--to", f"{registry.host}/app", "--no-cache", "--retry-times", "2")
        again.failed(5, "507", "no space left on device")
        log = registry.log()
        assert log.count("no space left on device") == 1
        assert "Traceback" not in log
        # What did not fit is gone: smaller things fit again.
        assert Api(registry.host, "small").put_image("v1")
