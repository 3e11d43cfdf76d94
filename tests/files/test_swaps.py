"""A directory that somebody swaps for a link while it is pushed: no file from outside leaks."""

from __future__ import annotations

import gzip
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from regpush.closure import Closure
from regpush.concurrency import Cancellation
from regpush.entry import Profile
from regpush.errors import SourceError
from regpush.events import ignore
from regpush.files.filesystem import blocks
from regpush.files.listing import scan, walk
from regpush.options import SourceOptions
from regpush.pack.tar import ArchiveOptions
from regpush.sources import directory
from regpush.sources.identity import identify
from regpush.sources.nar import nar_hash
from regpush.sources.stats import Stats
from regpush.sources.targets import resolve
from regpush.sources.tools import Workshop
from tests.flip import exchange, flipping
from tests.packing import pack
from tests.program import Outcome, push
from tests.registry.api import Api
from tests.registry.servers import Registry

STOLEN = b"from outside the tree"
SITE = "env/lib/python3.12/site-packages"
FOLDERS = ("zz", "a/b/zz", "node_modules/left-pad", f"{SITE}/six-1.dist-info")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")


def listed(root: Path, **options: object) -> Closure:
    """The closure of `root`, whose files are not yet read."""
    source = SourceOptions(**options)  # type: ignore[arg-type]  # tests name options by keyword
    return resolve([str(root)], source, (), workshop=Workshop(ignore, Cancellation()))


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A tree with folders that have the names, and files of the sizes, of those outside it."""
    root = tmp_path / "app"
    for number in range(30):
        (root / f"mm{number:02d}").mkdir(parents=True)
        (root / f"mm{number:02d}/file").write_bytes(b"inside")
    (root / SITE).mkdir(parents=True)
    (root / "env/pyvenv.cfg").write_text("home = /usr\n")
    for folder in FOLDERS:
        for place, content in ((root, b"inside but as long..."), (tmp_path / "outside", STOLEN)):
            (place / folder / "deep").mkdir(parents=True)
            for name in ("file", "RECORD", "deep/file"):
                (place / folder / name).write_bytes(content)
    (root / "single").write_bytes(b"inside but as long...")
    return root


def links(app: Path) -> list[tuple[Path, Path]]:
    """Pairs to swap: what is in the tree, and a link out of it."""
    pairs = []
    for number, name in enumerate((*FOLDERS, "single")):
        link = app.parent / f"link{number}"
        outside = app.parent / "outside" / (name if name != "single" else "zz/file")
        link.symlink_to(outside if number % 2 else os.path.relpath(outside, (app / name).parent))
        pairs.append((app / name, link))
    return pairs


def test_a_link_in_the_place_of_a_folder_is_not_listed(app: Path) -> None:
    pair = links(app)[0]

    def swap_late(folder: bytes, found: object) -> tuple[bytes, ...]:
        if folder == b"mm00":  # its sibling `zz` was seen to be a folder by now
            exchange(*pair)
        return ()

    with pytest.raises(SourceError, match=r"cannot read .*/app/zz: Not a directory"):
        scan(os.fsencode(app), leave_out=swap_late)


def test_a_link_in_the_place_of_a_folder_above_is_not_listed(app: Path) -> None:
    outside, link = app.parent / "outside", app.parent / "link"
    (outside / "a").rename(outside / "b")
    link.symlink_to("../outside" if outside.parent == app else outside)

    def swap_late(folder: bytes, found: object) -> tuple[bytes, ...]:
        if folder == b"a":
            exchange(app / "a", link)
        return ()

    entries = scan(os.fsencode(app), leave_out=swap_late).entries(b"", Profile.STORE)
    assert b"a/b/zz/deep/file" in {entry.path for entry in entries}  # of the folder that it was


@pytest.mark.parametrize("number", range(len(FOLDERS) + 1))
def test_a_link_that_comes_after_the_listing_is_not_read(app: Path, number: int) -> None:
    closure = listed(app)
    exchange(*links(app)[number])
    with pytest.raises(SourceError, match=r"cannot read|changed while"):
        identify(closure, Stats(None), Cancellation(), now_ns=0)
    with pytest.raises(SourceError, match=r"cannot read|changed while"):
        list(pack(closure.items, ArchiveOptions(profile=closure.profile)))


def test_dependencies_and_programs_are_not_read_through_links(app: Path) -> None:
    program = app / "zz/file"
    program.chmod(0o755)
    closure = listed(app)
    with open(app.parent / "outside/zz/file", "wb") as file:
        file.write(Path(sys.executable).resolve().read_bytes()[:64])
    (app.parent / "outside/zz/file").chmod(0o755)
    exchange(*links(app)[0])
    assert [dict(programs().read()) for programs in closure.programs] == [{}, {}]


def test_attributes_are_not_read_through_links(app: Path) -> None:
    try:
        os.setxattr(app.parent / "outside/zz/file", "user.stolen", STOLEN)
        os.setxattr(app / "zz/file", "user.ours", b"1")
        os.setxattr(app / "zz", "user.ours", b"2")
    except OSError:
        pytest.skip("no extended attributes here")
    listing = scan(os.fsencode(app), xattrs=True)
    found = {entry.path: entry.xattrs for entry in listing.entries(b"", Profile.TREE)}
    assert found[b"zz/file"] == ((b"user.ours", b"1"),)
    assert found[b"zz"] == ((b"user.ours", b"2"),)
    exchange(*links(app)[0])
    again = scan(os.fsencode(app), xattrs=True)
    found = {entry.path: entry.xattrs for entry in again.entries(b"", Profile.TREE)}
    assert found[b"zz"] == ()  # the link's own
    with pytest.raises(SourceError, match=r"cannot read .*/app/zz"):
        list(again._replace(folders=listing.folders).entries(b"", Profile.TREE))


def test_a_store_item_is_read_no_further_than_its_root(app: Path) -> None:
    entries = walk(os.fsencode(app), b"store/app", Profile.STORE)
    before = nar_hash(str(app))
    for pair in links(app):
        exchange(*pair)
    assert nar_hash(str(app)) != before  # of links, hashed as such
    for entry in entries:
        try:
            content = b"".join(map(bytes, blocks(entry)))
        except SourceError:
            continue
        assert STOLEN not in content


def test_listing_and_packing_leak_nothing_while_links_flip(app: Path) -> None:
    outcomes: Counter[str] = Counter()
    with flipping(links(app)):
        for _ in range(100):
            try:
                closure = identify(listed(app), Stats(None), Cancellation(), now_ns=0)
                data = b"".join(pack(closure.items, ArchiveOptions(profile=closure.profile)))
            except SourceError:
                outcomes["refused"] += 1
            else:
                outcomes["packed"] += 1
                assert STOLEN not in data
    assert outcomes.total() == 100


@pytest.mark.parametrize("kind", ["link", "file"])
def test_the_root_itself_becomes_something_else(
    app: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was resolved, and is swapped before it is opened."""
    other = app.parent / "other"
    other.symlink_to("outside") if kind == "link" else other.write_bytes(STOLEN)
    resolved = os.path.realpath(app)

    def realpath(path: str) -> str:
        if str(path) == str(app) and not app.is_symlink() and app.is_dir():
            exchange(app, other)
        return resolved

    monkeypatch.setattr(directory.os.path, "realpath", realpath)
    with pytest.raises(SourceError, match="app is not a directory any more"):
        directory.resolve(str(app), SourceOptions(), notify=ignore, cancel=Cancellation())


def layers(registry: Registry, repository: str, done: Outcome) -> bytes:
    """All layers of the image that `done` pushed, uncompressed, one after the other."""
    api = Api(registry.host, repository)
    digests = [layer["digest"] for layer in done.report["images"][0]["layers"]]
    answers = [api.send("GET", f"{api.base}/blobs/{digest}") for digest in digests]
    return b"".join(gzip.decompress(answer.body) for answer in answers)


def push_while(
    more: Callable[[], bool], app: Path, registry: Registry, repository: str
) -> Counter[int]:
    """Push again and again while links flip and `more`; how often each exit code came."""
    codes: Counter[int] = Counter()
    to = f"{registry.host}/{repository}"
    with flipping(links(app)):
        while more():
            how = (["--root-dir", "/"], ["--preserve"], [], [])[sum(codes.values()) % 4]
            done = push(app, to, "--reuse", "none", *how)
            codes[done.code] += 1
            if done.code == 0:
                found = layers(registry, repository, done)
                assert b"inside" in found
                assert STOLEN not in found
            else:
                done.failed(9)
    return codes


def test_pushes_leak_nothing_while_links_flip(app, docker_registry, repository):
    left = [True] * 4
    codes = push_while(lambda: bool(left) and left.pop(), app, docker_registry, repository)
    assert set(codes) <= {0, 9}


@pytest.mark.soak
def test_pushes_leak_nothing_in_ten_minutes(app, docker_registry, repository):
    seconds = float(os.environ.get("REGPUSH_TEST_FLIP_S", "600"))
    until = time.monotonic() + seconds
    codes = push_while(lambda: time.monotonic() < until, app, docker_registry, repository)
    print(f"pushes by exit code: {dict(codes)}")
    assert set(codes) <= {0, 9}
    assert codes[0]
    assert codes[9]
