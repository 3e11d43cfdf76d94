"""What a push does while the registry has not answered yet: a link costs each trip its time."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regpush.digest import OCI_CONFIG, Descriptor, Digest
from regpush.flow import pipeline
from regpush.history.configs import Configs
from regpush.options import LayerOptions, PushOptions, RegistryOptions
from regpush.reference import Reference
from regpush.registry.client import Client
from regpush.settings import Settings
from regpush.sources import stats
from tests.patience import HANG_S
from tests.registry.servers import Registry
from tests.registry_client.front import Answer, Asked, front, pass_on


@pytest.fixture
def streamed(tmp_path: Path) -> Path:
    """An app so large that its layer is sent before its digest is known."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "main.py").write_text("print('hello')\n")
    (app / "data").write_bytes(os.urandom(10 << 20))
    return app


def test_the_config_is_sent_before_the_registry_has_taken_the_last_layer(
    docker_registry: Registry, repository: str, streamed: Path
) -> None:
    """A stream's digest is known after its last byte, two round trips before its upload ends."""
    serve = pass_on(docker_registry.host)
    config_sent = threading.Event()
    in_time: list[bool] = []

    def behaviour(asked: Asked) -> Answer:
        if asked.method == "PATCH":
            in_time.append(config_sent.wait(HANG_S))
        answer = serve(asked)
        if asked.method == "PUT" and b'"rootfs"' in asked.body:
            config_sent.set()
        return answer

    with front(behaviour) as server:
        pipeline.push(
            str(streamed),
            to=f"{server.host}/{repository}",
            options=PushOptions(
                layers=LayerOptions(strategy="single"),
                registry=RegistryOptions(retry_times=0),  # no second attempt after a stall
            ),
            settings=Settings(),
        )
    assert in_time == [True]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An app of three layers or more: own code and two packages."""
    root = tmp_path / "small"
    for name in ("main.py", "node_modules/one/index.js", "node_modules/two/index.js"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{name}\n")
    return root


@pytest.fixture
def pushes(
    docker_registry: Registry, repository: str, app: Path, tmp_path: Path
) -> Iterator[Callable[[], list[str]]]:
    """Push `app` from one machine; the requests of each push, with `blob` for digests of blobs."""
    settings = Settings(cache_dir=str(tmp_path / "cache"))
    with front(pass_on(docker_registry.host)) as server:

        def push() -> list[str]:
            server.asked.clear()
            pipeline.push(str(app), to=f"{server.host}/{repository}", settings=settings)
            return [
                _BLOB.sub("blob", str(one)).replace(f"/v2/{repository}/", "")
                for one in server.asked
            ]

        yield push


_BLOB = re.compile(r"blobs/sha256:[0-9a-f]{64}")
_UNCHANGED = ["GET manifests/latest", "HEAD blob"]


def test_a_machine_that_pushed_before_does_not_read_the_config_again(
    pushes: Callable[[], list[str]], app: Path
) -> None:
    pushes()
    assert pushes() == _UNCHANGED
    (app / "main.py").write_text("changed\n")
    assert "GET blob" not in pushes()
    assert pushes() == _UNCHANGED


def test_a_stored_config_that_was_damaged_is_read_again(
    pushes: Callable[[], list[str]], tmp_path: Path
) -> None:
    pushes()
    (config,) = (tmp_path / "cache" / "configs").iterdir()
    config.write_bytes(config.read_bytes()[::-1])
    assert pushes() == ["GET manifests/latest", "GET blob"]
    assert pushes() == _UNCHANGED


def test_a_config_that_the_registry_lost_is_sent_from_a_machine_that_stored_it(
    pushes: Callable[[], list[str]], docker_registry: Registry, repository: str, tmp_path: Path
) -> None:
    pushes()
    (config,) = (tmp_path / "cache" / "configs").iterdir()
    blob = f"docker/registry/v2/blobs/sha256/{config.name[:2]}/{config.name}"
    shutil.rmtree(docker_registry.storage / blob)
    assert "GET blob" not in pushes()
    assert (docker_registry.storage / blob / "data").read_bytes() == config.read_bytes()
    assert pushes() == _UNCHANGED


def test_configs_are_few_and_the_newest(tmp_path: Path) -> None:
    configs = Configs(str(tmp_path))
    written = [f"config {number}".encode() for number in range(70)]
    for number, data in enumerate(written):
        configs.remember(data)
        newest = tmp_path / "configs" / Digest.of(data).hex
        os.utime(newest, (number, number))
    stored = [
        configs.recall(Descriptor(media_type=OCI_CONFIG, digest=Digest.of(data), size=len(data)))
        for data in written
    ]
    assert stored == [None] * 6 + written[6:]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many connections each call asks for, in order."""
    counts: list[int] = []
    begin = Client.open_ahead

    def open_ahead(client: Client, reference: Reference, count: int) -> None:
        counts.append(count)
        begin(client, reference, count)

    monkeypatch.setattr(Client, "open_ahead", open_ahead)
    return counts


def _push_layers(app: Path, to: str, settings: Settings) -> int:
    """Push `app`; returns how many connections its layers need, by their number."""
    result = pipeline.push(str(app), to=to, settings=settings)
    return len(result.images[0].layers) + 4


def test_connections_begin_before_the_plan_where_the_stat_index_shows_a_change(
    registry: Registry,
    repository: str,
    app: Path,
    tmp_path: Path,
    begun: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stats, "_SLACK_NS", -(1 << 40))  # files are stored however new they are
    settings = Settings(cache_dir=str(tmp_path / "cache"))
    to = f"{registry.host}/{repository}"
    _push_layers(app, to, settings)
    begun.clear()
    _push_layers(app, to, settings)
    assert begun == [1]
    (app / "main.py").write_text("changed\n")
    begun.clear()
    needed = _push_layers(app, to, settings)
    # Before the manifest is read, the number of layers is known to be at most that of the items.
    assert begun[0] == 1
    assert begun[-1] == needed
    assert len(begun) == 3
    assert needed <= begun[1] <= needed + 4


@pytest.mark.parametrize("strategy", ["auto", "size"])
def test_connections_begin_before_packages_are_read_where_own_code_is_new(
    registry: Registry,
    repository: str,
    app: Path,
    begun: list[int],
    strategy: str,
) -> None:
    to = f"{registry.host}/{repository}"
    options = PushOptions(layers=LayerOptions(strategy=strategy))
    pipeline.push(str(app), to=to, options=options, settings=Settings())
    begun.clear()
    pipeline.push(str(app), to=to, options=options, settings=Settings())
    assert begun == [1]
    (app / "main.py").write_text("changed\n")
    begun.clear()
    result = pipeline.push(str(app), to=to, options=options, settings=Settings())
    needed = len(result.images[0].layers) + 4
    assert begun == [1, needed, needed]
    (app / "node_modules" / "one" / "index.js").write_text("changed, which reading it last tells\n")
    begun.clear()
    pipeline.push(str(app), to=to, options=options, settings=Settings())
    assert begun == [1, needed]
