"""Sizes that take minutes: run by hand, with `-m soak`."""

import hashlib
import os

import pytest

from tests.flow.test_push_directory import below, write
from tests.images import unpack
from tests.program import push

pytestmark = pytest.mark.soak


def test_a_hundred_thousand_small_files(docker_registry, repository, tmp_path):
    root = tmp_path / "app"
    for number in range(100_000):
        folder = root / f"{number % 100:02d}"
        if number < 100:
            folder.mkdir(parents=True)
        (folder / f"{number:06d}").write_bytes(hashlib.sha256(b"%d" % number).digest() * 128)
    to = f"{docker_registry.host}/{repository}"
    push(root, to, timeout=600).ok()
    assert below(unpack(f"{to}:latest", tmp_path / "out") / "app") == below(root)
    again = push(root, to, timeout=600).ok()
    assert not again.report["changed"]


def test_a_file_of_four_gigabytes(docker_registry, repository, tmp_path):
    root = tmp_path / "app"
    with write(root / "big").open("wb") as file:
        block = os.urandom(1 << 20)
        for number in range(4 * 1024 + 1):
            file.write(number.to_bytes(8) + block[8:])
    to = f"{docker_registry.host}/{repository}"
    push(root, to, timeout=1200).ok()
    assert below(unpack(f"{to}:latest", tmp_path / "out") / "app") == below(root)


def test_ten_gigabytes_need_a_long_size_field(docker_registry, repository, tmp_path):
    """More than 8 GiB do not fit ustar's size: a PAX record says it. Sparse here, zeros there."""
    root = tmp_path / "app"
    with write(root / "big").open("wb") as file:
        file.truncate((8 << 30) + 12345)
    to = f"{docker_registry.host}/{repository}"
    done = push(root, to, timeout=1200).ok()
    sizes = [layer["uncompressed_size"] for layer in done.report["images"][0]["layers"]]
    assert max(sizes) > 8 << 30  # in a layer of its own, as a large file is
    rootfs = unpack(f"{to}:latest", tmp_path / "out")
    assert (rootfs / "app" / "big").stat().st_size == (8 << 30) + 12345
