"""What is pushed is kept from the real garbage collector, and given up when the push ends."""

import os
from pathlib import Path

import pytest

import regpush
from regpush.concurrency import Cancellation
from regpush.errors import SourceError
from regpush.events import Event, LayersPlanned, ignore
from regpush.options import SourceOptions
from regpush.settings import Settings
from regpush.sources.targets import resolve
from regpush.sources.tools import Workshop
from tests.registry.parts import real_part
from tests.registry.servers import Registry
from tests.stores import NixStore

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="nix-build here needs root")


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> NixStore:
    real_part("nix-store")
    return NixStore(tmp_path_factory.mktemp("gc") / "nix")


def taken(nix: NixStore, path: Path, workshop: Workshop):
    stores = Settings.from_environ(nix.environment).stores
    return resolve([str(path)], SourceOptions(), stores, workshop=workshop)


def test_nothing_is_collected_while_it_is_pushed(nix: NixStore) -> None:
    path = nix.build("kept")
    with Workshop(ignore, Cancellation()) as workshop:
        closure = taken(nix, path, workshop)
        nix.run("nix-store", "--gc")
        assert all(list(item.entries()) for item in closure.items)
    roots = nix.state / "gcroots/auto"
    assert not [root for root in roots.iterdir() if "regpush-" in os.readlink(root)]
    nix.run("nix-store", "--gc")
    assert not path.exists()


def test_the_collector_runs_in_the_middle_of_a_push(
    nix: NixStore, docker_registry: Registry, repository: str
) -> None:
    path = nix.build("pushed")
    ran: list[str] = []

    def collect(event: Event) -> None:
        if isinstance(event, LayersPlanned):
            ran.append(nix.run("nix-store", "--gc"))

    to = f"{docker_registry.host}/{repository}"
    settings = Settings.from_environ(nix.environment)
    result = regpush.push(str(path), to=to, settings=settings, notify=collect)
    assert ran
    held = {item for layer in result.layers for item in layer.items}
    assert str(path) in held
    assert result.uploaded_bytes > 0
    nix.run("nix-store", "--gc")
    assert not path.exists()


def test_the_daemon_is_asked_where_the_store_is_not_ours(
    nix: NixStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link by hand fails; Nix's own command makes one."""
    path = nix.build("asked")
    for name, value in nix.environment.items():
        monkeypatch.setenv(name, value)
    real, denied = os.symlink, []

    def symlink(target: str, link: str) -> None:
        if "gcroots" in link:
            denied.append(link)
            raise PermissionError(13, "Permission denied")
        real(target, link)

    monkeypatch.setattr(os, "symlink", symlink)
    with Workshop(ignore, Cancellation()) as workshop:
        taken(nix, path, workshop)
        assert denied
        nix.run("nix-store", "--gc")
        assert path.exists()
    nix.run("nix-store", "--gc")
    assert not path.exists()


def test_a_path_that_went_all_the_same_is_named(nix: NixStore) -> None:
    path = nix.build("deleted")
    with Workshop(ignore, Cancellation()) as workshop:
        closure = taken(nix, path, workshop)
        nix.run("nix-store", "--delete", "--ignore-liveness", str(path))
        with pytest.raises(SourceError, match=rf"{path.name} .*missing on disk"):
            closure[str(path)].entries()


def test_a_store_without_rights_is_read_without_a_root(
    nix: NixStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nix.build("foreign")
    roots = nix.state / "gcroots/auto"
    roots.rename(roots.with_name("gone"))
    try:
        monkeypatch.setenv("PATH", "")
        with Workshop(ignore, Cancellation()) as workshop:
            assert len(taken(nix, path, workshop).items) == 5
    finally:
        roots.with_name("gone").rename(roots)
