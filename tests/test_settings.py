"""The environment, read by a pure function."""

import pytest

from regpush.errors import UsageError
from regpush.options import Algorithm, Compression
from regpush.settings import Settings


def test_an_empty_environment_is_no_error():
    got = Settings.from_environ({})
    assert (got.cache_dir, got.auth_files, got.source_date_epoch) == (None, (), None)


def test_places():
    got = Settings.from_environ(
        {"HOME": "/h", "DOCKER_CONFIG": "/d", "REGISTRY_AUTH_FILE": "/a", "XDG_RUNTIME_DIR": "/r"}
    )
    assert got.cache_dir == "/h/.cache/regpush"
    assert got.auth_files == (
        "/a",
        "/d/config.json",
        "/r/containers/auth.json",
        "/h/.config/containers/auth.json",
        "/h/.docker/config.json",
    )
    assert Settings.from_environ({"XDG_CACHE_HOME": "/c"}).cache_dir == "/c/regpush"


def test_stores():
    def stores(**environ):
        return [(s.logical, s.database) for s in Settings.from_environ(environ).stores]

    assert stores() == [
        ("/nix/store", "/nix/var/nix/db/db.sqlite"),
        ("/gnu/store", "/var/guix/db/db.sqlite"),
    ]
    assert stores(NIX_STORE_DIR="/s", NIX_STATE_DIR="/v")[0] == ("/s", "/v/db/db.sqlite")
    assert stores(GUIX_STATE_DIRECTORY="/v")[0] == ("/gnu/store", "/v/db/db.sqlite")
    assert stores(GUIX_DATABASE_DIRECTORY="/d")[0] == ("/gnu/store", "/d/db.sqlite")


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "9" * 12])
def test_a_wrong_source_date_epoch(text):
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        Settings.from_environ({"SOURCE_DATE_EPOCH": text})


@pytest.mark.parametrize(
    ("text", "algorithm", "level"),
    [
        ("gzip", Algorithm.GZIP, 6),
        ("gzip:fast", Algorithm.GZIP, 1),
        ("gzip:best", Algorithm.GZIP, 9),
        ("zstd", Algorithm.ZSTD, 3),
        ("zstd:19", Algorithm.ZSTD, 19),
        ("none", Algorithm.NONE, 0),
    ],
)
def test_compressions(text, algorithm, level):
    assert Compression.parse(text) == Compression(algorithm, level)


@pytest.mark.parametrize(
    "text", ["", "gzip:", "gzip:1", "zstd:", "zstd:0", "zstd:20", "none:1", "xz"]
)
def test_no_compressions(text):
    with pytest.raises(UsageError):
        Compression.parse(text)
