"""`python:` beside everything else that regpush does, and an index that is slow, far or strange."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from tests.flow.test_node_lock import statement
from tests.http.proxying import proxy
from tests.program import push, regpush
from tests.registry_client.front import Answer, Asked, front, pass_on
from tests.registry_client.tokens import USERS, token_registry
from tests.wheels import Index, Wheel, make_wheel, serve, write_pylock

BARE = ("--from", "none", "--python", "3.11.2")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    app.mkdir()
    (app / "main.py").write_text("import one\n")
    return app


def two_versions(index: Index) -> tuple[list[Wheel], list[Wheel]]:
    """Four packages, each on top of the one before; then another version of the second."""
    names = ["one", "two", "three", "four"]
    before = [
        make_wheel(index.folder, name, needs=names[at - 1 : at] if at else ())
        for at, name in enumerate(names)
    ]
    after = [make_wheel(index.folder, "two", "1.1", needs=["one"])]
    return before, [before[0], *after, *before[2:]]


def test_versions_are_what_plan_and_why_tell(index, app, to):
    before, after = two_versions(index)
    write_pylock(app, before, index.url_of)
    push(f"python:{app}", to, *BARE, "--cmd", "x").ok()
    write_pylock(app, after, index.url_of)
    index.gets.clear()
    planned = regpush("plan", f"python:{app}", "--to", to, *BARE, "--cmd", "x").ok().stdout
    assert "two 1.0 -> 1.1 changed" in planned
    assert not index.gets
    newer = to.removesuffix(":1") + ":2"
    push(f"python:{app}", newer, *BARE, "--cmd", "x", "--reuse-from", to).ok()
    told = regpush("why", to, newer, "--format", "json").ok().report
    assert [one["cause"] for one in told["causes"]] == ["two 1.0 -> 1.1 changed"]
    assert "dist-info" not in regpush("why", to, newer).ok().stdout


@pytest.mark.parametrize(
    "strategy", ["app-deps", "auto", "origin", "popularity", "single", "size", "stable"]
)
def test_every_strategy_groups_packages_of_a_lock(index, app, to, strategy):
    before, after = two_versions(index)
    write_pylock(app, before, index.url_of)
    flags = (*BARE, "--cmd", "x", "--layers", strategy, "--max-layers", "3")
    first = push(f"python:{app}", to, *flags).ok()
    assert len(first.actions) <= 3
    index.gets.clear()
    again = push(f"python:{app}", to, *flags).ok()
    assert not again.report["changed"]
    assert not index.gets
    write_pylock(app, after, index.url_of)
    push(f"python:{app}", to, *flags).ok()
    assert "two-1.1-py3-none-any.whl" in index.gets


def test_an_image_is_compared_with_its_lock_and_says_which_it_was(index, app, to):
    write_pylock(app, two_versions(index)[0], index.url_of)
    push(f"python:{app}", to, *BARE, "--cmd", "x", "--provenance").ok()
    regpush("verify", to, f"python:{app}", "--python", "3.11.2").ok()
    attached = regpush("inspect", to, "--format", "json").ok().report["referrers"]
    assert attached[0]["artifactType"] == "application/vnd.in-toto+json"
    write_pylock(app, two_versions(index)[1], index.url_of)
    other = regpush("verify", to, f"python:{app}", "--python", "3.11.2")
    assert other.code == 8, other.stderr


def test_a_configuration_file_and_kubernetes_manifests_name_it(index, app, to, tmp_path):
    write_pylock(app, two_versions(index)[0], index.url_of)
    name, _, tag = to.rpartition(":")
    (tmp_path / "regpush.toml").write_text(
        f'[apps.shop]\ntarget = "python:app"\nto = "{name}"\ntags = ["{tag}"]\nfrom = "none"\n'
        'python = "3.11.2"\ncmd = ["x"]\n'
    )
    manifest = tmp_path / "pod.yaml"
    manifest.write_text("spec:\n  containers:\n  - image: regpush://shop\n")
    done = regpush("resolve", "-f", manifest, cwd=tmp_path).ok()
    assert f"image: {name}@sha256:" in done.stdout
    assert not push_again(tmp_path)["changed"]


def push_again(folder: Path) -> dict[str, object]:
    report: dict[str, object] = json.loads(
        regpush("shop", "--format", "json", cwd=folder).ok().stdout
    )
    return report


@contextmanager
def silent(head: bytes) -> Iterator[str]:
    """A server that answers `head` to each request and then nothing more; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            held.append(client)
            with suppress(OSError):
                client.recv(65536)
                client.sendall(head)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for client in held:
            client.close()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nPK"],
                         ids=["no answer", "no more"])  # fmt: skip
def test_an_index_that_stalls(index, app, to, head):
    wheel = make_wheel(index.folder, "one")
    with silent(head) as url:
        write_pylock(app, [wheel], lambda one: f"{url}/packages/{one.path.name}")
        done = push(f"python:{app}", to, *BARE, "--cmd", "x", "--retry-times", "1",
                    "--stall-timeout", "3")  # fmt: skip
    done.failed(5, "fetching one 1.0 from 127.0.0.1")
    regpush("inspect", to).failed(4, "tests/r")


def test_through_a_proxy_and_no_other_way(index, app, to):
    """The name of the index is known to the proxy alone."""
    wheel = make_wheel(index.folder, "one")
    write_pylock(app, [wheel], lambda one: f"http://wheels.test/packages/{one.path.name}")
    flags = (*BARE, "--cmd", "x", "--retry-times", "1")
    push(f"python:{app}", to, *flags, env={"NO_PROXY": "*"}).failed(5, "wheels.test")
    address = index.url.removeprefix("http://")
    with proxy({"wheels.test": address}, login="me:s3cret") as running:
        env = {"HTTP_PROXY": f"http://me:s3cret@{running.host}", "NO_PROXY": "127.0.0.1"}
        done = push(f"python:{app}", to, *flags, "-vv", env=env).ok()
    assert "s3cret" not in done.stderr
    assert index.gets == [wheel.path.name]
    assert len(running.heads) == 1


def test_an_index_with_a_certificate_of_its_own_authority(app, to, tmp_path):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    wheel = make_wheel(tmp_path / "index", "one")
    flags = (*BARE, "--cmd", "x", "--retry-times", "1")
    with serve(tmp_path / "index", context) as index:
        write_pylock(app, [wheel], index.url_of)
        refused = push(f"python:{app}", to, *flags)
        host = index.url.removeprefix("https://")
        refused.failed(4, f"one 1.0 from {host}", "certificate of 127.0.0.1 is not trusted")
        assert not index.gets
        push(f"python:{app}", to, *flags, env={"SSL_CERT_FILE": str(tmp_path / "ca.pem")}).ok()
        assert index.gets == [wheel.path.name]


def test_a_wheel_larger_than_layers_may_be(index, app, to):
    """Known from the lock: nothing is fetched before it is said."""
    wheel = make_wheel(index.folder, "one")
    path = write_pylock(app, [wheel], index.url_of)
    text = path.read_text()
    path.write_text(text.replace(f"size = {wheel.size}", f"size = {11 << 30}"))
    done = regpush("plan", f"python:{app}", "--to", to, *BARE).ok()
    assert "the wheel of one 1.0 has 11.0 GiB" in done.stderr
    refused = push(f"python:{app}", to, *BARE, "--cmd", "x", "--strict")
    refused.failed(2, "the wheel of one 1.0 has 11.0 GiB")
    assert index.gets == []
    path.write_text(text)
    assert "GiB" not in regpush("plan", f"python:{app}", "--to", to, *BARE).ok().stderr


def test_an_index_that_cannot_be_reached(index, app, to):
    wheel = make_wheel(index.folder, "one")
    for address, words in (
        ("127.0.0.1:1", "refused"),  # no server listens at port 1
        ("no-such-index.test", "no-such-index.test"),
    ):
        write_pylock(app, [wheel], lambda one, at=address: f"http://{at}/{one.path.name}")
        done = push(f"python:{app}", to, *BARE, "--cmd", "x", "--retry-times", "0")
        done.failed(5, f"one 1.0 from {address}", words)


def test_provenance_names_wheels_by_the_hashes_of_the_lock(index, app, to):
    wheels = two_versions(index)[0]
    path = write_pylock(app, wheels, index.url_of)
    push(f"python:{app}", to, *BARE, "--cmd", "x", "--provenance").ok()
    materials = statement(to)["predicate"]["buildDefinition"]["resolvedDependencies"]
    said = {one.get("uri") or one["name"]: one["digest"] for one in materials}
    purls = {f"pkg:pypi/{one.name}@{one.version}": {"sha256": one.sha256} for one in wheels}
    assert {purl: said[purl] for purl in purls} == purls
    assert said["pylock.toml"] == {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("stated_s", [3, 300], ids=["it says so", "it promises more"])
def test_a_token_that_lasts_shorter_than_a_layer_of_wheels(index, app, repository, tmp_path,
                                                           stated_s):  # fmt: skip
    wheel = make_wheel(index.folder, "one", files={"one/data.bin": os.urandom(6 << 20)})
    write_pylock(app, [wheel], index.url_of)
    with token_registry(tmp_path) as (registry, tokens):
        tokens.stated_s = stated_s
        ended: list[str] = []
        then = pass_on(registry.host)

        def behaviour(asked: Asked) -> Answer:
            if len(asked.body) > 1 << 20 and not ended:
                # The token was good when the layer began, and is over when it has arrived.
                ended.append(asked.headers["authorization"])
            elif asked.headers.get("authorization") in ended:
                del asked.headers["authorization"]
            return then(asked)

        with front(behaviour) as before:
            pair = base64.b64encode(f"alice:{USERS['alice']}".encode()).decode()
            env = {"REGPUSH_AUTH": json.dumps({"auths": {before.host: {"auth": pair}}})}
            to = f"{before.host}/{repository}:1"
            done = push(f"python:{app}", to, *BARE, "--cmd", "x", env=env).ok()
            assert done.report["changed"]
            assert len(ended) == 1
            assert len(tokens.requests) > 1
            # Whole, once: what was sent before the token ended is not sent again.
            assert sum(len(asked.body) for asked in before.asked) < 1.5 * wheel.size
            regpush("verify", to, f"python:{app}", "--python", "3.11.2", env=env).ok()


def test_what_pip_has_is_not_fetched(index, app, to, tmp_path):
    """pip's `SafeFileCache`: the body is in a file named by the sha224 of its URL."""
    wheel = make_wheel(index.folder, "one")
    write_pylock(app, [wheel], index.url_of)
    name = hashlib.sha224(index.url_of(wheel).encode()).hexdigest()
    body = tmp_path / "pip/http-v2" / Path(*name[:5]) / f"{name}.body"
    body.parent.mkdir(parents=True)
    body.write_bytes(wheel.path.read_bytes())
    env = {"PIP_CACHE_DIR": str(tmp_path / "pip")}
    again = ("--cmd", "x", "--reuse", "none")
    push(f"python:{app}", to, *BARE, *again, env=env).ok()
    assert not index.gets
    assert body.read_bytes() == wheel.path.read_bytes()
    # Of another content it is of no use.
    body.write_bytes(os.urandom(wheel.size))
    push(f"python:{app}", to, *BARE, *again, env=env).ok()
    assert index.gets == [wheel.path.name]
