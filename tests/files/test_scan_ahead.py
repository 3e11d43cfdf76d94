"""What a second process lists while the program starts, against what one scan finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from regpush.files.listing import Folder, scan
from tests.patience import HANG_S
from tests.program import environment, regpush

# In a process of its own: one with threads, as a test's may be, must not fork.
SEE = """
import os, sys, time
from regpush.files import scan_ahead
scan_ahead.begin(sys.argv[1])
assert scan_ahead.take(b"/elsewhere") is None
root = os.fsencode(os.path.realpath(sys.argv[1]))
ahead = scan_ahead.take(root)
assert scan_ahead.take(root) is None
for _ in range(int(sys.argv[2])):
    if ahead.get(b""):
        break
    time.sleep(0.01)
found = {path: ahead.get(path) for path in (b"", b"a", b"a/b", b"a-b", b"logs", b"vendor/lib")}
print(repr((found, ahead.git)))
ahead.stop()
"""
ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="nothing is listed ahead"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    for path in ("main.py", "a/b/c.txt", "a-b/d", "vendor/lib/x.so", ".git/HEAD", "logs/today"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root / os.fsdecode(b"caf\xe9")).write_text("not UTF-8")
    (root / "link").symlink_to("a/b")
    (root / ".regpushignore").write_text("logs/\n")
    return root


def see(tree: Path, patience: int) -> tuple[dict, bytes]:
    """What was found as soon as anything was, or within `patience` hundredths of a second.

    A tree this small is reported as a whole.
    """
    done = subprocess.run(
        [sys.executable, "-c", SEE, str(tree), str(patience)],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: tuple[dict, bytes] = eval(done.stdout, {"Folder": Folder})
    return found


@ON_LINUX
def test_it_sees_what_a_scan_does(tree):
    def leave_out(folder, found):
        return {name for name in found if name in (b".git", b".regpushignore", b"logs")}

    os.mkfifo(tree / "a-b/fifo")
    found, git = see(tree, 100 * int(HANG_S))
    folders = scan(os.fsencode(tree), leave_out=leave_out).folders
    assert folders[b"a-b"].special == (b"fifo",)
    assert found == {path: folders.get(path) for path in found}
    assert found[b"logs"] is None
    assert git == b".git"


@ON_LINUX
def test_it_sees_nothing_where_listing_fails(tree):
    (tree / "a" / ".wh.reserved").write_text("")
    found, git = see(tree, 30)
    assert set(found.values()) == {None}
    assert git == b""


def test_what_was_seen_is_not_listed_again(tree):
    root = os.fsencode(tree)
    before = scan(root).folders
    (tree / "a" / "b" / "new").write_text("")
    (tree / "a-b" / "new").write_text("")
    known = {path: folder for path, folder in before.items() if path != b"a-b"}
    found = scan(root, known=known).folders
    assert found == {**scan(root).folders, b"a/b": before[b"a/b"]}
    assert b"new" in found[b"a-b"].names


def test_a_folder_of_another_mode_is_listed_again(tree):
    root = os.fsencode(tree)
    known = dict(scan(root).folders)
    (tree / "a").chmod(0o700)
    (tree / "a" / "new").write_text("")
    del known[b""]
    assert scan(root, known=known).folders[b"a"].names == (b"b", b"new")


def test_the_image_is_the_same_with_and_without(tree, registry, repository):
    to = f"{registry.host}/{repository}"
    first = regpush(tree, "--to", to).ok()
    (tree / "a" / "b" / "new").write_text("")
    second = regpush(tree, "--to", to).ok()
    third = regpush("--to", f"{to}/alone", tree).ok()
    digests = [done.stdout.strip().partition("@")[2] for done in (first, second, third)]
    assert digests[0] != digests[1] == digests[2]
    assert ".git is left out" in second.stderr
    assert ".git is left out" in third.stderr


@pytest.mark.parametrize("wrong", [("--to", "not a reference"), ("--no-such-flag",), ()])
def test_a_push_that_fails_leaves_no_process(tree, wrong, tmp_path):
    name, value = "REGPUSH_TEST_MARKER", str(tmp_path)
    marker = f"{name}={value}"
    assert regpush(tree, *wrong, env={name: value}).code == 2
    left = []
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker.encode() in process.read_bytes().split(b"\0"):
                left.append(process)
        except OSError:
            continue  # it has gone, or is somebody else's
    assert left == []
