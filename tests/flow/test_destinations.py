"""One push to several registries: packed once, sent to all that lack it, tagged when all hold."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import regpush as library
from regpush.concurrency import Cancellation
from regpush.digest import Digest
from regpush.errors import RegpushError, SourceError
from regpush.flow import assemble
from regpush.options import PushOptions, RegistryOptions
from regpush.pack.stream import LayerStream
from regpush.settings import Settings
from regpush.transfer.relay import AHEAD, Relay
from tests.patience import HANG_S
from tests.program import push, regpush
from tests.programs import builds
from tests.registry.api import Api
from tests.registry.faults import (
    FOREVER,
    Rule,
    answers,
    breaks,
    error,
    fault_server,
    resets,
)
from tests.registry.outcomes import make_app, small_spool, verify_image
from tests.registry.parts import real_part
from tests.registry.servers import Registry
from tests.registry.wire import StartProxy


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path / "app")


@pytest.fixture
def two(docker_registry: Registry, embedded_registry: Registry) -> tuple[Registry, Registry]:
    return docker_registry, embedded_registry


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "Spool", small_spool)
    monkeypatch.setattr(Cancellation, "wait", lambda self, seconds: self.check())


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The label of a layer, each time that one is packed."""
    labels: list[str] = []
    begin = LayerStream.__init__

    def noted(self, source, packer, progress):
        labels.append(source.planned.label)
        begin(self, source, packer, progress)

    monkeypatch.setattr(LayerStream, "__init__", noted)
    return labels


def push_here(app: Path, to: str, *others: str, **more):
    """A push in this process: small blobs are streamed, and waits are short."""
    options = PushOptions(registry=RegistryOptions(also_to=others, **more), cache=False)
    return library.push(str(app), to=to, options=options, settings=Settings())


def tags(host: str, repository: str) -> list[str]:
    answer = Api(host, repository).send("GET", f"/v2/{repository}/tags/list")
    return json.loads(answer.body).get("tags") or [] if answer.status == 200 else []


def digest_of(reference: str) -> str:
    command = [real_part("skopeo"), "inspect", "--tls-verify=false", "--format", "{{.Digest}}"]
    done = subprocess.run([*command, f"docker://{reference}"], capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_each_has_its_tags_and_its_report(
    two: tuple[Registry, Registry], repository: str, app: Path
) -> None:
    one, other = (f"{registry.host}/{repository}" for registry in two)
    report = push(app, f"{one}:v1", "-t", "latest", "--also-to", f"{other}:own").ok().report
    assert [(at["image"], at["tags"]) for at in report["destinations"]] == [
        (one, ["v1", "latest"]),
        (other, ["own"]),
    ]
    digests = {digest_of(ref) for ref in (f"{one}:v1", f"{one}:latest", f"{other}:own")}
    assert digests == {report["digest"]} == {at["digest"] for at in report["destinations"]}
    for registry, tag in zip(two, ("v1", "own"), strict=True):
        assert verify_image(registry.host, repository, tag) == report["digest"]
    again = push(app, f"{one}:v1", "-t", "latest", "--also-to", other).ok()
    assert f"\n{one}: v1, latest\n{other}: v1, latest\n" in again.stderr
    report = again.report
    assert report["destinations"][1]["tags"] == ["v1", "latest"]


@pytest.mark.usefixtures("hurried")
def test_every_layer_is_packed_once_and_goes_to_both(
    two: tuple[Registry, Registry], repository: str, app: Path, wire: StartProxy,
    packed: list[str],
) -> None:  # fmt: skip
    wires = [wire(registry) for registry in two]
    one, other = (f"{at.host}/{repository}" for at in wires)
    result = push_here(app, one, other)
    assert sorted(packed) == sorted(layer.label for layer in result.layers)
    size = sum(layer.size for layer in result.layers)
    for at in wires:
        assert size < at.stats().bytes_up < size * 1.1 + 20_000
    assert result.uploaded_bytes > 2 * size
    for registry in two:
        assert verify_image(registry.host, repository, "latest") == str(result.digest)

    packed.clear()
    for at in wires:
        at.reset()
    again = push_here(app, one, other)
    assert (again.changed, again.uploaded_bytes, packed) == (False, 0, [])
    for at in wires:
        assert {request.method for request in at.stats().requests} <= {"GET", "HEAD"}


@pytest.mark.usefixtures("hurried")
def test_what_one_has_goes_to_the_other_alone(
    two: tuple[Registry, Registry], repository: str, app: Path, wire: StartProxy,
    packed: list[str],
) -> None:  # fmt: skip
    one, other = (wire(registry) for registry in two)
    first = push_here(app, f"{one.host}/{repository}")
    one.reset()
    packed.clear()
    both = push_here(app, f"{one.host}/{repository}", f"{other.host}/{repository}")
    assert both.digest == first.digest
    assert one.stats().bytes_up < 10_000
    assert sorted(packed) == sorted(layer.label for layer in both.layers)
    assert {layer.why for layer in both.layers} == {f"{other.host}/{repository} lacked the blob"}
    assert [at.moved for at in both.destinations] == [(), ("latest",)]
    assert both.changed
    # And the other way round: what only the further one knows is reused for the first.
    assert push_here(app, f"{one.host}/{repository}/new", f"{other.host}/{repository}").changed


@pytest.mark.usefixtures("hurried")
def test_repositories_of_one_registry_mount_from_each_other(
    docker_registry: Registry, repository: str, app: Path, wire: StartProxy
) -> None:
    at = wire(docker_registry)
    names = [f"{at.host}/{repository}/{name}" for name in "abc"]
    result = push_here(app, *names)
    size = sum(layer.size for layer in result.layers)
    assert size < at.stats().bytes_up < size * 1.2 + 40_000
    for name in "abc":
        assert verify_image(docker_registry.host, f"{repository}/{name}", "latest")


@pytest.mark.usefixtures("hurried")
def test_where_mounts_are_refused_all_are_sent_to(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    refused = Rule(answers(405), "POST", "open", times=FOREVER, only=lambda a: "mount=" in a.target)
    with fault_server(docker_registry.host, refused) as server:
        push_here(app, f"{server.host}/{repository}/a", f"{server.host}/{repository}/b")
    for name in "ab":
        assert verify_image(docker_registry.host, f"{repository}/{name}", "latest")


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("trouble", [breaks(0.5), resets, answers(503)])
def test_a_failed_attempt_at_one_is_repeated_for_that_one(
    two: tuple[Registry, Registry], repository: str, app: Path, wire: StartProxy,
    packed: list[str], trouble,
) -> None:  # fmt: skip
    main, healthy = two[0], wire(two[1])
    rules = [Rule(trouble, "PATCH"), Rule(trouble, "PUT", "upload")]
    with fault_server(main.host, *rules) as server:
        result = push_here(app, f"{server.host}/{repository}", f"{healthy.host}/{repository}")
    size = sum(layer.size for layer in result.layers)
    assert healthy.stats().bytes_up < size * 1.1 + 20_000
    assert len(packed) > len(result.layers)
    for registry in two:
        assert verify_image(registry.host, repository, "latest") == str(result.digest)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "rule",
    [
        Rule(error(403, "DENIED"), "POST", "open", times=FOREVER),
        Rule(error(403, "DENIED"), "PATCH", times=FOREVER),
        Rule(error(403, "DENIED"), "PUT", "manifest", times=FOREVER),
        Rule(answers(500), "PUT", "upload", times=FOREVER),
    ],
    ids=lambda rule: f"{rule.method}-{rule.kind}",
)
@pytest.mark.parametrize("broken", [0, 1])
def test_one_broken_registry_moves_no_tag_anywhere(
    two: tuple[Registry, Registry], repository: str, app: Path, rule: Rule, broken: int
) -> None:
    with fault_server(two[broken].host, rule) as server:
        hosts = [server.host if at == broken else two[at].host for at in (0, 1)]
        places = [f"{host}/{repository}" for host in hosts]
        with pytest.raises(RegpushError) as caught:
            push_here(app, places[0], places[1], retry_times=1)
    assert places[broken] in str(caught.value) or server.host in str(caught.value)
    for registry in two:
        assert tags(registry.host, repository) == []


@pytest.mark.usefixtures("hurried")
def test_what_one_has_lost_is_sent_again_to_that_one(
    two: tuple[Registry, Registry], repository: str, app: Path, wire: StartProxy
) -> None:
    first = push_here(app, *(f"{registry.host}/{repository}" for registry in two))
    lost = max(first.layers, key=lambda layer: layer.size)
    api = Api(two[0].host, repository)
    size = api.blob(str(lost.digest), "HEAD").headers["Content-Length"]
    assert api.send("DELETE", f"{api.base}/blobs/{lost.digest}").status == 202
    stale = Rule(
        answers(200, Content_Length=size), "HEAD", "blob", times=FOREVER,
        only=lambda asked: str(lost.digest) in asked.target,
    )  # fmt: skip
    (app / "main.py").write_text("changed\n")
    healthy = wire(two[1])
    with fault_server(two[0].host, stale) as server:
        result = push_here(app, f"{healthy.host}/{repository}", f"{server.host}/{repository}")
    assert healthy.stats().bytes_up < lost.size / 2
    for registry in two:
        assert verify_image(registry.host, repository, "latest") == str(result.digest)
    (again,) = [layer for layer in result.layers if layer.digest == lost.digest]
    assert again.why == "the registry had lost the blob"


def test_conditions_hold_at_every_place(
    two: tuple[Registry, Registry], repository: str, app: Path
) -> None:
    one, other = (f"{registry.host}/{repository}" for registry in two)
    before = push(app, f"{other}:v1").ok().report["digest"]
    (app / "main.py").write_text("changed\n")
    for flags in (("--if-exists", "fail"), ("--if-exists", "same")):
        push(app, f"{one}:v1", "--also-to", other, *flags).failed(6, f"{other}:v1")
        assert tags(two[0].host, repository) == []
    push(app, f"{one}:v1", "--also-to", other, "--if-exists", "skip").ok()
    assert digest_of(f"{other}:v1") == before != digest_of(f"{one}:v1")


def test_several_platforms_to_several_registries(
    two: tuple[Registry, Registry], repository: str, tmp_path: Path
) -> None:
    dist = builds(tmp_path / "dist", "amd64", "arm64")
    one, other = (f"{registry.host}/{repository}" for registry in two)
    flags = ("--platform", "linux/amd64,linux/arm64", "--also-to", other)
    planned = regpush("plan", dist, "--to", one, *flags, "--exact", "--format", "json").ok().report
    report = push(dist, one, *flags).ok().report
    assert report["digest"] == planned["digest"] == digest_of(one) == digest_of(other)
    blobs = {layer["digest"]: layer["size"] for at in report["images"] for layer in at["layers"]}
    assert planned["bytes"]["uploaded"] == 2 * sum(blobs.values())
    again = push(dist, one, *flags).ok().report
    assert (again["changed"], again["bytes"]["uploaded"]) == (False, 0)


def test_a_budget_is_of_all_places_together(
    two: tuple[Registry, Registry], repository: str, app: Path
) -> None:
    one, other = (f"{registry.host}/{repository}" for registry in two)
    exact = regpush("plan", app, "--to", one, "--exact", "--format", "json").ok().report
    size = exact["bytes"]["uploaded"]
    push(app, one, "--also-to", other, "--max-upload", f"{2 * size - 1}").failed(7)
    assert tags(two[0].host, repository) == []
    push(app, one, "--also-to", other, "--max-upload", f"{2 * size}").ok()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--also-to", "127.0.0.1:1/a:v2"), "127.0.0.1:1/a is pushed to already"),
        (("--also-to", "127.0.0.1:1/b", "--also-to", "127.0.0.1:1/b"), "is pushed to already"),
        (("--also-to", "127.0.0.1:1/B"), "lower case"),
        (("--also-to", f"127.0.0.1:1/b@sha256:{'0' * 64}"), "cannot push to a digest"),
        (("--also-to", "127.0.0.1:1/b:v1", "--by-digest"), "--by-digest moves no tag"),
    ],
)
def test_places_that_make_no_sense(app: Path, flags: tuple[str, ...], words: str) -> None:
    push(app, "127.0.0.1:1/a", *flags).failed(2, words)


# The relay: one pass, several readers.


class Blob:
    """Chunks that are made one by one; it counts how far it is."""

    def __init__(self, chunks: list[bytes], fails: Exception | None = None) -> None:
        self.chunks, self.fails, self.made, self.closed = chunks, fails, 0, False

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self.chunks:
                self.made += 1
                yield chunk
            if self.fails:
                raise self.fails
        finally:
            self.closed = True

    @property
    def digest(self) -> Digest:
        return Digest.of(b"".join(self.chunks))

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))


CHUNKS = [bytes([number]) for number in range(50)]


def test_all_readers_get_all_bytes_and_the_slowest_sets_the_pace() -> None:
    blob = Blob(CHUNKS)
    relay = Relay(2, lambda: blob)
    fast, slow = (relay.opener(index)() for index in (0, 1))
    with ThreadPoolExecutor(2) as pool:
        making = pool.submit(relay.run)
        reading = pool.submit(lambda: b"".join(fast))
        chunks = iter(slow)
        got = next(chunks)
        while (made := blob.made) < AHEAD + 2 and not reading.done():
            pass
        assert made <= AHEAD + 2
        assert got + b"".join(chunks) == b"".join(CHUNKS) == reading.result(HANG_S)
        making.result(HANG_S)
    assert (fast.digest, slow.size) == (blob.digest, blob.size)


def test_a_reader_that_begins_anew_does_so_alone_and_holds_up_nobody() -> None:
    blobs = [Blob(CHUNKS), Blob(CHUNKS)]
    left = iter(blobs)
    relay = Relay(2, lambda: next(left))
    opened = relay.opener(0)
    with ThreadPoolExecutor(2) as pool:
        making = pool.submit(relay.run)
        chunks = iter(opened())
        next(chunks)
        chunks.close()
        assert b"".join(relay.opener(1)()) == b"".join(CHUNKS)
        making.result(HANG_S)
    assert b"".join(opened()) == b"".join(CHUNKS)
    assert [blob.closed for blob in blobs] == [True, True]


def test_nobody_waits_for_a_blob_that_cannot_be_made_or_that_nobody_reads() -> None:
    relay = Relay(2, lambda: Blob(CHUNKS[:1], SourceError("changed")))
    with ThreadPoolExecutor(3) as pool:
        making = pool.submit(relay.run)
        reading = [pool.submit(b"".join, relay.opener(index)()) for index in (0, 1)]
        for future in (making, *reading):
            with pytest.raises(SourceError, match="changed"):
                future.result(HANG_S)
    blob = Blob(CHUNKS)
    relay = Relay(1, lambda: blob)
    relay.let_go(0)
    running = threading.Thread(target=relay.run)
    running.start()
    running.join(HANG_S)
    assert (blob.made, blob.closed) == (1, True)
