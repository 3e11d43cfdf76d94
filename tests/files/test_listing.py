"""Listings against what os.walk and lstat say of the same trees."""

import io
import os
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regpush.closure import Item
from regpush.entry import Kind, Profile
from regpush.errors import SourceError
from regpush.files.filesystem import blocks
from regpush.files.listing import ROOT, by_folder, scan, size, walk
from regpush.pack.tar import ArchiveOptions
from tests.packing import pack
from tests.program import regpush

# Characters about the slash, whose place in the order is what is easily wrong.
NAMES = st.text("a-.0/é", min_size=1, max_size=12)
PATHS = NAMES.filter(lambda path: all(part not in ("", ".", "..") for part in path.split("/")))
TREES = st.dictionaries(PATHS, st.integers(0, 2000), max_size=25)


def make(root: Path, files: dict[str, int]) -> None:
    for path, length in files.items():
        file = root / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes(length))
        except OSError:
            continue  # a file is where a folder would be, or the other way round


def everything(root: Path) -> set[bytes]:
    """All paths below `root`, by os.walk."""
    at = os.fsencode(root)
    return {
        os.path.relpath(os.path.join(directory, name), at)
        for directory, folders, files in os.walk(at)
        for name in folders + files
    }


def within(path: bytes, above: bytes) -> bool:
    return not above or path == above or path.startswith(above + b"/")


@settings(deadline=None)
@given(files=TREES, data=st.data())
def test_a_selection_is_complete_and_in_order(files, data):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make(root, files)
        found = sorted(everything(root))
        listing = scan(os.fsencode(root))
        assert [e.path for e in listing.entries(b"", Profile.STORE)] == found
        stops = data.draw(st.sets(st.sampled_from(found))) if found else set()
        kept = [path for path in found if not any(within(path, stop) for stop in stops)]
        entries = list(listing.entries(b"x", Profile.STORE, stop_at=by_folder(stops)))
        assert [entry.path for entry in entries] == [b"x", *(b"x/" + path for path in kept)]
        selected = list(listing.select(ROOT, by_folder(stops)))
        assert sorted(
            os.path.join(one.folder, path) for one in selected for path in one.names if path
        ) == sorted(kept)
        lengths = [(root / os.fsdecode(path)).stat() for path in kept]
        expected = sum(one.st_size for one in lengths if stat.S_ISREG(one.st_mode))
        assert size(selected, Profile.STORE) == sum(e.size for e in entries) == expected


@settings(deadline=None)
@given(files=TREES, data=st.data())
def test_several_tops_give_one_order(files, data):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make(root, files)
        tops = sorted(path for path in everything(root) if b"/" not in path)
        if tops:
            tops = data.draw(st.lists(st.sampled_from(tops), unique=True, min_size=1))
        found = [path for path in everything(root) if any(within(path, top) for top in tops)]
        listed = scan(os.fsencode(root)).entries(b"", Profile.STORE, by_folder(tops))
        assert [entry.path for entry in listed] == sorted(found)


def test_a_listing_gives_the_same_whatever_happens_on_disk(tmp_path):
    (tmp_path / "link").symlink_to("first")
    make(tmp_path, {"a/b": 3})
    listing = scan(os.fsencode(tmp_path))
    before = list(listing.entries(b"x", Profile.TREE))
    (tmp_path / "link").unlink()
    (tmp_path / "a/b").unlink()
    assert list(listing.entries(b"x", Profile.TREE)) == before
    assert [entry.link for entry in before] == [b"", b"", b"", b"first"]


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.SYMLINK])
def test_what_is_no_directory_is_listed_alone(tmp_path, kind):
    path = tmp_path / "x"
    path.write_bytes(b"12") if kind is Kind.FILE else path.symlink_to("to")
    (entry,) = walk(os.fsencode(path), b"store/x", Profile.STORE)
    assert (entry.path, entry.kind) == (b"store/x", kind)
    assert (entry.size, entry.link) == ((2, b"") if kind is Kind.FILE else (0, b"to"))


def test_times_before_the_epoch_and_large_files(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(5 << 40)
    os.utime(tmp_path / "sparse", ns=(-1_500_000_001, -1_500_000_001))
    _, entry = walk(os.fsencode(tmp_path), b"x", Profile.STORE)
    assert entry.size == 5 << 40
    assert entry.content.mtime_ns == -1_500_000_001
    assert entry.content.ctime_ns == (tmp_path / "sparse").stat().st_ctime_ns


def test_names_that_layers_reserve_are_refused_wherever_they_are(tmp_path):
    make(tmp_path, {"a/b/.wh.c": 1})
    with pytest.raises(SourceError, match=r"a/b/\.wh\.c: names beginning"):
        scan(os.fsencode(tmp_path))
    scan(os.fsencode(tmp_path), leave_out=lambda folder, found: set(found) - {b"a"})


@pytest.fixture
def deep(tmp_path) -> Path:
    """A tree with a file at 40 folders of 200 characters: no path reaches that from the root."""
    root = tmp_path / "deep"
    root.mkdir()
    above = os.open(root, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=above)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    with open(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=above), "w") as file:
        file.write("far down")
    os.symlink("file", "link", dir_fd=above)
    os.close(above)
    return root


@pytest.mark.parametrize("profile", Profile)
def test_paths_longer_than_the_kernel_takes_are_packed(deep, profile):
    with pytest.raises(OSError, match="too long"):
        os.stat(os.path.join(deep, *["d" * 200] * 40, "file"))
    listing = scan(os.fsencode(deep), xattrs=profile is Profile.TREE)
    item = Item(
        path="/app", name="app", origin="app", identity=None, size=8,
        entries=lambda: listing.entries(b"app", profile),
    )  # fmt: skip
    archive = b"".join(pack([item], ArchiveOptions(profile=profile)))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
        assert len(names) == 43
        content = tar.extractfile("/".join(["app", *["d" * 200] * 40, "file"]))
        assert content is not None
        assert content.read() == b"far down"
        assert tar.getmember(names[-1]).linkname == "file"


def test_an_error_far_down_fits_on_a_screen(deep):
    above = os.open(deep, os.O_RDONLY)
    for _ in range(40):
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.mkdir(".wh.odd", dir_fd=above)
    os.close(above)
    done = regpush(deep, "--to", "127.0.0.1:1/x").failed(9, str(deep), ".wh.odd", "rename it")
    assert all(len(line) <= 80 * 24 for line in done.stderr.splitlines())


def test_few_folders_stay_open(tmp_path):
    for number in range(200):
        (tmp_path / f"{number:03d}" / "x").mkdir(parents=True)
        (tmp_path / f"{number:03d}" / "x" / "file").write_text("")
    before = len(os.listdir("/dev/fd"))
    listing = scan(os.fsencode(tmp_path))
    for entry in listing.entries(b"", Profile.STORE):
        assert b"".join(map(bytes, blocks(entry))) == b""
    assert len(os.listdir("/dev/fd")) - before <= 10
    del listing, entry
    assert len(os.listdir("/dev/fd")) == before


class Unlooked(tuple):
    """Names that nobody may go through: of packages in a folder there may be thousands."""

    def __iter__(self):
        raise AssertionError("all names of a folder were looked at for one of them")


def test_a_part_of_a_folder_is_opened_without_looking_at_the_others(tmp_path):
    make(tmp_path, {"vendor/a/x": 1, "vendor/b/y": 1, "vendor/b/c/z": 1})
    listing = scan(os.fsencode(tmp_path))
    vendor = listing.folders[b"vendor"]
    crowded = vendor._replace(folders=Unlooked(vendor.folders))
    watched = listing._replace(folders={**listing.folders, b"vendor": crowded})
    tops = by_folder([b"vendor/b"])
    selected = [(names.folder, tuple(names.names)) for names in watched.select(tops)]
    assert selected == [(b"vendor", (b"b",)), (b"vendor/b", (b"c", b"y")), (b"vendor/b/c", (b"z",))]
    entries = watched.entries(b"", Profile.STORE, tops)
    paths = [b"vendor/b", b"vendor/b/c", b"vendor/b/c/z", b"vendor/b/y"]
    assert [entry.path for entry in entries] == paths
