"""What a second process lists and hashes, against what one scan finds and blake3 computes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from regpush.files.listing import Folder, scan
from tests.patience import HANG_S, wait_until
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
HASH = """
import os, sys, time
from regpush.entry import OnDisk
from regpush.files import scan_ahead
from regpush.files.listing import Row, scan_root
scan_ahead._MANY_NAMES = 0
scan_ahead.begin(sys.argv[1])
ahead = scan_ahead.take(os.fsencode(os.path.realpath(sys.argv[1])))
while not (ahead.get(b"vendor/lib") and ahead.get(b"a/b")):
    time.sleep(0.01)
folders = scan_root(ahead.root, leave_out=lambda folder, found: (), known=ahead).folders
ahead.listed(folders)
{before}
assert ahead.hash()
while not any(ahead.digest(OnDisk(ahead.root, path, 0, 0, 0)) for path in {last}):
    ahead.catch_up()
    time.sleep(0.01)
at = [path + b"/" + name if path else name for path, one in folders.items() for name in one.names]
digests = [ahead.digest(OnDisk(ahead.root, path, 0, 0, 0)) for path in at]
print(repr(dict(zip(at, digests, strict=True))))
scan_ahead.end()
scan_ahead.end()
ahead.catch_up()
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


def digests(tree: Path, before: str = "") -> dict[bytes, bytes]:
    """The digests of the second process, by path, where `before` is run before it hashes.

    It reports a tree this small at once, because it has fewer than 64 files.
    """
    script = HASH.format(before=before, last=[b"a-b/d", b"main.py"])
    done = subprocess.run(
        [sys.executable, "-c", script, str(tree)],
        env=environment(), capture_output=True, text=True, check=True, timeout=HANG_S,
    )  # fmt: skip
    found: dict[bytes, bytes] = eval(done.stdout)
    return found


def contents(tree: Path) -> dict[bytes, bytes]:
    """The blake3 of each file in `tree`, by path; empty for folders and links."""
    return {
        os.fsencode(path.relative_to(tree)): blake3(path.read_bytes()).digest()
        if path.is_file() and not path.is_symlink()
        else b""
        for path in tree.rglob("*")
    }


@ON_LINUX
def test_it_hashes_what_it_has_listed(tree):
    (tree / "large").write_bytes(os.urandom(3 << 20))
    (tree / "empty").write_bytes(b"")
    expected = contents(tree)
    found = digests(tree)
    left_out = (b".git", b".git/HEAD", b"logs", b"logs/today", b".regpushignore")
    assert {path: found.get(path) for path in expected if path not in left_out} == {
        path: digest for path, digest in expected.items() if path not in left_out
    }


@ON_LINUX
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("key", b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 64),
        ("large-key", b"A" * (1 << 19) + b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 64),
        ("prod.env", b"TOKEN=x"),
        (".npmrc", b"//registry/:_authToken=x"),
    ],
)
def test_it_leaves_what_may_be_a_secret_to_the_search(tree, name, content):
    (tree / "a" / name).write_bytes(content)
    found = digests(tree)
    assert found[b"a/" + name.encode()] == b""
    assert found[b"main.py"]


@ON_LINUX
def test_it_leaves_a_file_that_changed_since_to_the_first_process(tree):
    found = digests(tree, before="open(sys.argv[1] + '/main.py', 'w').write('changed')")
    assert found[b"main.py"] == b""
    assert found[b"a-b/d"]


@ON_LINUX
def test_digests_of_a_folder_that_was_listed_again_are_not_used(tree):
    again = "{**folders, b'a-b': folders[b'a-b']._replace(special=())}"
    found = digests(tree, before=f"ahead.listed({again})")
    assert found[b"a-b/d"] == b""
    assert found[b"main.py"]


@ON_LINUX
def test_a_small_directory_is_not_hashed(tree):
    script = HASH.replace("assert ahead.hash()", "sys.exit(ahead.hash())")
    script = script.replace("scan_ahead._MANY_NAMES = 0", "").format(before="", last=[])
    done = subprocess.run([sys.executable, "-c", script, str(tree)], env=environment())
    assert done.returncode == 0


@ON_LINUX
@pytest.mark.parametrize("order", ["", "assert ahead.hash()"])
def test_it_ends_with_a_first_process_that_is_killed(tree, tmp_path, order):
    kill = f"{order}\nos.kill(os.getpid(), 9)"
    name, value = "REGPUSH_TEST_MARKER", str(tmp_path)
    script = HASH.format(before=kill, last=[])
    command = [sys.executable, "-c", script, str(tree)]
    done = subprocess.run(command, env=environment() | {name: value}, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: not marked(f"{name}={value}"), "the end of the second process")


@ON_LINUX
def test_an_image_of_many_files_is_the_same_with_and_without(tree, registry, repository):
    for number in range(1200):
        path = tree / ("node_modules/one", "src")[number % 2] / f"{number % 40}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}")
    to = f"{registry.host}/{repository}"
    first = regpush(tree, "--to", to, "--format", "json").ok().report["images"][0]
    for words in [(tree, "--to", to), ("--to", to, tree)]:
        done = regpush(*words, "--format", "json").ok()
        assert done.report["images"][0]["digest"] == first["digest"]
        assert set(done.actions) == {"reused"}
    key = "-----BEGIN PRIVATE KEY-----\n" + "A" * 64
    (tree / "src" / "39" / "39").write_text(key)
    (tree / "node_modules/one/38/38").write_text(key)  # a package's own test, perhaps
    failed = regpush(tree, "--to", to).failed(2, "src/39/39", "private key")
    assert "38/38" not in failed.stderr


def marked(variable: str) -> list[Path]:
    """The processes that have `variable`, NAME=VALUE, in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in process.read_bytes().split(b"\0"):
                found.append(process)
        except OSError:
            continue  # it has gone, or is somebody else's
    return found


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
    assert marked(marker) == []
