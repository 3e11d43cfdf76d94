"""What a push does while the registry has not answered yet: a link costs each trip its time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from regpush.flow import pipeline
from regpush.options import LayerOptions, PushOptions, RegistryOptions
from regpush.settings import Settings
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
