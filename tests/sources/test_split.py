"""Pieces: every path in one of them, and a change moves only what is beside it."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regpush.closure import Closure, Role
from regpush.entry import Kind, Profile
from regpush.files.listing import ROOT, Listing, join, merged, scan
from regpush.sources.split import Grain, PackagePiece, large_files, split
from tests.sources.conftest import Write, take

# Small enough that a few files show everything: a file's header is 512 bytes.
GRAIN = Grain(whole=16 << 10, piece=4 << 10, most=12 << 10)
MIB = 1 << 20

NAMES = st.sampled_from(["a", "b", "a-b", "a.c", "é", "x0", "x1", "x2", "x3"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
SIZES = st.sampled_from([0, 1, 300, 512, 2000, 3000, 3584, 3585, 9000, 40_000])
TREES = st.dictionaries(PATHS, SIZES, max_size=40)


def make(root: Path, files: dict[str, int]) -> None:
    for path, length in files.items():
        file = root / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as out:
                out.truncate(length)
        except OSError:
            continue  # a file is where a folder would be, or the other way round


def pieces(root: Path, grain: Grain = GRAIN) -> tuple[Listing, list[PackagePiece]]:
    listing = scan(os.fsencode(root))
    return listing, split(listing, ROOT, {}, grain)


def paths(piece: PackagePiece) -> list[bytes]:
    return [join(folder, name) for folder, names in piece.tops.items() for name in names]


def held(listing: Listing, found: list[PackagePiece]) -> dict[str, dict[bytes, int]]:
    """Sizes in an archive by path, of each piece by its name and of the rest as ``."""
    stop_at = merged(piece.tops for piece in found)
    home = PackagePiece(path=b"", name="", tops=ROOT)
    return {
        piece.name: {
            entry.path: 512 + (entry.size + 511) // 512 * 512
            for entry in listing.entries(b"", Profile.STORE, piece.tops, stop_at)
        }
        for piece in [home, *found]
    }


@settings(deadline=None, max_examples=200)
@given(files=TREES)
def test_every_path_is_in_one_piece_and_none_is_too_large(files: dict[str, int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), files)
        listing, found = pieces(Path(name))
        sizes = held(listing, found)
        assert len(sizes) == len(found) + 1, "names are unique"
        assert sorted(path for piece in sizes.values() for path in piece) == [
            entry.path for entry in listing.entries(b"", Profile.STORE)
        ]
        archive = sum(sum(piece.values()) for piece in sizes.values())
        for piece in [piece for key, piece in sizes.items() if key]:
            one_file = len(piece) == 1
            assert one_file or sum(piece.values()) <= GRAIN.most + 512 * len(piece)
        assert all(piece.path in paths(piece) for piece in found)
        if archive < GRAIN.whole:
            assert not found


@settings(deadline=None, max_examples=200)
@given(files=TREES, where=PATHS, size=SIZES)
def test_a_new_file_moves_only_what_is_beside_it(
    files: dict[str, int], where: str, size: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), files | {"large0": 9000, "large1": 9000})
        before = {frozenset(piece) for piece in held(*pieces(Path(name))).values()}
        make(Path(name), {where + "/new": size})
        after = held(*pieces(Path(name)))
        changed = [piece for piece in after.values() if piece and frozenset(piece) not in before]
        # Its own piece, what splits off or joins, and perhaps so in each folder above.
        assert len(changed) <= 2 + 2 * (where.count("/") + 1)
        beside = {os.fsencode("/".join(where.split("/")[:depth])) for depth in range(5)}
        for piece in changed:
            assert any(path in beside or path.rpartition(b"/")[0] in beside for path in piece), (
                "not near the new file"
            )


def test_by_hand(tmp_path: Path) -> None:
    """whole 16, piece 4, most 12 KiB: `lib` remains with 6.5, `big` is a file of 5 KiB."""
    make(tmp_path, {"big": 5 << 10, "lib/x": 3000, "lib/y": 2500, "doc/z": 2000, "main": 100})
    make(tmp_path, {"lib/deep/huge": 20 << 10, "lib/deep/w": 10})
    found = pieces(tmp_path)[1]
    assert [(piece.name, paths(piece)) for piece in found] == [
        ("big", [b"big"]),
        ("lib", [b"lib"]),
        ("lib/deep/huge", [b"lib/deep/huge"]),
    ]
    sizes = held(*pieces(tmp_path))
    assert set(sizes[""]) == {b"doc", b"doc/z", b"main"}
    assert set(sizes["lib"]) == {b"lib", b"lib/deep", b"lib/deep/w", b"lib/x", b"lib/y"}


def test_many_loose_files_are_divided_by_the_hashes_of_their_names(tmp_path: Path) -> None:
    """printf name | sha256sum: the lowest bit of the first byte, then the next lowest."""
    names = [f"f{number:02}" for number in range(40)]
    make(tmp_path, {f"loose/{name}": 500 for name in names})
    found = pieces(tmp_path)[1]
    assert {piece.name for piece in found} == {
        f"loose ({bits})" for bits in ("00", "10", "01", "11")
    }
    # sha256 of f00 begins 87, of f01 9b, of f02 6a, of f03 0f.
    where = {top.decode(): piece.name for piece in found for top in paths(piece)}
    assert [where[f"loose/{name}"] for name in names[:4]] == [
        "loose (11)", "loose (11)", "loose (01)", "loose (11)"
    ]  # fmt: skip
    make(tmp_path, {"loose/another": 500})
    moved = {top.decode(): piece.name for piece in pieces(tmp_path)[1] for top in paths(piece)}
    assert {path: moved[path] for path in where} == where


def of(closure: Closure, role: Role) -> dict[str, int]:
    return {item.path: item.size for item in closure.items if item.role is role}


def test_a_few_kilobytes_of_code_stay_whole(write: Write) -> None:
    closure = take(write({f"d{number}/f": bytes(20_000) for number in range(6)})).closure
    assert [item.path for item in closure.items] == ["/app"]


def test_large_files_leave_the_source_beside_them(write: Write) -> None:
    """64 KiB make a file large; 256 KiB of those a piece of a small app."""
    files = {f"src/{name}.py": bytes(9_000) for name in "abc"}
    files |= {f"src/{name}.png": bytes(100_000) for name in "abc"}
    files |= {"logo.png": bytes(65_536), "below.png": bytes(65_535), "film": bytes(MIB)}
    closure = take(write(files)).closure
    assert of(closure, Role.OWN) == {"/app": 27_000 + 65_535}
    assert of(closure, Role.ASSET) == {
        "/app/film": MIB, "/app/logo.png": 65_536, "/app/src/a.png": 300_000
    }  # fmt: skip
    assert closure["/app/src/a.png"].name == "src (large files)"
    assert [parent.path for parent in closure["/app/src/a.png"].parents] == [b"app", b"app/src"]
    assert closure["/app/src/a.png"].look


def test_source_of_a_small_app_is_cut_finer_than_that_of_a_large_one(write: Write) -> None:
    """Fine: 64 KiB are a piece. From 16 MiB on 512 KiB are."""
    root = write({f"d{folder}/{n}.py": bytes(9_500) for folder in range(5) for n in range(10)})
    small = of(take(root).closure, Role.OWN)
    assert small == {"/app": 0, **{f"/app/d{folder}": 95_000 for folder in range(5)}}
    write({f"e{folder}/{n}": bytes(60_000) for folder in range(3) for n in range(100)})
    large = of(take(root).closure, Role.OWN)
    assert large["/app"] == 5 * 95_000
    assert {path[:7] for path in large} == {"/app", "/app/e0", "/app/e1", "/app/e2"}


@settings(deadline=None, max_examples=100)
@given(files=TREES)
def test_every_large_file_is_in_one_piece(files: dict[str, int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), files)
        listing = scan(os.fsencode(name))
        found = large_files(listing, {}, GRAIN, least=3000)
        placed = sorted(path for piece in found for path in paths(piece))
        assert placed == sorted(
            entry.path
            for entry in listing.entries(b"", Profile.STORE)
            if entry.kind is Kind.FILE and entry.size >= 3000
        )
        assert len({piece.name for piece in found}) == len(found)
        for piece in found:
            sizes = [512 + (os.path.getsize(os.fsencode(name) + b"/" + p) + 511) // 512 * 512
                     for p in paths(piece)]  # fmt: skip
            assert len(sizes) == 1 or sum(sizes) <= GRAIN.most
        assert found == large_files(listing, {}, GRAIN, least=3000)


def test_a_large_package_is_divided_and_its_pieces_are_named_by_place(write: Write) -> None:
    folder = "node_modules/huge"
    files = {f"{folder}/{part}/{n}.js": bytes(MIB) for part in "abc" for n in range(5)}
    closure = take(write(files | {f"{folder}/package.json": "{}"})).closure
    found = [item for item in closure.items if item.path.startswith("/app/node_modules/huge")]
    assert [item.path for item in found] == [
        "/app/node_modules/huge", *(f"/app/node_modules/huge/{part}" for part in "abc")
    ]  # fmt: skip
    names = ["huge", *(f"node_modules/huge/{part}" for part in "abc")]
    assert [(item.name, item.origin, item.role) for item in found] == [
        (name, name, Role.ORDINARY) for name in names
    ]
    assert [entry.path for entry in found[0].entries()] == [
        b"app/node_modules/huge", b"app/node_modules/huge/package.json"
    ]  # fmt: skip


def test_pieces_of_a_package_that_lie_in_each_other_share_no_path(write: Write) -> None:
    """`lib` is a piece for what its folder `data` leaves, and `data` is several by itself."""
    files = {f"vendor/huge/lib/data/{n}.bin": bytes(MIB) for n in range(20)}
    files |= {f"vendor/huge/lib/{n}.bin": bytes(900 << 10) for n in range(9)}
    root = write(files)
    items = take(root).closure.items
    found = [entry.path for item in items for entry in item.entries()]
    assert len(items) > 3
    on_disk = [os.fsencode("app/" + str(p.relative_to(root))) for p in root.rglob("*")]
    assert sorted(found) == sorted([b"app", *on_disk])


def test_names_of_one_file_stay_with_the_root_where_links_are_kept(write: Write) -> None:
    root = write({f"{part}/{n}": bytes(MIB) for part in "abc" for n in range(4)})
    (root / "c/linked").hardlink_to(root / "a/1")
    (root / "outside").write_bytes(b"x")
    (root.parent / "elsewhere").hardlink_to(root / "outside")
    closure = take(root, preserve=True).closure
    own = {entry.path: entry for entry in closure["/app"].entries()}
    assert own[b"app/a/1"].kind is Kind.FILE
    assert (own[b"app/c/linked"].kind, own[b"app/c/linked"].link) == (Kind.HARDLINK, b"app/a/1")
    assert [parent.path for parent in closure["/app"].parents] == [b"app", b"app/a", b"app/c"]
    assert closure["/app"].size == MIB + 1
    rest = {entry.kind for item in closure.items[1:] for entry in item.entries()}
    assert rest == {Kind.FILE}
    plain = take(root).closure
    assert "/app/a/1" in plain
    assert "/app/c/linked" in plain


@pytest.mark.parametrize("options", [{}, {"preserve": True}, {"root_dir": "/"}])
def test_parts_hold_the_tree_and_their_parents_agree(
    write: Write, options: dict[str, object]
) -> None:
    choose = random.Random(3)
    files = {
        "/".join(choose.choices("abcd", k=choose.randint(1, 4))) + f"/f{number}": bytes(
            choose.choice([10, 1000, 200_000, 700_000])
        )
        for number in range(60)
    }
    root = write(files)
    (root / "a").chmod(0o2750)
    closure = take(root, **options).closure
    assert len(closure.items) > 5
    at = "" if options.get("root_dir") == "/" else "app/"
    entries = [entry for item in closure.items for entry in item.entries()]
    by_path = {entry.path: entry for entry in entries}
    assert len(by_path) == len(entries)
    on_disk = {os.fsencode(at + str(p.relative_to(root))) for p in root.rglob("*")}
    assert set(by_path) - {b"app"} == on_disk
    for item in closure.items:
        for parent in item.parents:
            assert by_path[parent.path] == parent
        above = {entry.path.rpartition(b"/")[0] for entry in item.entries()}
        known = {e.path for e in item.parents} | {e.path for e in item.entries()}
        assert above - {b""} <= known
