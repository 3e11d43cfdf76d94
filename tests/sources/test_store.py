"""Closures read from real databases of Nix and Guix: against `nix-store --query`."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from regpush.entry import Kind
from regpush.errors import SourceError, UsageError
from regpush.events import TargetResolved
from regpush.settings import StoreLocation
from regpush.sources import hashes
from tests.sources.conftest import NixStore, as_nobody, needs_root, take

PROFILE = "/gnu/store/82zs18pmmpw7wvj676cn0wfga08mvy5z-profile"

pytestmark = pytest.mark.usefixtures("private_home")


@pytest.fixture
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_closure_is_what_nix_says(nix_store: NixStore) -> None:
    app = nix_store.built["app"]
    found = take(app, nix_store.stores)
    query = ("nix-store", "--query")
    requisites = nix_store.run(*query, "--requisites", app).split()
    assert sorted(item.path for item in found.closure.items) == sorted(requisites)
    assert found.closure.roots == (app,)
    for item in found.closure.items:
        references = nix_store.run(*query, "--references", item.path).split()
        assert set(item.references) == set(references) - {item.path}
        assert item.size == int(nix_store.run(*query, "--size", item.path))
        nar_hash = nix_store.run(*query, "--hash", item.path).strip()
        assert item.identity.digest == hashes.parse(nar_hash)
    assert app in nix_store.run(*query, "--references", app).split(), "the app refers to itself"
    assert [item.name for item in found.closure.items] == ["leaf", "my-library", "app"]
    assert [item.origin for item in found.closure.items] == ["leaf", "my-library", "app"]
    system = nix_store.run("nix-instantiate", "--eval", "-E", "builtins.currentSystem")
    assert found.closure.system == system.strip().strip('"')
    size = sum(item.size for item in found.closure.items)
    assert found.events == [TargetResolved(target=app, kind="Nix store item", items=3, size=size)]


def test_links_lead_into_the_store(nix_store: NixStore, tmp_path: Path) -> None:
    app = nix_store.built["app"]
    (tmp_path / "profile-1-link").symlink_to(app)
    (tmp_path / "profile").symlink_to("profile-1-link")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/up").symlink_to("..")
    targets = [
        "profile", "./profile/bin/app", "deep/up/profile/", "deep/../profile", f"store:{app}",
        f"{app}/bin/..", str(nix_store.root / "result-app"), "store:profile",
    ]  # fmt: skip
    for target in targets:
        assert take(target, nix_store.stores).closure.roots == (app,), target


def test_the_database_is_found_beside_the_store(nix_store: NixStore) -> None:
    assert take(nix_store.built["app"]).closure.roots == (nix_store.built["app"],)


def test_entries_are_listed_under_the_logical_path(guix_store: Path) -> None:
    found = take(str(guix_store) + PROFILE)
    assert found.closure.roots == (PROFILE,)
    assert {item.name for item in found.closure.items} == {"profile", "hello", "libleaf", "data"}
    assert found.closure.system == "x86_64-linux"
    (told,) = found.events
    assert isinstance(told, TargetResolved)
    assert told.kind == "Guix profile"
    hello = found.closure[found["hello"]]
    at = hello.path.strip("/").encode()
    listed = {entry.path: entry for entry in hello.entries()}
    assert listed[at].kind is Kind.DIRECTORY
    program = listed[at + b"/bin/hello"]
    assert (program.mode, program.uid, program.gid) == (0o555, 0, 0)
    assert all(entry.path.startswith(b"gnu/store/") for entry in listed.values())


@pytest.mark.parametrize("given", ["logical", "physical", "link", "dangling link"])
def test_logical_and_physical_stores_may_differ(guix_store: Path, given: str) -> None:
    """With the database told by the environment, as GUIX_DATABASE_DIRECTORY does."""
    database = str(guix_store / "var/guix/db/db.sqlite")
    stores = (StoreLocation("/gnu/store", database),)
    target = {
        "logical": PROFILE,
        "physical": str(guix_store) + PROFILE,
        "link": str(guix_store / "link"),
        "dangling link": str(guix_store / "logical-link"),
    }[given]
    (guix_store / "link").symlink_to(str(guix_store) + PROFILE)
    (guix_store / "logical-link").symlink_to(PROFILE)
    found = take(target, stores)
    assert found.closure.roots == (PROFILE,)
    for item in found.closure.items:
        assert list(item.entries())


def test_a_store_apart_from_its_database_is_found_by_the_item(guix_store: Path) -> None:
    (guix_store / "elsewhere").mkdir()
    (guix_store / "var").rename(guix_store / "elsewhere/state")
    database = str(guix_store / "elsewhere/state/guix/db/db.sqlite")
    stores = (StoreLocation("/gnu/store", database),)
    found = take(str(guix_store) + PROFILE, stores)
    assert found.closure.roots == (PROFILE,)
    assert list(found.closure[PROFILE].entries())


def test_no_item_is_opened_or_needs_to_be_there(guix_store: Path) -> None:
    expected = take(str(guix_store) + PROFILE).closure
    for item in (guix_store / "gnu/store").iterdir():
        if not item.name.endswith(".drv"):
            item.rename(guix_store / item.name)
    moved = take(str(guix_store) + PROFILE).closure
    assert moved == expected
    assert moved.system == expected.system
    with pytest.raises(SourceError, match=r"-profile .*missing on disk"):
        moved[PROFILE].entries()


def test_the_store_directory_is_not_listed(nix_store: NixStore) -> None:
    """Unlistable for another user, who resolves all the same."""
    needs_root()
    store = nix_store.root / "nix/store"
    store.chmod(0o711)
    try:
        assert as_nobody(nix_store.built["app"]) == "3"
    finally:
        store.chmod(0o755)


@contextlib.contextmanager
def writer(nix_store: NixStore) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(nix_store.database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS Scratch(x)")
        connection.commit()
        yield connection


def test_another_user_reads_an_idle_database(nix_store: NixStore) -> None:
    needs_root()
    with writer(nix_store):
        pass
    assert not Path(f"{nix_store.database}-wal").exists()
    assert as_nobody(nix_store.built["app"]) == "3"


def test_another_user_reads_what_is_still_in_the_log(nix_store: NixStore) -> None:
    needs_root()
    path = "/".join([str(nix_store.root / "nix/store"), "0" * 32 + "-in-the-log-1"])
    with writer(nix_store) as connection:
        row = "INSERT INTO ValidPaths(path, hash, registrationTime, narSize) VALUES(?, ?, 0, 1)"
        connection.execute(row, (path, "sha256:" + "0" * 64))
        connection.commit()
        assert Path(f"{nix_store.database}-wal").stat().st_size
        try:
            assert as_nobody(path) == "1"
        finally:
            connection.execute("DELETE FROM ValidPaths WHERE path = ?", (path,))
            connection.commit()


def test_a_log_that_cannot_be_read_is_an_error_rather_than_stale_facts(
    nix_store: NixStore,
) -> None:
    needs_root()
    log = Path(f"{nix_store.database}-wal")
    log.write_bytes(b"x")
    try:
        assert "cannot read the store database" in as_nobody(nix_store.built["app"])
    finally:
        log.unlink()
        Path(f"{nix_store.database}-shm").unlink(missing_ok=True)


def test_reading_leaves_nothing_behind(nix_store: NixStore) -> None:
    """As root, too, who could: a client of WAL databases makes files, and need not remove them."""
    directory = nix_store.database.parent
    before = sorted(directory.iterdir())
    assert not Path(f"{nix_store.database}-wal").exists()
    take(nix_store.built["app"], nix_store.stores)
    assert sorted(directory.iterdir()) == before


def test_names_with_odd_characters_open(guix_store: Path, tmp_path: Path) -> None:
    odd = tmp_path / "50% of ä?#&mode=rw"
    guix_store.rename(odd)
    assert len(take(str(odd) + PROFILE).closure.items) == 4


@pytest.mark.parametrize("name", ["not-there-1", "leftover-1"])
def test_what_is_not_valid_is_a_source_error(nix_store: NixStore, name: str) -> None:
    path = nix_store.root / "nix/store" / f"{'0' * 32}-{name}"
    if name == "leftover-1":
        path.mkdir()
    with pytest.raises(
        SourceError, match=rf"{path} is not a valid store path according to .*db.sqlite"
    ):
        take(path, nix_store.stores)
    shutil.rmtree(path, ignore_errors=True)


def test_a_store_without_a_database_is_a_source_error(tmp_path: Path) -> None:
    stores = (StoreLocation(str(tmp_path / "store"), str(tmp_path / "db.sqlite")),)
    with pytest.raises(SourceError, match="has no database that regpush finds"):
        take(tmp_path / "store" / f"{'0' * 32}-x", stores)


def test_a_directory_called_store_is_taken_for_one(tmp_path: Path) -> None:
    item = tmp_path / "store" / f"{'0' * 32}-x"
    item.mkdir(parents=True)
    with pytest.raises(SourceError, match="or push a plain directory as dir:PATH"):
        take(item)
    assert take(f"dir:{item}").closure.roots == ("/app",)


def test_a_file_that_is_no_database_is_a_source_error(guix_store: Path) -> None:
    database = guix_store / "var/guix/db/db.sqlite"
    for content in (b"no database at all " * 100, b""):
        database.write_bytes(content)
        with pytest.raises(SourceError, match=r"cannot read the store database .*db\.sqlite"):
            take(str(guix_store) + PROFILE)


def test_a_bad_hash_in_the_database_is_a_source_error(guix_store: Path) -> None:
    with contextlib.closing(sqlite3.connect(guix_store / "var/guix/db/db.sqlite")) as connection:
        connection.execute("UPDATE ValidPaths SET hash = 'md5:00' WHERE path = ?", (PROFILE,))
        connection.commit()
    with pytest.raises(SourceError, match="has a malformed hash of"):
        take(str(guix_store) + PROFILE)


def test_a_derivation_is_refused(nix_store: NixStore) -> None:
    query = ("nix-store", "--query", "--deriver", nix_store.built["app"])
    deriver = nix_store.run(*query).strip()
    with pytest.raises(UsageError, match=r"is a derivation.*build it"):
        take(deriver, nix_store.stores)


def test_a_collected_derivation_only_costs_the_system(guix_store: Path) -> None:
    for derivation in (guix_store / "gnu/store").glob("*.drv"):
        derivation.unlink()
    found = take(str(guix_store) + PROFILE)
    assert found.closure.system is None
    assert len(found.closure.items) == 4


def test_a_whole_store_is_refused(nix_store: NixStore, guix_store: Path) -> None:
    for store in (nix_store.root / "nix/store", guix_store / "gnu/store"):
        with pytest.raises(UsageError, match="whole store"):
            take(store)


def test_a_circle_of_links_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(SourceError, match="cannot read a: Too many levels"):
        take("a")
    with pytest.raises(UsageError, match="neither a path in a Nix or Guix store"):
        take("store:a")
