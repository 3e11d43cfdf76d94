"""NAR hashes, store names and hash notations: against Nix's own tools."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regpush.digest import Digest
from regpush.entry import Kind, Profile
from regpush.files.filesystem import blocks
from regpush.files.listing import scan
from regpush.sources import hashes
from regpush.sources.case_hack import undone
from regpush.sources.nar import NarHash, nar_hash
from regpush.sources.store_path import is_path, item_name
from tests.registry.parts import real_part
from tests.sources.conftest import NixStore, run

HEX = hashlib.sha256(b"regpush").hexdigest()


def test_the_hash_of_an_archive_is_what_nix_says(tmp_path: Path) -> None:
    real_part("nix-hash")
    tree = tmp_path / "tree"
    for directory in ("a", "a-", "a/b/c", "a.b", "empty", "z/empty"):
        (tree / directory).mkdir(parents=True, exist_ok=True)
    for size in (0, 1, 7, 8, 9, 2**20, 2**20 + 3):
        (tree / f"a/file{size}").write_bytes(b"\x07" * size)
    (tree / "a/run").write_text("#!/bin/sh\n")
    (tree / "a/run").chmod(0o755)
    (tree / "a/dangling").symlink_to("/nowhere/at all")
    (tree / "ä\nname").write_text("ü")
    for path in (tree, tree / "a/run", tree / "a/file9", tree / "a/dangling", tree / "empty"):
        expected = run("nix-hash", "--type", "sha256", str(path)).strip()
        digest, _ = nar_hash(str(path))
        assert digest.hex == expected, path


def test_the_size_of_an_archive_is_what_nix_says(nix_store: NixStore) -> None:
    for path in nix_store.run(
        "nix-store", "--query", "--requisites", nix_store.built["app"]
    ).split():
        digest, size = nar_hash(path)
        assert str(size) == nix_store.run("nix-store", "--query", "--size", path).strip()
        in_base_32 = nix_store.run("nix-store", "--query", "--hash", path).strip()
        assert hashes.parse(in_base_32) == digest


def test_every_notation_of_a_hash_is_read() -> None:
    real_part("nix-hash")
    base_32 = run("nix-hash", "--type", "sha256", "--to-base32", HEX).strip()
    sri = run(
        "nix",
        "--extra-experimental-features",
        "nix-command",
        "hash",
        "to-sri",
        "--type",
        "sha256",
        HEX,
    ).strip()
    base_64 = sri.removeprefix("sha256-")
    notations: list[object] = [
        HEX,
        f"sha256:{HEX}",
        base_32,
        f"sha256:{base_32}",
        sri,
        f"sha256:{base_64}",
    ]
    for kind, text in (("base16", HEX), ("nix32", base_32), ("base64", base_64)):
        notations.append({"algorithm": "sha256", "format": kind, "hash": text})
    for notation in notations:
        assert hashes.parse(notation).hex == HEX, notation


@pytest.mark.parametrize(
    "bad",
    [
        None, 7, "", "sha256:", HEX[:-1], HEX[:-1] + "g", "md5:" + "0" * 32, "sha512:" + HEX * 2,
        "z" * 52, "e" * 52, "sha256-" + "!" * 44, {}, {"algorithm": "sha1", "hash": HEX},
        {"algorithm": "sha256", "hash": {"algorithm": "sha256", "hash": HEX}}, [HEX], " " * 64,
    ],
)  # fmt: skip
def test_what_is_no_sha256_is_refused(bad: object) -> None:
    with pytest.raises(ValueError):
        hashes.parse(bad)


NAMES = [
    "hello-2.12", "hello", "my-library-2.3-dev", "glibc-2.35-bin", "app-3", "python3.11-numpy-1.0",
    "a-b-c", "gcc-toolchain-v1", "foo-_1", "source", "x-", "nss-cacert-3.92-unbundled",
]  # fmt: skip


def test_names_are_split_as_nix_does() -> None:
    real_part("nix-instantiate")
    names = " ".join(json.dumps(name) for name in NAMES)
    expression = f"map (name: (builtins.parseDrvName name).name) [ {names} ]"
    done = subprocess.run(
        ["nix-instantiate", "--eval", "--json", "--strict", "-E", expression],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    expected = json.loads(done.stdout)
    assert [item_name(f"/nix/store/{'0' * 32}-{name}") for name in NAMES] == expected
    assert [item_name(f"/nix/store/{'0' * 32}-{name}.drv") for name in NAMES] == expected


@pytest.mark.parametrize(
    ("path", "valid"),
    [
        (f"/gnu/store/{'0' * 32}-x", True),
        (f"/any/where/{'0' * 32}-x.drv", True),
        (f"/gnu/store/{'0' * 32}-x/bin", False),
        (f"/gnu/../store/{'0' * 32}-x", False),
        (f"gnu/store/{'0' * 32}-x", False),
        (f"/gnu/store/{'e' * 32}-x", False),
        (f"/gnu/store/{'0' * 31}-x", False),
        (f"/gnu/store/{'0' * 32}-", False),
    ],
)
def test_store_paths_are_told_from_others(path: str, valid: bool) -> None:
    assert is_path(path) is valid


def in_order_of_an_archive(path: Path) -> list[Digest]:
    """The hash that `NarHash` finds of files that are given as a layer has them."""
    found: list[Digest] = []
    entries = list(scan(os.fsencode(path)).entries(b"nar", Profile.STORE))
    nar = NarHash(entries, b"nar", found.append)
    for entry in entries:
        content = b"".join(map(bytes, blocks(entry))) if entry.kind is Kind.FILE else b""
        nar.add(entry.path, content)
    return found


PATHS = st.text(alphabet="aA.-/ ~\u00fc", min_size=1, max_size=6).filter(lambda n: n.strip("./ "))


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(PATHS, st.binary(max_size=30), min_size=1, max_size=12))
def test_files_may_come_in_another_order(files: dict[str, bytes]) -> None:
    """`a-b` comes before `a/b` in a layer, and after it in a Nix archive."""
    real_part("nix-hash")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "root")
        for name, data in files.items():
            path = root / "/".join(part for part in name.split("/") if part.strip(". "))
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        root.mkdir(exist_ok=True)
        expected = run("nix-hash", "--type", "sha256", str(root)).strip()
        assert [digest.hex for digest in in_order_of_an_archive(root)] == [expected]


def test_names_of_a_file_system_without_case_are_undone(tmp_path: Path) -> None:
    """Nix itself writes the names here, as it does on macOS, and reads them again."""
    real_part("nix-store")
    tree = tmp_path / "tree"
    for name in ("Foo/x", "foo/X", "foo/x", "README", "readme", "ReadMe", "z"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    lone = "lone~nix~case~hack~1"  # without a sibling, this is a name like any other
    (tree / lone).write_text("lone")
    expected = run("nix-hash", "--type", "sha256", str(tree)).strip()
    archive = tmp_path / "nar"
    with archive.open("wb") as file:
        subprocess.run(["nix-store", "--dump", str(tree)], stdout=file, check=True)
    hacked = tmp_path / "hacked"
    with archive.open("rb") as file:
        command = ["nix-store", "--restore", str(hacked), "--option", "use-case-hack", "true"]
        subprocess.run(command, stdin=file, check=True)
    assert len(list(hacked.rglob("*~nix~case~hack~*"))) == 5
    assert nar_hash(str(hacked))[0].hex == expected
    names = [e.path for e in undone(scan(os.fsencode(hacked)).entries(b"t", Profile.STORE))]
    assert names == [e.path for e in scan(os.fsencode(tree)).entries(b"t", Profile.STORE)]
